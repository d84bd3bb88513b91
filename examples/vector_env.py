"""Plays Breakout at random in eight lanes through the gymnasium interface."""

from __future__ import annotations

from atari_fast.envs.vector import AtariFastVectorEnv


def main(steps: int = 200) -> float:
    """Plays and returns the sum of all raw rewards."""
    envs = AtariFastVectorEnv("breakout", 8)
    observations, _ = envs.reset(seed=1)
    envs.action_space.seed(1)
    total = 0.0
    for _ in range(steps):
        observations, rewards, _, _, _ = envs.step(envs.action_space.sample())
        total += float(rewards.sum())
    envs.close()
    print(f"observations {observations.dtype}{observations.shape}, total raw reward {total:g}")
    return total


if __name__ == "__main__":
    main()
