"""Episodic novelty beside faiss: `python bench/bench_episodic.py`.

Embeddings of 32 numbers, k = 10, independent normal data unless a line says otherwise. One item is
the reward of one embedding, which is then appended to a full memory. faiss is IndexFlatL2 on one
thread: a search, then for a single memory an `add`; the index is built anew, untimed, every 20
searches, so that it stays the same size. For 32 memories faiss only searches. Both sides get the
same rows, none of which is in a memory already, and are measured in turns. A figure is the median
of the repeats with its range; the ratio is faiss' time over ours. Beside 32 memories stands how
long it takes to read all their numbers once (`numpy.max` of the same bytes, shared by the threads),
and the bandwidth that this makes. AF_FORCE_AVX2=1 and AF_FORCE_SCALAR=1 choose our instructions.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata, util
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from atari_fast import _core
from atari_fast.replay.episodic import EpisodicMemory, EpisodicOptions

DIM = 32
NEIGHBOURS = 10
NUM_ENVS = 32
BURST = 20
"""Searches between two untimed renewals of the faiss indices."""
POOL = 65_537
"""Rows of a pool; POOL - NUM_ENVS is odd, so steps bring each environment all rows."""

Rows = NDArray[np.float32]


class Side(NamedTuple):
    """What is timed: `call` on each of what `prepare` gives."""

    name: str
    prepare: Callable[[], list[Any]]
    call: Callable[[Any], object]


class Source:
    """Endless embeddings float32[num_envs, 32] from a pool."""

    def __init__(self, pool: Rows, num_envs: int, place: int = 0) -> None:
        self.pool = pool
        self.num_envs = num_envs
        self.place = place

    def next(self) -> Rows:
        self.place = (self.place + self.num_envs) % (POOL - NUM_ENVS)
        return self.pool[self.place : self.place + self.num_envs]

    def burst(self) -> list[Rows]:
        return [self.next() for _ in range(BURST)]


def independent(rng: np.random.Generator) -> Rows:
    return rng.standard_normal((POOL, DIM), dtype=np.float32)


def wandering(rng: np.random.Generator) -> Rows:
    """A path whose neighbouring rows are near each other, as those of an episode are."""
    rows = np.zeros((POOL, DIM), np.float32)
    noise = rng.standard_normal((POOL, DIM), dtype=np.float32)
    for t in range(1, POOL):
        rows[t] = 0.999 * rows[t - 1] + 0.05 * noise[t]
    return rows


def ours(name: str, pool: Rows, options: EpisodicOptions) -> Side:
    memory = EpisodicMemory(options)
    source = Source(pool, options.num_envs)
    for _ in range(options.capacity):
        memory.append(torch.from_numpy(source.next()))
    return Side(name, lambda: [torch.from_numpy(rows) for rows in source.burst()], memory.novelty)


def faiss_side(pool: Rows, num_envs: int, rows: int) -> Side:
    """Indices of `rows` rows; a single one is appended to."""
    import faiss

    faiss.omp_set_num_threads(1)
    indices = [faiss.IndexFlatL2(DIM) for _ in range(num_envs)]
    for env, index in enumerate(indices):
        index.add(np.roll(pool, -env, axis=0)[:rows])
    source = Source(pool, num_envs, rows + num_envs)

    def prepare() -> list[Rows]:
        if num_envs == 1:
            indices[0].reset()
            indices[0].add(pool[: rows - BURST // 2])
        if source.place + num_envs * BURST > POOL - NUM_ENVS:
            source.place = rows + num_envs
        return source.burst()

    def call(queries: Rows) -> None:
        for env, index in enumerate(indices):
            query = queries[env : env + 1]
            index.search(query, NEIGHBOURS)
            if num_envs == 1:
                index.add(query)

    return Side("faiss", prepare, call)


def reading_side(rows: int, threads: int) -> Side:
    """Reads the numbers of NUM_ENVS memories of `rows` rows once a call."""
    parts = np.array_split(np.ones(NUM_ENVS * rows * DIM, np.float32), threads)
    pool = ThreadPoolExecutor(threads)

    def call(_: None) -> None:
        list(pool.map(np.max, parts))

    return Side(f"reading, {threads} threads", lambda: [None] * BURST, call)


def measure(side: Side, seconds: float) -> float:
    """Returns seconds per call."""
    calls, total = 0, 0.0
    while total < seconds:
        items = side.prepare()
        start = time.perf_counter()
        for item in items:
            side.call(item)
        total += time.perf_counter() - start
        calls += BURST
    return total / calls


def run(
    case: str, items: int, sides: list[Side], repeats: int, seconds: float
) -> list[dict[str, object]]:
    """Measures the sides of a case in turns and prints them."""
    figures: dict[str, list[float]] = {side.name: [] for side in sides}
    for repeat in range(repeats + 1):
        for side in sides:
            micros = measure(side, seconds) / items * 1e6
            if repeat:  # the first round warms up
                figures[side.name].append(micros)
    peer = statistics.median(figures["faiss"]) if "faiss" in figures else None
    found: list[dict[str, object]] = []
    for name, values in figures.items():
        middle = statistics.median(values)
        ratio = peer / middle if peer and name != "faiss" else None
        text = "" if ratio is None else f"  {ratio:.2f}x faiss"
        spread = f"({min(values):.1f}..{max(values):.1f})"
        print(f"{case:28} {name:20} {middle:8.1f} us/query {spread}{text}", flush=True)
        found.append(
            {
                "case": case,
                "side": name,
                "us": middle,
                "low": min(values),
                "high": max(values),
                "repeats": len(values),
                "ratio": ratio,
            }
        )
    return found


def largest_error(pool: Rows, rows: int) -> float:
    """Largest relative error of 200 rewards, next to the equations in float64."""
    options = EpisodicOptions(num_envs=1, capacity=rows)
    memory = EpisodicMemory(options)
    for row in pool[:rows]:
        memory.append(torch.from_numpy(row[None]))
    mean, worst = 0.0, 0.0
    for count in range(1, 201):
        query = pool[rows + count - 1]
        kept = pool[count - 1 : rows + count - 1].astype(np.float64)
        found = np.sort(np.square(kept - query).sum(1))[:NEIGHBOURS]
        mean += (found.mean() - mean) / count
        spread = np.maximum(found / mean - options.cluster_distance, 0)
        kernels = options.kernel_epsilon / (spread + options.kernel_epsilon)
        expected = 1 / (np.sqrt(kernels.sum()) + options.pseudo_count)
        got = memory.novelty(torch.from_numpy(query[None]))[0]
        worst = max(worst, abs(float(got) - expected) / expected)
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7, help="repeats a figure, at least 5")
    parser.add_argument("--seconds", type=float, default=0.3, help="length of a repeat")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--json", type=Path, help="file that the figures are written to")
    args = parser.parse_args()
    torch.set_num_threads(1)
    has_faiss = util.find_spec("faiss") is not None
    if has_faiss:
        print(f"faiss-cpu {metadata.version('faiss-cpu')}")
    else:
        print("faiss is not installed: its rows are left out")
    print(f"instructions: {_core.instruction_set()}")
    rng = np.random.default_rng(0)
    pool, path = independent(rng), wandering(rng)
    print(f"largest relative error at 30,000 rows: {largest_error(pool, 30_000):.1e}")
    repeats = max(5, args.repeats)
    results = []
    for rows in (500, 2_000, 10_000, 30_000):
        one = EpisodicOptions(num_envs=1, capacity=rows)
        sides = [ours("float32", pool, one), ours("float16", pool, one._replace(float16=True))]
        sides += [faiss_side(pool, 1, rows)] if has_faiss else []
        results += run(f"1 memory of {rows:,}", 1, sides, repeats, args.seconds)
    sides = [ours("float32", path, one), *([faiss_side(path, 1, rows)] if has_faiss else [])]
    results += run(f"1 of {rows:,}, slow changes", 1, sides, repeats, args.seconds)
    many = EpisodicOptions(num_envs=NUM_ENVS, capacity=30_000)
    sides = []
    for threads in sorted({1, args.threads}):
        sides.append(reading_side(30_000, threads))
        for kind in ("float32", "float16"):
            options = many._replace(float16=kind == "float16", threads=threads)
            sides.append(ours(f"{kind}, {threads} threads", pool, options))
    sides += [faiss_side(pool, NUM_ENVS, 30_000)] if has_faiss else []
    results += run(f"{NUM_ENVS} memories of 30,000", NUM_ENVS, sides, repeats, args.seconds)
    for figure in results:
        if str(figure["side"]).startswith("reading"):
            bandwidth = 30_000 * DIM * 4 / float(str(figure["us"])) / 1e3
            print(f"{figure['side']}: {bandwidth:.1f} GB/s")
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
