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


def test_an_action_that_is_none_is_refused() -> None:
    env = make_env("noisy_corridor", EnvConfig(), stream(1, "toy"))
    out = np.zeros(env.spec.frame_shape, np.uint8)
    env.step(0, out)
    with pytest.raises(EnvError, match="expected an index from 0 to 3"):
        env.step(4, out)
