"""The sum tree against cumulative sums."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from numpy.typing import NDArray

from atari_fast._core import SumTree
from draws_reference import find_leaf, tree_levels
from machines import machine_tests

SIZES = (1, 2, 3, 5, 7, 1000, 1023, 1024, 1_000_000)
LARGEST = np.finfo(np.float64).max


def tree_of(weights: NDArray[np.float64]) -> SumTree:
    tree = SumTree(len(weights))
    tree.set(np.arange(len(weights)), np.ascontiguousarray(weights, np.float64))
    return tree


def test_oracle_of_the_specification() -> None:
    tree = tree_of(np.array([1.0, 2.0, 3.0, 4.0]))
    assert tree.total == 10.0
    found = [tree.find(u) for u in (0, 0.999, 1, 2.999, 3, 5.999, 6, 9.999)]
    assert found == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("size", SIZES)
def test_equals_cumulative_sums(size: int) -> None:
    rng = np.random.default_rng(size)
    weights = rng.integers(0, 5, size).astype(np.float64)  # whole numbers: no rounding
    weights[rng.integers(size)] = 2.0
    tree = tree_of(weights)
    ends = np.cumsum(weights)
    assert tree.total == ends[-1]
    for u in rng.uniform(0, ends[-1], 2000):
        assert tree.find(u) == np.searchsorted(ends, u, side="right")
    for i in rng.choice(np.flatnonzero(weights), 200):
        assert tree.get(int(i)) == weights[i]
        assert tree.find(ends[i] - weights[i]) == i
        assert tree.find(np.nextafter(ends[i], 0)) == i


def test_u_outside_of_its_range_is_clamped() -> None:
    tree = tree_of(np.array([0.0, 1.0, 0.0, 2.0, 0.0]))
    for low in (-math.inf, -1.0, -0.0, 5e-324):
        assert tree.find(low) == 1
    for high in (np.nextafter(3.0, 0), 3.0, np.nextafter(3.0, 4), 1e300, math.inf):
        assert tree.find(high) == 3
    with pytest.raises(ValueError, match="NaN"):
        tree.find(math.nan)


def test_nothing_to_draw() -> None:
    tree = SumTree(3)
    assert tree.total == 0.0
    with pytest.raises(ValueError, match="positive total"):
        tree.find(0.0)


@pytest.mark.parametrize("size", [0, -1, -(2**63), 2**62, 2**63 - 1])
def test_impossible_sizes_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="size"):
        SumTree(size)


def test_memory_that_is_not_there_is_an_error() -> None:
    with pytest.raises(MemoryError):
        SumTree(2**47)


def test_of_equal_indices_the_last_one_wins() -> None:
    tree = SumTree(6)
    tree.set(np.array([2, 0, 2, 4, 2, 0]), np.array([9.0, 8.0, 7.0, 1.0, 3.0, 0.0]))
    assert [tree.get(i) for i in range(6)] == [0, 0, 3, 0, 1, 0]
    assert tree.total == 4.0
    assert [tree.find(u) for u in (0.0, 2.9, 3.0)] == [2, 2, 4]


def test_refusals_name_the_position_and_change_nothing() -> None:
    tree = tree_of(np.array([1.0, 2.0, 3.0]))
    for bad in (math.nan, math.inf, -math.inf, -1.0, -5e-324, LARGEST):
        with pytest.raises(ValueError, match=r"weights\[1\]"):
            tree.set(np.array([0, 1, 2]), np.array([7.0, bad, 7.0]))
    for index in (-1, 3, 4, -(2**63), 2**63 - 1):
        with pytest.raises(ValueError, match=r"indices\[2\]"):
            tree.set(np.array([0, 1, index]), np.full(3, 7.0))
        with pytest.raises((ValueError, TypeError)):
            tree.get(index)
    assert [tree.get(i) for i in range(3)] == [1.0, 2.0, 3.0]
    assert tree.total == 6.0


def test_zero_leaves_are_never_drawn() -> None:
    rng = np.random.default_rng(0)
    weights = np.where(rng.random(1000) < 0.5, 0.0, 10.0 ** rng.uniform(-12, 12, 1000))
    tree = tree_of(weights)
    drawn = [tree.find(u) for u in rng.random(1_000_000) * tree.total]
    assert np.all(weights[drawn] > 0)


def test_root_does_not_drift() -> None:
    rng = np.random.default_rng(1)
    weights = np.zeros(5000)
    tree = SumTree(5000)
    for _ in range(500):
        indices = rng.integers(0, 5000, 2000)
        values = rng.random(2000) * rng.choice([1e-9, 1e9], 2000)
        tree.set(indices, values)
        weights[indices] = values  # numpy too: the last one wins
    exact = math.fsum(weights)
    assert abs(tree.total - exact) <= 1e-12 * exact


WEIGHTS = st.one_of(
    st.just(0.0), st.floats(0, 1e300, allow_subnormal=True), st.sampled_from([5e-324, 1e-308, 1.0])
)


class SumTreeMachine(RuleBasedStateMachine):
    """Drives the tree and the sums of all its levels with the same calls."""

    @initialize(size=st.one_of(st.integers(1, 40), st.sampled_from([64, 65, 511, 512, 513])))
    def build(self, size: int) -> None:
        self.tree = SumTree(size)
        self.weights = np.zeros(size)

    @rule(updates=st.lists(st.tuples(st.integers(0, 2**16), WEIGHTS), max_size=8))
    def set(self, updates: list[tuple[int, float]]) -> None:
        leaves = np.array([i % len(self.weights) for i, _ in updates], np.int64)
        weights = np.array([weight for _, weight in updates], np.float64)
        self.tree.set(leaves, weights)
        for leaf, weight in zip(leaves, weights, strict=True):
            self.weights[leaf] = weight

    @rule(shares=st.lists(st.floats(-0.5, 1.5), max_size=10))
    def find(self, shares: list[float]) -> None:
        levels = tree_levels(self.weights)
        total = float(levels[-1][0])
        assert self.tree.total == total
        assert total == pytest.approx(math.fsum(self.weights), rel=1e-14)
        if total > 0:
            us = np.array([share * total for share in shares])
            found = np.zeros(len(us), np.int64)
            self.tree.find_into(us, found)
            assert found.tolist() == [find_leaf(levels, max(u, 0.0)) for u in us]
            assert found.tolist() == [self.tree.find(u) for u in us]
            assert (self.weights[found] > 0).all()

    @rule(leaf=st.integers(0, 2**16))
    def get(self, leaf: int) -> None:
        leaf %= len(self.weights)
        assert self.tree.get(leaf) == self.weights[leaf]


TestSumTreeMachine, TestManySumTreesMachine = machine_tests(SumTreeMachine, examples=150, steps=12)
