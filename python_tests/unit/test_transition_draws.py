"""What the replay draws and how often, under concurrent writes too; bad priorities; memory."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from atari_fast.config import DqnAgentConfig, EnvConfig, NetConfig, ReplayConfig
from atari_fast.replay.common import frame_memory
from atari_fast.replay.transition import (
    TransitionBatch,
    TransitionReplay,
    transition_options,
)
from atari_fast.types import Acted, Flag, StepBatch

STACK, N_STEP, NUM_ENVS, ROWS = 4, 3, 2, 64
WORDS = 12
"""A frame of the concurrency test is WORDS times (row, environment, episode, step) as int32."""


def build(
    *,
    num_envs: int = 1,
    rows: int = 64,
    stack: int = 1,
    n_step: int = 1,
    shape: tuple[int, int] = (1, 1),
    prioritized: bool = True,
    epsilon: float = 1e-12,
    mix: float = 0.0,
    stratified: bool = True,
    seed: int = 5,
) -> TransitionReplay:
    return TransitionReplay(
        EnvConfig(num_envs=num_envs),
        NetConfig(stack=stack),
        DqnAgentConfig(n_step=n_step, reward_clip=0.0),
        ReplayConfig(
            capacity=num_envs * rows,
            prioritized=prioritized,
            alpha=0.6,
            priority_epsilon=epsilon,
            uniform_mix=mix,
            stratified=stratified,
        ),
        shape,
        seed,
    )


def numbers(batch: TransitionBatch) -> dict[str, NDArray[Any]]:
    return {name: tensor.numpy() for name, tensor in batch._asdict().items()}


def with_starts(replay: TransitionReplay, starts: int) -> TransitionReplay:
    """Appends one episode to the one environment until rows 0 to starts - 1 are starts (n = 1)."""
    for row in range(starts + 1):
        step = StepBatch(
            np.full((1, 1, 1), row % 256, np.uint8),
            np.zeros(1, np.float32),
            np.array([Flag.FIRST if row == 0 else 0], np.uint8),
        )
        replay.append(step, Acted(np.zeros(1, np.int64)))
    return replay


def set_priorities(replay: TransitionReplay, ids: list[int], priorities: list[float]) -> int:
    core = replay._core
    return core.update_priorities(np.array(ids, np.int64), np.array(priorities, np.float32))


class Tagged:
    """Environments whose frames say where they come from."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.row = 0
        self.episode = [0] * NUM_ENVS
        self.step = [-1] * NUM_ENVS
        self.ended = [True] * NUM_ENVS

    def next(self) -> StepBatch:
        frames = np.empty((NUM_ENVS, WORDS, 4), np.int32)
        flags = np.zeros(NUM_ENVS, np.uint8)
        for env in range(NUM_ENVS):
            event = self.rng.random()
            if self.ended[env] or event < 0.01:
                self.episode[env] += 1
                self.step[env] = 0
                flags[env] = Flag.FIRST
                self.ended[env] = False
            else:
                self.step[env] += 1
                flags[env] = (
                    Flag.TERMINATED if event < 0.05 else Flag.TRUNCATED if event < 0.09 else 0
                )
                self.ended[env] = bool(flags[env])
            frames[env] = (self.row, env, self.episode[env], self.step[env] + 1)
        self.row += 1
        rewards = frames[:, 0, 2].astype(np.float32)  # the episode's number
        return StepBatch(frames.view(np.uint8).reshape(NUM_ENVS, WORDS, 16), rewards, flags)


def check_tags(batch: TransitionBatch, before: int, after: int) -> None:
    """No episode is mixed, no frame torn, nothing from beyond the write head (in rows)."""
    got = numbers(batch)
    size, window = got["frames"].shape[:2]
    words = got["frames"].view(np.int32).reshape(size, window, WORDS, 4)
    assert (words == words[:, :, :1]).all(), "a torn frame"
    row, env, episode, step = np.moveaxis(words[:, :, 0], -1, 0)
    start, m = STACK - 1, got["steps"][:, None]
    offset = np.arange(window) - start
    expected_step = step[:, start, None] + offset
    present = (expected_step >= 1) & (offset <= m)
    assert (row[:, start] == got["ids"] // NUM_ENVS).all()
    for values, expected in (
        (row, row[:, start, None] + offset),
        (env, (got["ids"] % NUM_ENVS)[:, None]),
        (episode, episode[:, start, None]),
        (step, expected_step),
    ):
        np.testing.assert_array_equal(values, np.where(present, expected, 0))
    assert (row[:, start] + got["steps"] < after).all()
    oldest = np.maximum(row[:, start] - STACK + 1, 0)  # no frames lie before row 0
    assert (oldest >= before - ROWS).all()
    # All rewards of the return are those of the episode.
    total = episode[:, start] * np.array([0.0, 1.0, 1.99, 2.9701])[got["steps"]]
    np.testing.assert_allclose(got["rewards"], total, rtol=1e-6)


def draw_beside_a_writer(draws: int) -> None:
    replay = build(
        num_envs=NUM_ENVS, rows=ROWS, stack=STACK, n_step=N_STEP, shape=(WORDS, 16), mix=1e-3
    )
    tagged = Tagged(0)
    actions = np.zeros(NUM_ENVS, np.int64)
    stop = threading.Event()
    for _ in range(ROWS):
        replay.append(tagged.next(), Acted(actions))

    def write() -> None:
        while not stop.is_set():
            replay.append(tagged.next(), Acted(actions))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        batch = replay.new_batch(256, pinned=False)
        rng = np.random.default_rng(1)
        for _ in range(-(-draws // 256)):
            before = replay._core.num_rows // NUM_ENVS
            replay.sample_into(batch, 0.5)
            check_tags(batch, before, replay._core.num_rows // NUM_ENVS)
            stale = batch.ids.numpy() - rng.integers(0, 2 * NUM_ENVS * ROWS, 256)
            set_priorities(replay, np.maximum(stale, 0).tolist(), rng.random(256).tolist())
    finally:
        stop.set()
        writer.join()
    assert tagged.row > 2 * ROWS  # the ring did wrap


def test_unique_frames_beside_a_writer() -> None:
    draw_beside_a_writer(100_000)


@pytest.mark.slow
def test_unique_frames_beside_a_writer_a_million() -> None:
    draw_beside_a_writer(1_000_000)


@pytest.mark.parametrize("stratified", [True, False])
@pytest.mark.parametrize("mix", [0.0, 0.25, 1.0])
def test_frequencies_and_weights_of_the_specification(stratified: bool, mix: float) -> None:
    replay = with_starts(build(mix=mix, stratified=stratified), 4)
    assert set_priorities(replay, [0, 1, 2, 3], [1.0, 2.0, 3.0, 4.0]) == 0
    p = np.array([0.1482295026, 0.2246739128, 0.2865546130, 0.3405419717])
    weights = np.array([1, 0.8467453124, 0.7682293563, 0.7169776240])
    if mix > 0:
        p = (1 - mix) * p + mix / 4
        weights = (4 * p) ** -0.4 / ((4 * p) ** -0.4).max()
    batch = replay.new_batch(500, pinned=False)
    counts = np.zeros(4)
    for _ in range(400):
        replay.sample_into(batch, 0.4)
        ids = batch.ids.numpy()
        assert set(ids.tolist()) == {0, 1, 2, 3}
        np.testing.assert_allclose(batch.weights.numpy(), weights[ids], atol=1e-6)
        counts += np.bincount(ids, minlength=4)
    chi = ((counts - p * counts.sum()) ** 2 / (p * counts.sum())).sum()
    assert chi < 21.1  # 3 degrees of freedom, p = 1e-4


def test_new_rows_get_the_largest_priority_seen() -> None:
    replay = with_starts(build(), 3)
    set_priorities(replay, [0, 1, 2], [10.0, 10.0, 10.0])
    set_priorities(replay, [0, 1, 2], [0.0, 0.0, 0.0])
    with_starts(replay, 0)  # a FIRST row, then rows of the next episode
    for _ in range(3):
        replay.append(
            StepBatch(
                np.zeros((1, 1, 1), np.uint8), np.zeros(1, np.float32), np.zeros(1, np.uint8)
            ),
            Acted(np.zeros(1, np.int64)),
        )
    batch = replay.new_batch(300, pinned=False)
    replay.sample_into(batch, 1.0)
    assert set(batch.ids.tolist()) == {4, 5, 6}  # priority 10 beside 1e-12 ^ 0.6


def test_stale_ids_are_dropped_and_counted() -> None:
    replay = with_starts(build(rows=8, stack=2), 20)  # rows 13 to 20 are kept
    assert len(replay) == 6
    assert set_priorities(replay, [14, 15, 16, 17, 18, 19], [1.0] * 6) == 0
    assert set_priorities(replay, [6, 7, 13, 14, 20], [9.0] * 5) == 4
    for ids in ([14, 21], [14, -1], [14, 2**62]):
        with pytest.raises(ValueError, match=r"ids\[1\]"):
            set_priorities(replay, ids, [9.0, 9.0])


def test_a_stale_id_leaves_the_row_in_its_place_alone() -> None:
    draws = []
    for stale in ([6], []):
        replay = with_starts(build(rows=8, stack=2), 20)
        assert set_priorities(replay, stale, [1e6] * len(stale)) == len(stale)
        batch = replay.new_batch(64, pinned=False)
        replay.sample_into(batch, 0.4)
        draws.append((batch.ids.tolist(), batch.weights.tolist()))
    assert draws[0] == draws[1]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -1.0, -1e-45])
@pytest.mark.parametrize("position", [0, 3])
def test_bad_priorities_are_refused_and_change_nothing(bad: float, position: int) -> None:
    priorities = [50.0, 60.0, 70.0, 80.0]
    priorities[position] = bad
    draws = []
    for broken in (True, False):
        replay = with_starts(build(), 4)
        if broken:
            with pytest.raises(ValueError, match=rf"priorities\[{position}\]"):
                set_priorities(replay, [0, 1, 2, 3], priorities)
        batch = replay.new_batch(64, pinned=False)
        replay.sample_into(batch, 0.4)
        draws.append((batch.ids.tolist(), batch.weights.tolist()))
    assert draws[0] == draws[1]


@pytest.mark.parametrize("value", [0.0, 1e-45, 1e-38, 1e38, 3.4e38])
def test_extreme_priorities_work(value: float) -> None:
    replay = with_starts(build(epsilon=1e-300), 4)
    assert set_priorities(replay, [0, 1, 2, 3], [value] * 4) == 0
    assert len(replay) == 4
    batch = replay.new_batch(400, pinned=False)
    replay.sample_into(batch, 1.0)
    assert np.bincount(batch.ids.numpy()).tolist() == [100] * 4
    assert batch.weights.tolist() == [1.0] * 400


def test_weights_stay_finite_beside_extreme_priorities() -> None:
    replay = with_starts(build(epsilon=1e-300, mix=0.5), 4)
    set_priorities(replay, [0, 1, 2, 3], [0.0, 1e-45, 1.0, 3.4e38])
    batch = replay.new_batch(64, pinned=False)
    for beta in (0.0, 0.4, 1.0, 50.0, 1e6):
        replay.sample_into(batch, beta)
        weights = batch.weights.numpy()
        assert np.isfinite(weights).all()
        assert weights.max() == 1.0


def test_uniform_replay_has_no_priorities_and_equal_weights() -> None:
    replay = with_starts(build(prioritized=False, mix=0.5), 10)
    batch = replay.new_batch(100, pinned=False)
    replay.sample_into(batch, 0.7)
    assert batch.weights.tolist() == [1.0] * 100
    with pytest.raises(ValueError, match="uniform"):
        set_priorities(replay, [0], [1.0])


@pytest.mark.parametrize("stratified", [True, False])
def test_uniform_draws_are_independent(stratified: bool) -> None:
    """8 of 32 hold a row twice with probability 1 - 32! / (24! 32^8) = 0.614 (Mnih et al. 2015)."""
    replay = with_starts(build(prioritized=False, stratified=stratified), 32)
    batch = replay.new_batch(8, pinned=False)
    twice = 0
    counts = np.zeros(32, np.int64)
    for _ in range(4_000):
        replay.sample_into(batch, 0.0)
        twice += len(batch.ids.unique()) < 8
        counts += np.bincount(batch.ids.numpy(), minlength=32)
    assert abs(twice / 4_000 - 0.614) < 0.04  # five standard errors
    assert np.abs(counts / 1_000 - 1).max() < 0.17  # five standard errors


def test_stratified_prioritized_draws_of_equal_priorities_take_each_row_once() -> None:
    replay = with_starts(build(prioritized=True, stratified=True), 32)
    batch = replay.new_batch(32, pinned=False)
    replay.sample_into(batch, 0.0)
    assert sorted(batch.ids.tolist()) == list(range(32))


def test_equal_seeds_draw_equally() -> None:
    draws = []
    for seed in (5, 5, 6):
        batch = (replay := with_starts(build(seed=seed), 40)).new_batch(64, pinned=False)
        replay.sample_into(batch, 0.4)
        draws.append(batch.ids.tolist())
    assert draws[0] == draws[1] != draws[2]


RESIDENT = """
import sys
from pathlib import Path
import numpy as np
from atari_fast import _core

capacity, side, frame_memory = map(int, sys.argv[1:])
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
row = [np.ones(1, np.int64), np.ones(1, np.float32), np.zeros(1, np.uint8)]
noise = np.random.default_rng(0).integers(0, 256, (64, 1, side, side), dtype=np.uint8)
options = _core.TransitionReplayOptions(
    num_envs=1, capacity=capacity, frame_shape=(side, side), stack=4, n_step=3, gamma=0.99,
    reward_clip=1.0, zero_discount_on_life_loss=False, prioritized=True, alpha=0.6,
    priority_epsilon=1e-6, uniform_mix=0.0, stratified=True, buffer_max_weights=False,
    frame_memory=frame_memory, threads=1, seed=0,
)
before = resident()
replay = _core.TransitionReplay(options)
for i in range(3 * capacity // 2):
    replay.append(noise[i % 64], *row)
print(options.memory_bytes, resident() - before, replay.bytes_used, replay.num_valid)
"""


@pytest.mark.parametrize(
    ("capacity", "side", "share"), [(5_000, 84, 0.0), (20_000, 84, 0.125), (100_000, 5, 0.0)]
)
def test_memory_of_frames_that_do_not_compress(capacity: int, side: int, share: float) -> None:
    """Noise: the estimate is never passed, and what is counted is what is taken."""
    limit = int(share * capacity * side * side)
    command = [sys.executable, "-c", RESIDENT, str(capacity), str(side), str(limit)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    estimate, taken, counted, starts = map(int, output.split())
    assert counted <= estimate
    assert 0.9 * counted - 2e6 <= taken <= 1.1 * counted + 2e6
    if limit:  # rows go early, those that are left can be drawn
        assert 0.5 * share * capacity <= starts <= share * capacity
        assert counted <= 1.1 * limit + 2e6
    else:
        assert starts > 0.99 * capacity


def test_the_limit_of_frame_memory() -> None:
    assert frame_memory(1_000_000, 0.0, (84, 84)) == 882_000_000
    assert frame_memory(1_000_000, 0.3, (84, 84)) == 300_000_000
    assert frame_memory(20_000, 0.0, (84, 84)) == 2**26
    assert frame_memory(1_000, 0.0, (84, 84)) == 0
    options = transition_options(
        EnvConfig(num_envs=8),
        NetConfig(),
        DqnAgentConfig(),
        ReplayConfig(capacity=1_000_000),
        (84, 84),
    )
    assert 0.88e9 < options.memory_bytes < 0.93e9
