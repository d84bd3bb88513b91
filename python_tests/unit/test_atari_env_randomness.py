"""What is left to chance in an environment: starts, no-op frames, sticky actions, seeds."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from atari_fast.config import EnvConfig
from atari_fast.envs.atari_env import AtariEnv
from atari_fast.seeding import stream
from atari_fast.types import Flag
from emulator import emulator, record


def test_starts_differ_where_resets_are_random() -> None:
    env = AtariEnv("solaris", EnvConfig(protocol="machado", max_episode_frames=1), stream(1, "env"))
    out = np.zeros((84, 84), dtype=np.uint8)
    starts = set()
    for _ in range(16):
        env.step(0, out)
        starts.add(out.tobytes())
        env.step(0, out)
    assert len(starts) > 1


def _chi_squared_p(statistic: float, freedom: int) -> float:
    """Upper tail of the chi-squared distribution (Wilson and Hilferty's approximation)."""
    spread = 2 / (9 * freedom)
    z = ((statistic / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)
    return 0.5 * math.erfc(z / math.sqrt(2))


def test_noop_counts_are_uniform_from_1_to_30() -> None:
    env = AtariEnv("pong", EnvConfig(max_episode_frames=1), stream(2, "env"))
    out = np.zeros((84, 84), dtype=np.uint8)
    counts = np.zeros(32)
    starts = 1_500
    for _ in range(starts):
        assert env.step(0, out)[1] == Flag.FIRST
        counts[env._ale.getEpisodeFrameNumber()] += 1
        assert env.step(0, out)[1] == Flag.TRUNCATED
    assert counts[0] == counts[31] == 0
    expected = starts / 30
    statistic = float(((counts[1:31] - expected) ** 2 / expected).sum())
    assert _chi_squared_p(statistic, 29) > 1e-3


def test_sticky_frames_repeat_the_executed_action() -> None:
    env = AtariEnv("pong", EnvConfig(protocol="machado"), stream(1, "env"))
    out = np.zeros((84, 84), dtype=np.uint8)
    env.step(0, out)
    executed = record(env)
    steps = 600
    held = np.zeros(4)
    before = 0
    for _ in range(steps):
        requested = 1 - before  # never what was executed last, so that every repeat shows
        del executed[:]
        assert env.step(requested, out)[1] == 0
        assert set(executed) <= {before, requested}
        first = executed.index(requested) if requested in executed else 4
        assert executed[first:] == [requested] * (4 - first)
        held[:first] += 1
        before = executed[-1]
    for k in range(3):
        p = 0.25 ** (k + 1)
        assert abs(held[k] / steps - p) < 4 * math.sqrt(p * (1 - p) / steps)


def test_stickiness_is_that_of_the_emulator() -> None:
    # The paddle's position after 4 frames to the right tells on which of them the action took hold.
    episodes = 300
    ale = emulator("breakout", sticky=0.25)
    theirs: Counter[bytes] = Counter()
    for _ in range(episodes):
        ale.reset_game()
        for _ in range(4):
            ale.act(3)
        theirs[ale.getRAM().tobytes()] += 1

    config = EnvConfig(protocol="machado", max_episode_frames=4)
    env = AtariEnv("breakout", config, stream(5, "env"))
    out = np.zeros((84, 84), dtype=np.uint8)
    right = env.spec.action_names.index("RIGHT")
    ours: Counter[bytes] = Counter()
    for _ in range(episodes):
        env.step(0, out)
        env.step(right, out)
        ours[env._ale.getRAM().tobytes()] += 1

    assert len(theirs) >= 3
    keys = [key for key in theirs | ours if theirs[key] + ours[key] >= 10]
    statistic = sum((theirs[key] - ours[key]) ** 2 / (theirs[key] + ours[key]) for key in keys)
    assert _chi_squared_p(statistic, len(keys) - 1) > 1e-3


def test_machado_episodes_differ() -> None:
    config = EnvConfig(protocol="machado", max_episode_frames=400)
    env = AtariEnv("ms_pacman", config, stream(1, "env"))
    out = np.zeros((84, 84), dtype=np.uint8)
    episodes = set()
    for _ in range(4):
        frames = []
        for step in range(101):
            env.step(step % 9, out)
            frames.append(out.tobytes())
        episodes.add(b"".join(frames))
    assert len(episodes) == 4


@pytest.mark.parametrize("protocol", ["deepmind", "machado"])
def test_envs_depend_on_their_seed_alone(protocol: Any) -> None:
    def play(seed: int) -> list[bytes]:
        env = AtariEnv("breakout", EnvConfig(protocol=protocol), stream(seed, "env"))
        out = np.zeros((84, 84), dtype=np.uint8)
        frames = []
        for step in range(80):
            env.step(step % 4, out)
            frames.append(out.tobytes())
        return frames

    assert play(1) == play(1)
    assert play(1) != play(2)
