"""Gathering R2D2 batches beside a plain copy of as many bytes: `python bench/bench_sequence.py`.

A batch is 64 sequences of 40 + 80 + 5 rows of 84x84, and the history of 3 frames that stacks of 4
need. The copy is one thread's np.copyto of as many bytes from a source that is larger than any
cache and read in turns. Sides are measured in turns; a figure is the median of the repeats with its
range, and the share is the copy's time over ours. Frames are those of a toy game (a bright square
on a dim, dithered field) or noise, which nothing can compress.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from atari_fast.replay.sequence import RowSpec, SequenceConfig, SequenceReplay, StateSpec
from atari_fast.types import Acted, Flag, StepBatch

SIDE = 84
NUM_ENVS = 8
EPISODE = 2000
COLUMNS = (RowSpec("mu", "float32"),)
STATES = (StateSpec("h", "float32", 512), StateSpec("c", "float32", 512))

Call = Callable[[], object]


def game_frame(row: int, env: int) -> NDArray[np.uint8]:
    """A frame of a toy game: a field with a pattern that stays, and a square that moves."""
    frame = np.full((SIDE, SIDE), 40, np.uint8)
    frame[::8, ::8] = 90 + env
    y, x = row * 3 % (SIDE - 8), (row * 5 + 11 * env) % (SIDE - 8)
    frame[y : y + 8, x : x + 8] = 230
    return frame


def filled(config: SequenceConfig, noise: bool) -> SequenceReplay:
    replay = SequenceReplay(config, NUM_ENVS, (SIDE, SIDE), COLUMNS, STATES, seed=1)
    rng = np.random.default_rng(0)
    pool = rng.integers(0, 256, (512, SIDE, SIDE), dtype=np.uint8)
    columns = [np.ones((NUM_ENVS, 1), np.float32)]
    states = [np.ones((NUM_ENVS, 512), np.float32) for _ in STATES]
    rewards = np.zeros(NUM_ENVS, np.float32)
    for row in range(config.capacity // NUM_ENVS):
        place = row % EPISODE
        flag = Flag.FIRST if place == 0 else Flag.TERMINATED if place == EPISODE - 1 else 0
        if noise:
            frames = pool[rng.integers(len(pool), size=NUM_ENVS)]
        else:
            frames = np.stack([game_frame(row, env) for env in range(NUM_ENVS)])
        step = StepBatch(frames, rewards, np.full(NUM_ENVS, flag, np.uint8))
        replay.append(step, Acted(np.zeros(NUM_ENVS, np.int64), tuple(columns), tuple(states)))
    return replay


def copier(out: NDArray[np.uint8]) -> Call:
    """Copies as many bytes as a batch's frames from places of a large source in turns."""
    source = np.ones(max(4 * out.nbytes, 1 << 28), np.uint8)
    starts = iter(range(1 << 62))

    def copy() -> None:
        begin = next(starts) * (out.nbytes + 4096 * 31) % (source.nbytes - out.nbytes)
        np.copyto(out, source[begin : begin + out.nbytes])

    return copy


def measure(call: Call, seconds: float) -> float:
    """Returns milliseconds a call."""
    calls, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        call()
        calls += 1
    return 1e3 * elapsed / calls


def sides(args: argparse.Namespace, threads: int, noise: bool) -> dict[str, Call]:
    config = SequenceConfig(capacity=args.capacity, threads=threads)
    replay = filled(config, noise)
    batch = replay.new_batch(args.batch, pinned=False)
    name = f"{threads} thread{'s' if threads > 1 else ''}"
    found: dict[str, Call] = {name: lambda: replay.sample_into(batch, 0.6)}
    if threads == 1:
        found["copy"] = copier(np.empty(batch.frames.numel(), np.uint8))
        ids, priorities = batch.ids, batch.weights
        found["priorities"] = lambda: replay.update_priorities(ids, priorities)
    return found


def run(args: argparse.Namespace, noise: bool) -> list[dict[str, object]]:
    """Measures all sides in turns and prints them."""
    calls: dict[str, Call] = {}
    for threads in args.threads:
        calls.update(sides(args, threads, noise))
    figures: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(max(5, args.repeats) + 1):
        for name, call in calls.items():
            value = measure(call, args.seconds)
            if repeat:  # the first round warms up
                figures[name].append(value)
    medians = {name: statistics.median(times) for name, times in figures.items()}
    rows: list[dict[str, object]] = []
    for name, times in figures.items():
        share = medians["copy"] / medians[name]
        speedup = medians[f"{args.threads[0]} thread"] / medians[name]
        spread = f"({min(times):.2f}..{max(times):.2f})"
        frames = "noise" if noise else "game"
        text = "" if name in ("copy", "priorities") else f"  {share:4.0%} of copy, {speedup:.2f}x"
        print(f"{frames:6} {name:12} {medians[name]:9.3f} ms {spread}{text}")
        rows.append(
            {
                "frames": frames,
                "side": name,
                "unit": "ms",
                "median": medians[name],
                "low": min(times),
                "high": max(times),
                "repeats": len(times),
                "share_of_copy": share,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--capacity", type=int, default=80_000, help="rows that the replay holds")
    parser.add_argument("--batch", type=int, default=64, help="sequences in a batch")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="1 comes first")
    parser.add_argument("--repeats", type=int, default=9, help="repeats a figure, at least 5")
    parser.add_argument("--seconds", type=float, default=0.5, help="length of a repeat")
    parser.add_argument("--json", type=Path, help="file that the figures are written to")
    args = parser.parse_args()
    if args.threads[0] != 1:
        parser.error("--threads: expected 1 first, the side that the others are compared with")
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, load {load:.1f}, capacity {args.capacity:,}")
    rows = []
    for noise in (False, True):
        rows += run(args, noise)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
