"""A million frames of real games come out of the compressed replay as they went in."""

from __future__ import annotations

import numpy as np
import pytest

from atari_fast.config import DqnAgentConfig, EnvConfig, NetConfig, ReplayConfig
from atari_fast.envs.vector_env import VectorEnv
from atari_fast.replay.transition import TransitionReplay
from atari_fast.seeding import stream
from atari_fast.types import Acted, Flag

NUM_ENVS, ROWS, STACK = 8, 1_500, 4
CHECK_ROWS = 1_250
"""Rows of an environment between two looks at all frames: fewer than the ring has."""
END = Flag.TERMINATED | Flag.TRUNCATED


def check_all(replay: TransitionReplay, raw: np.ndarray, flags: np.ndarray, head: int) -> None:
    """Draws every transition once and compares its frames with raw uint8[ROWS, E, 84, 84]."""
    kept = np.arange(max(0, head - ROWS), head)
    slots = kept % ROWS
    first = np.where(flags[slots] & Flag.FIRST, kept[:, None], -1)
    begins = np.zeros((ROWS, NUM_ENVS), np.int64)  # the row with which the episode of a row began
    begins[slots] = np.maximum.accumulate(first)
    low = kept[0] + STACK - 1 if kept[0] else 0
    startable = (flags[slots] & END == 0) & ((kept >= low) & (kept < head - 1))[:, None]
    places, envs = np.nonzero(startable)
    expected_ids = kept[places] * NUM_ENVS + envs
    batch = replay.new_batch(len(replay), pinned=False)
    replay.sample_into(batch, 0.0)  # stratified, of equal priorities: one draw of each
    ids = batch.ids.numpy()
    assert np.array_equal(np.sort(ids), np.sort(expected_ids))
    for frames, row_id in zip(batch.frames.numpy(), ids.tolist(), strict=True):
        row, env = divmod(row_id, NUM_ENVS)
        inside = range(max(row - STACK + 1, int(begins[row % ROWS, env])), row + 2)
        padding = STACK + 1 - len(inside)
        assert not frames[:padding].any()
        for frame, r in zip(frames[padding:], inside, strict=True):
            assert frame.tobytes() == raw[r % ROWS, env].tobytes(), (r, env)


@pytest.mark.slow
@pytest.mark.parametrize("game", ["breakout", "montezuma_revenge", "ms_pacman", "pong", "seaquest"])
def test_two_hundred_thousand_real_frames_are_read_back_bit_for_bit(game: str) -> None:
    config = EnvConfig(num_envs=NUM_ENVS)
    replay = TransitionReplay(
        config,
        NetConfig(stack=STACK),
        DqnAgentConfig(n_step=1),
        ReplayConfig(capacity=NUM_ENVS * ROWS, prioritized=True, uniform_mix=0.0),
        (84, 84),
        seed=1,
    )
    raw = np.zeros((ROWS, NUM_ENVS, 84, 84), np.uint8)
    flags = np.zeros((ROWS, NUM_ENVS), np.uint8)
    rng = np.random.default_rng(1)
    actions = np.zeros(NUM_ENVS, np.int64)
    with VectorEnv(game, config, stream(6, "lossless")) as envs:
        for row in range(200_000 // NUM_ENVS):
            step = envs.step(actions)
            raw[row % ROWS], flags[row % ROWS] = step.frames, step.flags
            actions = rng.integers(envs.spec.num_actions, size=NUM_ENVS)
            replay.append(step, Acted(actions))
            if (row + 1) % CHECK_ROWS == 0:
                check_all(replay, raw, flags, row + 1)
