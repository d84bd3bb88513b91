"""Every native part, and a whole training, at full speed: memory, threads and open files stay."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from atari_fast import _core
from atari_fast.config import DqnAgentConfig, EnvConfig, NetConfig, ReplayConfig
from atari_fast.replay.episodic import EpisodicOptions, core_options
from atari_fast.replay.sequence import RowSpec, SequenceConfig, SequenceReplay, StateSpec
from atari_fast.replay.transition import TransitionReplay
from atari_fast.types import Acted, Flag, StepBatch

NUM_ENVS = 4
SIDE = 84


SECONDS = float(os.environ.get("AF_SOAK_SECONDS", "1800"))
"""How long Pong is trained."""
WARM_UP = 180.0
"""Seconds until the replay is full and every code path was taken."""


def resident(process: int | str = "self") -> int:
    pages = Path(f"/proc/{process}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def open_files(process: int | str = "self") -> int:
    return len(list(Path(f"/proc/{process}/fd").iterdir()))


def native_threads(process: int | str = "self") -> int:
    return len(list(Path(f"/proc/{process}/task").iterdir()))


def steps(seed: int) -> Iterator[StepBatch]:
    """Frames that change a little, now and then all at once, in episodes of random lengths."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (NUM_ENVS, SIDE, SIDE), dtype=np.uint8)
    rewards = np.ones(NUM_ENVS, np.float32)
    first = np.ones(NUM_ENVS, bool)
    while True:
        for env in range(NUM_ENVS):
            if rng.random() < 0.01:
                frames[env] = rng.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
            rows, columns = rng.integers(0, SIDE, (2, 60))
            frames[env, rows, columns] = rng.integers(0, 256, 60, dtype=np.uint8)
        flags = np.where(first, int(Flag.FIRST), 0)
        first = ~first & (rng.random(NUM_ENVS) < 0.005)
        flags |= np.where(first, int(Flag.TERMINATED), 0)
        yield StepBatch(frames, rewards, flags.astype(np.uint8))


def soak(stop: threading.Event, path: Path) -> Iterator[None]:
    """Yields after each round of calls of all parts."""
    config = ReplayConfig(capacity=8_000, prioritized=True, threads=2)
    replay = TransitionReplay(
        EnvConfig(num_envs=NUM_ENVS),
        NetConfig(),
        DqnAgentConfig(n_step=3),
        config,
        (SIDE, SIDE),
        seed=1,
    )
    sequences = SequenceReplay(
        SequenceConfig(capacity=8_000, threads=2),
        NUM_ENVS,
        (SIDE, SIDE),
        [RowSpec("mu", "float32")],
        [StateSpec("h", "float32", 32)],
        seed=1,
    )
    options = EpisodicOptions(num_envs=NUM_ENVS, capacity=2_000)
    memory = _core.EpisodicMemory(core_options(options))
    rng = np.random.default_rng(0)
    actions = np.ones(NUM_ENVS, np.int64)
    columns, states = [np.ones((NUM_ENVS, 1), np.float32)], [np.ones((NUM_ENVS, 32), np.float32)]
    batch, unrolls = replay.new_batch(32, pinned=False), sequences.new_batch(4, pinned=False)
    envs, rewards = np.arange(NUM_ENVS), np.zeros(NUM_ENVS, np.float32)
    for turn, step in enumerate(steps(2)):
        if stop.is_set():
            return
        replay.append(step, Acted(actions))
        sequences.append(step, Acted(actions, tuple(columns), tuple(states)))
        memory.novelty_into(rng.random((NUM_ENVS, 32), np.float32), envs, rewards)
        if turn > 400:
            replay.sample_into(batch, 0.4)
            replay.update_priorities(batch.ids, batch.weights)
            if turn % 8 == 0:
                sequences.sample_into(unrolls, 0.6)
                sequences.update_priorities(unrolls.ids, unrolls.weights)
        if turn % 2_000 == 1_999:
            memory.reset(envs)
            for part in (replay, sequences):
                part.save(path)
                part.load(path)
        yield


@pytest.mark.slow
def test_memory_is_flat_after_the_first_minute(tmp_path: Path) -> None:
    """Peaks are compared, since memory dips for a while after a snapshot is loaded.

    Half a megabyte is four chunks of a frame store: how many it needs varies with the frames.
    """
    stop = threading.Event()
    start = time.monotonic()
    peaks = [0, 0]
    after_warm_up: tuple[int, int] | None = None
    for turn, _ in enumerate(soak(stop, tmp_path / "snapshot")):
        if turn % 500:
            continue
        elapsed = time.monotonic() - start
        gc.collect()
        peaks[elapsed > 60] = max(peaks[elapsed > 60], resident())
        if elapsed > 60:
            now = (open_files(), native_threads())
            after_warm_up = after_warm_up or now
            assert now == after_warm_up
        if elapsed > 300:
            stop.set()
    assert peaks[1] - peaks[0] < 500_000, "resident memory grew"


@pytest.mark.slow
def test_a_training_of_pong_takes_no_more_after_three_minutes(tmp_path: Path) -> None:
    """The least of a minute at either end: saves and evaluations open files for a while."""
    command = [
        *(sys.executable, "-m", "atari_fast.train", "pong", "--run.dir", "run", "--threads", "1"),
        *("--total-frames", "1000000000", "--replay.capacity", "20000", "--env.num-workers", "2"),
        *("--run.eval-period", "40000", "--run.eval-episodes", "1", "--run.log-period", "4000"),
        *("--run.checkpoint-period", "20000", "--run.replay-period", "40000"),
    ]
    with (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=out, stderr=out)
    samples: list[tuple[int, int, int]] = []
    try:
        time.sleep(WARM_UP)
        deadline = time.monotonic() + SECONDS - WARM_UP
        while time.monotonic() < deadline:
            assert process.poll() is None, (tmp_path / "out").read_text()
            pid = process.pid
            samples.append((resident(pid), open_files(pid), native_threads(pid)))
            time.sleep(0.5)
    finally:
        process.terminate()
        process.wait()
    assert process.returncode == 130, (tmp_path / "out").read_text()
    first, last = (np.min(half, axis=0) for half in (samples[:120], samples[-120:]))
    print(f"resident bytes, files, threads: {first.tolist()}, at the end {last.tolist()}")
    assert last[0] - first[0] < 8_000_000, "resident memory grew"
    assert last[1:].tolist() == first[1:].tolist(), "open files or threads grew"
