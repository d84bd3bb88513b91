"""Plays Breakout at random in eight environments, with gymnasium's interface and wrappers."""

from __future__ import annotations

from gymnasium.wrappers.vector import RecordEpisodeStatistics

from atari_fast.envs.gymnasium_env import AtariFastVectorEnv


def main(steps: int = 200) -> float:
    """Plays and returns the sum of all raw rewards."""
    envs = RecordEpisodeStatistics(AtariFastVectorEnv("breakout", 8, render_mode="rgb_array"))
    observations, _ = envs.reset(seed=1)
    envs.action_space.seed(1)
    total = 0.0
    for _ in range(steps):
        observations, rewards, _, _, _ = envs.step(envs.action_space.sample())
        total += float(rewards.sum())
    screens = envs.render()
    envs.close()
    print(f"{envs.episode_count} games, {len(screens)} screens {screens[0].shape}")
    print(f"observations {observations.dtype}{observations.shape}, total raw reward {total:g}")
    return total


if __name__ == "__main__":
    main()
