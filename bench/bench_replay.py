"""Prioritized replay of 84x84 frames beside cpprb: `python bench/bench_replay.py`.

One thread, stacks of 4, n = 1; cpprb runs with next_of and stack_compress, its best setting. Both
sides hold the same number of frames and are measured in turns. A figure is the median of the
repeats with its range; the ratio is ours over cpprb's (rates) or cpprb's over ours (times). The
floor is a gather of 5 random neighbouring frames a transition into memory that exists. The last
cases are those of the sum tree: 2^20 leaves, and frames so small that they take no time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata, util
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from atari_fast.config import DqnAgentConfig, EnvConfig, NetConfig, ReplayConfig
from atari_fast.replay.transition import TransitionReplay
from atari_fast.types import Acted, Flag, StepBatch

SIDE = 84
STACK = 4
NUM_ENVS = 8
POOL = 2048
EPISODE = 800
CPPRB_STEPS = 508
"""Transitions of the one sequence that cpprb is filled with, over and over."""

TREE_LEAVES = 2**20
TREE_SIDE = 2
"""Height and width of the frames that take no time."""

Call = Callable[[], object]
Value = TypeVar("Value")


class Case(NamedTuple):
    """What is measured on every side that has it."""

    name: str
    items: int
    unit: str
    sides: dict[str, Call]


def turns(make: Callable[[], Value], count: int = 64) -> Iterator[Value]:
    """Cycles through values made beforehand."""
    values = [make() for _ in range(count)]
    while True:
        yield from values


class Ours:
    """The replay of atari_fast."""

    def __init__(self, capacity: int, frames: NDArray[np.uint8]) -> None:
        self.replay = TransitionReplay(
            EnvConfig(num_envs=NUM_ENVS),
            NetConfig(stack=STACK),
            DqnAgentConfig(n_step=1),
            ReplayConfig(capacity=capacity, prioritized=True),
            frames.shape[1:],
            seed=1,
        )
        self.frames = frames
        self.row = 0
        self.actions = np.ones(NUM_ENVS, np.int64)
        self.rewards = np.ones(NUM_ENVS, np.float32)
        for _ in range(capacity // NUM_ENVS):
            self.append()

    def append(self) -> None:
        place = self.row % EPISODE
        flag = Flag.FIRST if place == 0 else Flag.TERMINATED if place == EPISODE - 1 else 0
        start = self.row * NUM_ENVS % (POOL - NUM_ENVS)
        step = StepBatch(
            self.frames[start : start + NUM_ENVS], self.rewards, np.full(NUM_ENVS, flag, np.uint8)
        )
        self.replay.append(step, Acted(self.actions))
        self.row += 1

    def sampler(self, size: int) -> Call:
        batch = self.replay.new_batch(size, pinned=False)
        return lambda: self.replay.sample_into(batch, 0.4)

    def updater(self, size: int, rng: np.random.Generator) -> Call:
        batch = self.replay.new_batch(size, pinned=False)

        def ids() -> torch.Tensor:
            self.replay.sample_into(batch, 0.4)
            return batch.ids.clone()

        choices = turns(ids)
        values = turns(lambda: torch.from_numpy(rng.random(size, np.float32)))
        return lambda: self.replay.update_priorities(next(choices), next(values))


class Cpprb:
    """The best peer."""

    def __init__(self, capacity: int, frames: NDArray[np.uint8]) -> None:
        from cpprb import PrioritizedReplayBuffer

        fields = {
            "obs": {"shape": (*frames.shape[1:], STACK), "dtype": np.uint8},
            "act": {"dtype": np.int32},
            "rew": {},
            "done": {},
        }
        self.buffer = PrioritizedReplayBuffer(
            capacity, fields, alpha=0.6, next_of="obs", stack_compress="obs"
        )
        self.capacity = capacity
        moved = np.ascontiguousarray(np.moveaxis(frames, 0, -1))
        # Observation k is frames k to k + 3: a real sequence, as stack_compress demands.
        self.obs = np.stack([moved[..., k : k + STACK] for k in range(CPPRB_STEPS + 4)])
        self.position = 0
        while self.buffer.get_stored_size() < capacity - 100:
            self.add(100)

    def add(self, count: int) -> None:
        k = self.position % (CPPRB_STEPS - count)
        self.position += count
        self.buffer.add(
            obs=self.obs[k : k + count],
            act=np.zeros(count, np.int32),
            rew=np.zeros(count),
            next_obs=self.obs[k + 1 : k + count + 1],
            done=np.zeros(count),
        )

    def sampler(self, size: int) -> Call:
        return lambda: self.buffer.sample(size, beta=0.4)

    def updater(self, size: int, rng: np.random.Generator) -> Call:
        stored = self.buffer.get_stored_size()
        ids = turns(lambda: rng.integers(stored, size=size).astype(np.uint64))
        values = turns(lambda: rng.random(size))
        return lambda: self.buffer.update_priorities(next(ids), next(values))


def gather(store: torch.Tensor, size: int, rng: np.random.Generator) -> Call:
    """The floor: copies 5 frames a transition from random places of uint8[capacity, 84 * 84]."""
    out = torch.empty((size * (STACK + 1), SIDE * SIDE), dtype=torch.uint8)

    def indices() -> torch.Tensor:
        starts = rng.integers(len(store) - STACK, size=size)
        return torch.from_numpy(np.add.outer(starts, np.arange(STACK + 1)).ravel())

    choices = turns(indices)
    return lambda: torch.index_select(store, 0, next(choices), out=out)


def cases(capacity: int, floor: bool) -> list[Case]:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (POOL, SIDE, SIDE), dtype=np.uint8)
    ours = Ours(capacity, frames)
    peer = Cpprb(capacity, frames) if util.find_spec("cpprb") else None
    store = torch.ones((capacity if floor else 0, SIDE * SIDE), dtype=torch.uint8)
    found = []
    for size in (32, 256):
        sides: dict[str, Call] = {"atari_fast": ours.sampler(size)}
        if peer:
            sides["cpprb"] = peer.sampler(size)
        if floor:
            sides["floor"] = gather(store, size, rng)
        found.append(Case(f"sample, batch {size}", size, "transitions/s", sides))
    sides = {"atari_fast": ours.append}
    if peer:
        sides["cpprb"] = lambda: peer.add(NUM_ENVS)
    found.append(Case(f"add, {NUM_ENVS} a call", NUM_ENVS, "transitions/s", sides))
    for size in (32, 512):
        sides = {"atari_fast": ours.updater(size, rng)}
        if peer:
            sides["cpprb"] = peer.updater(size, rng)
        found.append(Case(f"update priorities, batch {size}", size, "ns/index", sides))
    return found


def one_step(draw: Call, update: Call) -> None:
    """What a learner does: a peer that puts work off until it draws has to do it."""
    draw()
    update()


def tree_cases() -> list[Case]:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (POOL, TREE_SIDE, TREE_SIDE), dtype=np.uint8)
    sides: dict[str, Ours | Cpprb] = {"atari_fast": Ours(TREE_LEAVES, frames)}
    if util.find_spec("cpprb"):
        sides["cpprb"] = Cpprb(TREE_LEAVES, frames)
    draw = {name: side.sampler(512) for name, side in sides.items()}
    update = {name: side.updater(512, rng) for name, side in sides.items()}
    both = {name: partial(one_step, draw[name], update[name]) for name in sides}
    return [
        Case("sample, 2^20 leaves, batch 512", 512, "ns/index", draw),
        Case("update, 2^20 leaves, batch 512", 512, "ns/index", update),
        Case("both, 2^20 leaves, batch 512", 512, "ns/index", both),
    ]


def measure(call: Call, seconds: float) -> float:
    """Returns calls per second."""
    calls, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        call()
        calls += 1
    return calls / elapsed


def run(case: Case, repeats: int, seconds: float) -> list[dict[str, object]]:
    """Measures the sides of a case in turns and prints them."""
    figures: dict[str, list[float]] = {side: [] for side in case.sides}
    for repeat in range(repeats + 1):
        for side, call in case.sides.items():
            rate = measure(call, seconds) * case.items
            if repeat:  # the first round warms up
                figures[side].append(rate if case.unit == "transitions/s" else 1e9 / rate)
    medians = {side: statistics.median(values) for side, values in figures.items()}
    rows: list[dict[str, object]] = []
    for side, values in figures.items():
        over = medians["atari_fast"] / medians[side]
        ratio = over if case.unit == "transitions/s" else 1 / over
        text = "" if side == "atari_fast" else f"  atari_fast is {ratio:.2f}x"
        spread = f"({min(values):,.0f}..{max(values):,.0f})"
        print(f"{case.name:31} {side:10} {medians[side]:12,.0f} {case.unit} {spread}{text}")
        rows.append(
            {
                "case": case.name,
                "side": side,
                "unit": case.unit,
                "median": medians[side],
                "low": min(values),
                "high": max(values),
                "repeats": len(values),
                "ours_over_it": ratio,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--capacity", type=int, default=200_000, help="frames that each side holds")
    parser.add_argument("--repeats", type=int, default=7, help="repeats a figure, at least 5")
    parser.add_argument("--seconds", type=float, default=0.3, help="length of a repeat")
    parser.add_argument("--no-floor", action="store_true", help="leave the gather out")
    parser.add_argument("--json", type=Path, help="file that the figures are written to")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if util.find_spec("cpprb"):
        print(f"cpprb {metadata.version('cpprb')}, capacity {args.capacity:,}")
    else:
        print(f"cpprb is not installed: its rows are left out; capacity {args.capacity:,}")
    rows = []
    for case in cases(args.capacity, not args.no_floor) + tree_cases():
        rows += run(case, max(5, args.repeats), args.seconds)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
