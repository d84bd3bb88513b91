"""The toy that needs exploration: what it shows, and what it rewards."""

from __future__ import annotations

import numpy as np
import pytest

from atari_fast.config import EnvConfig
from atari_fast.envs.atari_env import make_env
from atari_fast.envs.exploration_toys import NoisyCorridor
from atari_fast.errors import EnvError
from atari_fast.seeding import stream
from atari_fast.types import Flag


def test_one_action_of_each_room_leads_on_and_the_noise_is_always_new() -> None:
    env = NoisyCorridor(stream(1, "toy"))
    out = np.zeros(env.spec.frame_shape, np.uint8)
    assert env.step(0, out) == (0.0, Flag.FIRST)
    noises = []
    for room in range(NoisyCorridor.ROOMS - 1):
        assert np.flatnonzero(out[0]).tolist() == [room]
        env.load_state({**env.state(), "where": [room, 0]})  # time to try all actions
        for action in range(4):
            reward, flags = env.step(action, out)
            if env.room > room:
                break
            assert (reward, flags) == (0.0, 0)
            noises.append(out[1:].tobytes())
        assert env.room == room + 1
        assert (reward, flags) == ((1.0, Flag.TERMINATED) if room == 22 else (0.0, 0))
    assert len(set(noises)) == len(noises) > NoisyCorridor.ROOMS


def test_a_corridor_ends_after_its_steps() -> None:
    env = NoisyCorridor(stream(1, "toy"))
    out = np.zeros(env.spec.frame_shape, np.uint8)
    env.step(0, out)
    found = [env.step(0, out) for _ in range(NoisyCorridor.STEPS)]
    assert found == [(0.0, 0)] * (NoisyCorridor.STEPS - 1) + [(0.0, Flag.TERMINATED)]


def test_a_corridor_goes_on_from_its_state() -> None:
    env, other = (make_env("noisy_corridor", EnvConfig(), stream(seed, "toy")) for seed in (1, 2))
    a, b = (np.zeros(env.spec.frame_shape, np.uint8) for _ in range(2))
    rng = np.random.default_rng(0)
    for _ in range(50):
        for _ in range(7):
            env.step(int(rng.integers(env.spec.num_actions)), a)
        other.load_state(env.state())
        assert np.array_equal(other.screen_rgb(), env.screen_rgb())
        action = int(rng.integers(env.spec.num_actions))
        assert env.step(action, a) == other.step(action, b)
        assert np.array_equal(a, b)
        assert env.screen_rgb().shape == (16 * a.shape[0], 16 * a.shape[1], 3)


def test_an_action_that_is_none_is_refused() -> None:
    env = make_env("noisy_corridor", EnvConfig(), stream(1, "toy"))
    out = np.zeros(env.spec.frame_shape, np.uint8)
    env.step(0, out)
    with pytest.raises(EnvError, match="expected an index from 0 to 3"):
        env.step(4, out)
