"""What the draws of the replays rest on, in Python: random numbers and the sum tree."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BITS = (1 << 64) - 1


class SplitMix:
    """The counter-based generator of csrc/base/rng.h in Python integers."""

    def __init__(self, seed: int) -> None:
        self.key = self.mix(seed)
        self.counter = 0

    @staticmethod
    def mix(z: int) -> int:
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & BITS
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & BITS
        return z ^ (z >> 31)

    def uniform(self) -> float:
        self.counter += 1
        bits = self.mix((self.key + self.counter * 0x9E3779B97F4A7C15) & BITS)
        return (bits >> 11) * 2.0**-53


def tree_levels(weights: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Sums of csrc/structures/sum_tree.h, leaves first: eight children a node, left to right."""
    depth = next(d for d in range(1, 20) if 8**d >= len(weights))
    levels = [np.concatenate([weights, np.zeros(8**depth - len(weights))])]
    while len(levels[-1]) > 1:
        levels.append(np.cumsum(levels[-1].reshape(-1, 8), axis=1)[:, -1])
    return levels


def find_leaf(levels: list[NDArray[np.float64]], u: float) -> int:
    """The leaf in whose share of the total u falls; never one of weight 0."""
    node = 0
    for level in reversed(levels[:-1]):
        ends = np.cumsum(level[8 * node : 8 * node + 8])
        u = min(u, float(np.nextafter(ends[-1], 0.0)))
        child = int(np.count_nonzero(u >= ends))
        u -= float(ends[child - 1]) if child else 0.0
        node = 8 * node + child
    return node


def draw_place(
    rng: SplitMix,
    levels: list[NDArray[np.float64]],
    places: int,
    mix: float,
    lower: float,
    upper: float,
) -> int:
    """A draw of csrc/structures/prioritized_sampler.h from a segment of the total weight."""
    if mix > 0 and rng.uniform() < mix:
        for _ in range(64):
            place = int(rng.uniform() * places)
            if levels[0][place] > 0:
                return place
        drawable = np.flatnonzero(levels[0])
        return int(drawable[int(rng.uniform() * len(drawable))])
    return find_leaf(levels, (lower + rng.uniform() * (upper - lower)) * float(levels[-1][0]))
