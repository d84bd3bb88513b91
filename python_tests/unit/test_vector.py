from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from atari_fast.config import EnvConfig
from atari_fast.envs.pool import LanePool
from atari_fast.envs.vector import AtariFastVectorEnv
from atari_fast.errors import ConfigError, EnvError
from atari_fast.seeding import child, stream
from atari_fast.types import Flag


def test_spaces() -> None:
    env = AtariFastVectorEnv("ALE/Pong-v5", num_envs=3)
    assert isinstance(env, VectorEnv)
    assert env.num_envs == 3
    assert env.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert env.single_observation_space.shape == (4, 84, 84)
    assert env.observation_space.shape == (3, 4, 84, 84)
    assert env.observation_space.dtype == np.uint8
    assert env.single_action_space.n == 6
    assert env.action_space.contains(env.action_space.sample())
    env.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_the_interface_of_gymnasium(workers: int) -> None:
    env = AtariFastVectorEnv("breakout", num_envs=2, config=EnvConfig(workers=workers), stack=2)
    env.action_space.seed(1)
    observations, infos = env.reset(seed=3)
    assert env.observation_space.contains(observations)
    assert isinstance(infos, dict)
    for _ in range(5):
        observations, rewards, terminations, truncations, infos = env.step(
            env.action_space.sample()
        )
        assert env.observation_space.contains(observations)
        assert rewards.shape == terminations.shape == truncations.shape == (2,)
        assert rewards.dtype == np.float64
        assert terminations.dtype == truncations.dtype == np.bool_
        assert isinstance(infos, dict)
    env.close()
    env.close()
    assert env.closed


def _transcript(env: AtariFastVectorEnv, seed: int | None, steps: int = 12) -> list[bytes]:
    observations, _ = env.reset(seed=seed)
    log = [observations.tobytes()]
    rng = np.random.default_rng(0)
    for _ in range(steps):
        result = env.step(rng.integers(env.single_action_space.n, size=env.num_envs))
        log += [np.asarray(array).tobytes() for array in result[:4]]
    return log


def test_seeding() -> None:
    env = AtariFastVectorEnv("ms_pacman", num_envs=2)
    first = _transcript(env, 5)
    assert _transcript(env, None) != first
    assert _transcript(env, 5) == first
    assert _transcript(env, 6) != first
    other = AtariFastVectorEnv("ms_pacman", num_envs=2)
    assert _transcript(other, 5) == first
    assert _transcript(AtariFastVectorEnv("catch"), None) != _transcript(
        AtariFastVectorEnv("catch"), None
    )


@pytest.mark.parametrize("stack", [1, 3])
def test_stacks_hold_one_episode_and_the_last_frame_is_the_true_one(stack: int) -> None:
    config = EnvConfig(lanes=4, max_episode_frames=28)
    env = AtariFastVectorEnv("ms_pacman", num_envs=4, config=config, stack=stack)
    pool = LanePool("ms_pacman", config, child(stream(2, "env"), 0))
    rng = np.random.default_rng(0)
    observations, _ = env.reset(seed=2)
    batch = pool.step(np.zeros(4, np.int64))
    episodes: list[list[Any]] = [[batch.frames[lane].copy()] for lane in range(4)]
    ends = 0
    for step in range(60):
        for lane, frames in enumerate(episodes):
            expected = [np.zeros((84, 84), np.uint8)] * stack + frames
            np.testing.assert_array_equal(observations[lane], expected[-stack:])
        actions = rng.integers(9, size=4)
        observations, rewards, terminations, truncations, _ = env.step(actions)
        batch = pool.step(actions)
        np.testing.assert_array_equal(rewards, batch.rewards)
        np.testing.assert_array_equal(truncations, batch.flags == Flag.TRUNCATED)
        assert not terminations.any()
        assert truncations.all() == ((step + 1) % 8 == 7)
        ends += int(truncations.sum())
        for lane in range(4):
            if batch.flags[lane] & Flag.FIRST:
                episodes[lane] = []
            episodes[lane].append(batch.frames[lane].copy())
    assert ends == 4 * 7


def test_observations_belong_to_the_caller() -> None:
    env = AtariFastVectorEnv("catch", num_envs=2, stack=2)
    first, _ = env.reset(seed=1)
    before = first.copy()
    second = env.step(np.ones(2, np.int64))[0]
    np.testing.assert_array_equal(first, before)
    second_before = second.copy()
    second[...] = 9
    third = env.step(np.ones(2, np.int64))[0]
    np.testing.assert_array_equal(third[:, 0], second_before[:, 1])


def test_episode_statistics_of_gymnasium() -> None:
    env = RecordEpisodeStatistics(AtariFastVectorEnv("catch", num_envs=8))
    env.reset(seed=1)
    rng = np.random.default_rng(0)
    score = np.zeros(8)
    returns, expected, lengths = [], [], []
    for _ in range(60):
        _, rewards, terminations, _, infos = env.step(rng.integers(3, size=8))
        score += rewards
        for index in np.flatnonzero(terminations):
            returns.append(infos["episode"]["r"][index])
            lengths.append(infos["episode"]["l"][index])
            expected.append(score[index])
            score[index] = 0
    assert len(returns) == 8 * 6
    assert set(returns) == {-1.0, 1.0}
    assert returns == expected
    assert set(lengths) == {9}
    env.close()


def test_life_losses_are_told() -> None:
    config = EnvConfig(life_loss="zero_discount")
    env = AtariFastVectorEnv("breakout", num_envs=1, config=config)
    env.reset(seed=1)
    lost = 0
    fire = env.action_names.index("FIRE")
    for _ in range(400):
        _, _, terminations, _, infos = env.step(np.array([fire]))
        lost += int(infos["life_lost"][0])
        if terminations[0]:
            break
    assert lost == 4
    env.close()


def test_misuse() -> None:
    with pytest.raises(EnvError, match="breakout"):
        AtariFastVectorEnv("breakot")
    with pytest.raises(ConfigError, match="stack: got 8 and 0"):
        AtariFastVectorEnv("catch", stack=0)
    env = AtariFastVectorEnv("catch", num_envs=2)
    with pytest.raises(EnvError, match="call reset"):
        env.step(np.zeros(2, np.int64))
    env.reset(seed=1)
    with pytest.raises(EnvError, match="got 3 in lane 1"):
        env.step(np.array([0, 3]))
    with pytest.raises(EnvError, match=r"got int64\[3\]"):
        env.step(np.zeros(3, np.int64))
    env.close()
    with pytest.raises(EnvError, match="call reset"):
        env.step(np.zeros(2, np.int64))
    with pytest.raises(ConfigError, match="got -1 and 4"):
        AtariFastVectorEnv("catch", num_envs=-1)
