"""Least squares of the last layer beside the dense system: `python bench/bench_least_squares.py`.

The baseline is what the equation says literally: phi(s, a) written out, 18 blocks of 513 of which
17 are 0, its Gram matrix of 9,234^2 in float64 by matrix products, and one Cholesky. It is summed
over few samples and the time is scaled to all, since it is the same work for each; its solve is
measured whole. Sides are measured in turns, on one thread, in CPU seconds; a figure is the median
of the repeats with its range, and the ratio is the baseline's time over ours. Forward passes are
not in it. Dueling and LSTD-Q have larger dense systems of their own, or one that is solved by LU.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from atari_fast.ops.least_squares import DuelingSystem, FqiSystem, LstdqSystem

LAM = 1.0

Columns = tuple[torch.Tensor, ...]


def samples(count: int, num_actions: int, d: int) -> Columns:
    """Columns of `LstdqSystem.add`; features as after a ReLU."""
    random = torch.Generator().manual_seed(0)

    def features() -> torch.Tensor:
        return torch.randn((count, d), generator=random).relu()

    def actions() -> torch.Tensor:
        return torch.randint(num_actions, (count,), generator=random)

    rho = torch.randn(count, generator=random)
    return features(), actions(), rho, torch.full((count,), 0.99), features(), actions()


def seconds(call: Callable[[], object]) -> float:
    """CPU seconds: with one thread those of a machine that does nothing else, or nearly so."""
    start = time.process_time()
    call()
    return time.process_time() - start


class Streamed:
    """One of our systems, fed in batches."""

    def __init__(self, make: Callable[[], FqiSystem], columns: Columns, batch: int) -> None:
        self.make = make
        self.batches = list(zip(*(column.split(batch) for column in columns), strict=True))

    def times(self) -> tuple[float, float]:
        """Seconds of the sums and of the solve."""
        system = self.make()

        def add() -> None:
            for batch in self.batches:
                system.add(*batch)
            system._flush()

        return seconds(add), seconds(lambda: system.solve(LAM))


class Dense:
    """The joint system of FQI, `rows` of the `scale` times as many samples at a time."""

    def __init__(self, columns: Columns, num_actions: int, rows: int) -> None:
        features, actions, self.rho = (column[:rows] for column in columns[:3])
        self.features = torch.cat([features, torch.ones((rows, 1))], dim=1).double()
        self.actions = actions
        self.num_actions = num_actions
        self.scale = len(columns[0]) / rows

    def times(self) -> tuple[float, float]:
        rows, size = self.features.shape
        joint = size * self.num_actions
        matrix = torch.zeros((joint, joint), dtype=torch.float64)
        right = torch.zeros(joint, dtype=torch.float64)

        def add() -> None:
            phi = torch.zeros((rows, self.num_actions, size), dtype=torch.float64)
            phi[torch.arange(rows), self.actions] = self.features
            phi = phi.view(rows, joint)
            matrix.addmm_(phi.T, phi)
            right.addmv_(phi.T, self.rho.double())

        def solve() -> None:
            matrix.diagonal().add_(LAM * rows)
            torch.cholesky_solve(right[:, None], torch.linalg.cholesky(matrix))

        return self.scale * seconds(add), seconds(solve)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--actions", type=int, default=18)
    parser.add_argument("--features", type=int, default=512, help="d, of each stream")
    parser.add_argument("--batch", type=int, default=512, help="samples that come at once")
    parser.add_argument("--dense-rows", type=int, default=512, help="samples the baseline sums")
    parser.add_argument("--repeats", type=int, default=5, help="repeats a figure, at least 5")
    parser.add_argument("--json", type=Path, help="file that the figures are written to")
    args = parser.parse_args()
    torch.set_num_threads(1)
    num, d = args.actions, args.features
    columns = samples(args.samples, num, d)
    phi, actions, rho, _, phi_a, _ = columns
    sides = {
        "dense": Dense(columns, num, min(args.dense_rows, args.samples)),
        "fqi": Streamed(lambda: FqiSystem(num, d), (phi, actions, rho), args.batch),
        "dueling": Streamed(
            lambda: DuelingSystem(num, d, d), (phi, phi_a, actions, rho), args.batch
        ),
        "lstdq": Streamed(lambda: LstdqSystem(num, d), columns, args.batch),
    }
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, load {load:.1f}, 1 thread, {args.samples:,} samples")
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(max(5, args.repeats)):
        for name, side in sides.items():
            figures[name].append(side.times())
    totals = {name: [sum(times) for times in pairs] for name, pairs in figures.items()}
    rows = []
    for name, pairs in figures.items():
        ratio = statistics.median(totals["dense"]) / statistics.median(totals[name])
        parts = {
            "sums": [t[0] for t in pairs],
            "solve": [t[1] for t in pairs],
            "both": totals[name],
        }
        for part, times in parts.items():
            median, low, high = statistics.median(times), min(times), max(times)
            text = f"  {ratio:.1f}x" if part == "both" and name != "dense" else ""
            print(f"{name:8} {part:6} {median:9.3f} s ({low:.3f}..{high:.3f}){text}")
            rows.append(
                {
                    "side": name,
                    "part": part,
                    "unit": "s",
                    "median": median,
                    "low": low,
                    "high": high,
                    "repeats": len(times),
                    "dense_over_it": ratio if part == "both" else None,
                }
            )
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
