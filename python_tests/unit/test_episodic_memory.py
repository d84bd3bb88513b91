"""The episodic memory beside a numpy reference in float64, and what binding and wrapper promise."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from numpy.typing import NDArray

from atari_fast import _core
from atari_fast.errors import CheckpointError
from atari_fast.replay.episodic import EpisodicMemory, EpisodicOptions, core_options
from machines import machine_tests, moved

Floats = NDArray[np.float32]


def sum_in_order(values: list[float]) -> float:
    """One rounding a term, from the left; `sum` compensates from Python 3.12 on."""
    total = 0.0
    for value in values:
        total += value
    return total


class Reference:
    """Section 4 of the paper by brute force over all rows ever given."""

    def __init__(self, options: EpisodicOptions) -> None:
        self.o = options
        self.rows: list[list[Floats]] = [[] for _ in range(options.num_envs)]
        self.means = np.zeros(options.num_envs)
        self.updates = np.zeros(options.num_envs, np.int64)

    def stored(self, row: Floats) -> Floats:
        return row.astype(np.float16).astype(np.float32) if self.o.float16 else row

    def distances(self, env: int, query: Floats) -> NDArray[np.float64]:
        """The k smallest squared distances, from the smallest."""
        kept = np.array(self.rows[env][-self.o.capacity :], np.float64)
        squares = np.square(kept - query.astype(np.float64)).sum(1)
        return np.sort(squares)[: self.o.neighbours]

    def novelty(self, env: int, embedding: Floats) -> float:
        query = self.stored(embedding)
        reward = self.reward(env, query) if self.rows[env] else 0.0
        self.rows[env].append(query)
        return reward

    def reward(self, env: int, query: Floats) -> float:
        o = self.o
        found = self.distances(env, query).tolist()
        self.updates[env] += 1
        count = int(self.updates[env])
        rate = 1 / count if count == 1 or count <= o.mean_updates else o.mean_rate
        self.means[env] += rate * (sum_in_order(found) / len(found) - self.means[env])
        mean = float(self.means[env])
        ratios = [distance / mean if mean > 0 else 0.0 for distance in found]
        spreads = [max(ratio - o.cluster_distance, 0.0) for ratio in ratios]
        total = sum_in_order([o.kernel_epsilon / (x + o.kernel_epsilon) for x in spreads])
        if len(found) < o.neighbours:
            if o.short_memory == "zero":
                return 0.0
            if o.short_memory == "scale":
                total *= o.neighbours / len(found)
        similarity = math.sqrt(total) + o.pseudo_count
        return 0.0 if similarity > o.max_similarity else 1 / similarity


class ExactReference(Reference):
    """Adds in float32 and in the order of the kernel: everything is equal bit for bit."""

    def distances(self, env: int, query: Floats) -> NDArray[np.float64]:
        kept = np.array(self.rows[env][-self.o.capacity :], np.float32)
        squares = np.zeros(len(kept), np.float32)
        for d in range(self.o.dim):
            difference = query[d] - kept[:, d]
            squares += difference * difference
        found: NDArray[np.float64] = np.sort(squares).astype(np.float64)[: self.o.neighbours]
        return found


OPTIONS = st.builds(
    EpisodicOptions,
    num_envs=st.integers(1, 3),
    dim=st.sampled_from([1, 3, 8, 17]),
    capacity=st.sampled_from([1, 5, 33, 64, 130]),
    neighbours=st.sampled_from([1, 2, 10, 70]),
    kernel_epsilon=st.sampled_from([1e-4, 1e-3]),
    cluster_distance=st.sampled_from([0.0, 0.008]),
    pseudo_count=st.sampled_from([0.001, 0.1]),
    max_similarity=st.sampled_from([2.0, 8.0]),
    short_memory=st.sampled_from(["use", "zero", "scale"]),
    mean_updates=st.sampled_from([0, 4, 1000]),
    mean_rate=st.sampled_from([0.0, 1e-3, 0.5, 1.0]),
    float16=st.booleans(),
    threads=st.sampled_from([1, 2]),
)


class EpisodicMachine(RuleBasedStateMachine):
    """Drives the memory and both references with the same calls."""

    @initialize(options=OPTIONS, seed=st.integers(0, 2**31))
    def build(self, options: EpisodicOptions, seed: int) -> None:
        self.options = options
        self.memory = EpisodicMemory(options)
        self.reference = Reference(options)
        self.exact = ExactReference(options)
        self.rng = np.random.default_rng(seed)

    def embeddings(self, whole: bool) -> Floats:
        shape = (self.options.num_envs, self.options.dim)
        if whole:  # rows come again, so that duplicates and ties occur
            return self.rng.integers(-1, 2, shape).astype(np.float32)
        return self.rng.standard_normal(shape, dtype=np.float32)

    @rule(steps=st.integers(1, 60), whole=st.booleans(), share=st.sampled_from([0.5, 1.0]))
    def arrive(self, steps: int, whole: bool, share: float) -> None:
        for _ in range(steps):
            envs = self.rng.permutation(self.options.num_envs)
            envs = envs[self.rng.random(len(envs)) < share]
            rows = self.embeddings(whole)
            rewards = self.memory.novelty(torch.from_numpy(rows), envs)
            expected = [self.reference.novelty(env, rows[env]) for env in envs]
            exact = [self.exact.novelty(env, rows[env]) for env in envs]
            np.testing.assert_allclose(rewards, expected, rtol=1e-5)
            np.testing.assert_array_equal(rewards, np.array(exact, np.float32))

    @rule(steps=st.integers(1, 40))
    def append(self, steps: int) -> None:
        for _ in range(steps):
            rows = self.embeddings(False)
            self.memory.append(torch.from_numpy(rows))
            for env in range(self.options.num_envs):
                self.reference.rows[env].append(self.reference.stored(rows[env]))
                self.exact.rows[env].append(self.exact.stored(rows[env]))

    @rule(env=st.integers(0, 2))
    def reset(self, env: int) -> None:
        envs = np.array([env] if env < self.options.num_envs else [], np.int64)
        self.memory.reset(envs)
        for chosen in envs:
            self.reference.rows[chosen].clear()
            self.exact.rows[chosen].clear()

    @rule()
    def means(self) -> None:
        means, updates = self.memory.running_means()
        np.testing.assert_allclose(means, self.reference.means, rtol=1e-5)
        np.testing.assert_array_equal(means, self.exact.means)
        np.testing.assert_array_equal(updates, self.reference.updates)
        sizes = [min(len(rows), self.options.capacity) for rows in self.reference.rows]
        np.testing.assert_array_equal(self.memory.sizes, sizes)

    @rule(value=st.sampled_from([0.0, 0.5, 7.0]), updates=st.sampled_from([1, 3, 2000]))
    def set_means(self, value: float, updates: int) -> None:
        self.memory.set_running_means(
            np.full(self.options.num_envs, value), np.full(self.options.num_envs, updates)
        )
        for reference in (self.reference, self.exact):
            reference.means[:] = value
            reference.updates[:] = updates

    @rule()
    def move_to_another_object(self) -> None:
        self.memory = moved(self.memory, EpisodicMemory(self.options._replace(threads=3)))


TestEpisodicMachine, TestManyMemoriesMachine = machine_tests(EpisodicMachine, examples=60, steps=12)


def filled(options: EpisodicOptions, steps: int, seed: int = 0) -> EpisodicMemory:
    memory = EpisodicMemory(options)
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        shape = (options.num_envs, options.dim)
        memory.novelty(torch.from_numpy(rng.standard_normal(shape, dtype=np.float32)))
    return memory


@pytest.mark.parametrize("rows", [500, 30_000])
def test_reward_is_that_of_float64_at_full_size(rows: int) -> None:
    options = EpisodicOptions(num_envs=1, capacity=rows)
    memory, reference = EpisodicMemory(options), Reference(options)
    rng = np.random.default_rng(1)
    data = rng.standard_normal((rows + 20, 1, 32), dtype=np.float32)
    for row in data[:-40]:
        memory.append(torch.from_numpy(row))
        reference.rows[0].append(row[0])
    for row in data[-40:]:
        expected = reference.novelty(0, row[0])
        np.testing.assert_allclose(memory.novelty(torch.from_numpy(row)), expected, rtol=1e-5)


@pytest.mark.parametrize("neighbours", [1, 10])  # with and without codes
@pytest.mark.parametrize("float16", [False, True])
def test_results_do_not_depend_on_the_instruction_set(float16: bool, neighbours: int) -> None:
    options = EpisodicOptions(num_envs=2, capacity=300, float16=float16, neighbours=neighbours)
    best = _core.instruction_set()
    results = []
    try:
        for name in _core.instruction_sets():
            _core.set_instruction_set(name)
            means, _ = filled(options, 400).running_means()
            results.append(means.tobytes())
    finally:
        _core.set_instruction_set(best)
    assert len(set(results)) == 1


def test_memory_grows_up_to_what_was_said() -> None:
    options = EpisodicOptions(num_envs=2, capacity=1000, dim=8)
    memory = EpisodicMemory(options)
    assert memory.bytes_used == 0
    assert core_options(options).memory_bytes == 2 * 1024 * 8 * (4 + 1)  # a number and its code
    assert core_options(options._replace(float16=True)).memory_bytes == 2 * 1024 * 8 * (2 + 1)
    assert filled(options, 100).bytes_used == 2 * 128 * 8 * (4 + 1)
    assert filled(options, 1100).bytes_used == core_options(options).memory_bytes


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e16])
def test_a_number_that_is_not_finite_is_refused_with_its_env(value: float) -> None:
    memory = filled(EpisodicOptions(num_envs=3, dim=4), 5)
    rows = torch.zeros(3, 4)
    rows[1, 2] = value
    with pytest.raises(ValueError, match=r"^embeddings: .* in environment 1, dimension 2"):
        memory.novelty(rows)
    assert memory.sizes.tolist() == [5, 5, 5]
    memory.novelty(rows, np.array([0, 2]))
    assert memory.sizes.tolist() == [6, 5, 6]


@pytest.mark.parametrize(
    ("envs", "message"), [([3], r"envs\[0\]"), ([0, -1], r"envs\[1\]"), ([1, 1], r"envs\[1\]")]
)
def test_wrong_envs_are_refused(envs: list[int], message: str) -> None:
    memory = filled(EpisodicOptions(num_envs=3, dim=4), 5)
    with pytest.raises(ValueError, match=f"^{message}"):
        memory.novelty(torch.zeros(3, 4), np.array(envs))
    assert memory.sizes.tolist() == [5, 5, 5]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int32])
def test_embeddings_of_another_type_are_refused(dtype: torch.dtype) -> None:
    memory = EpisodicMemory(EpisodicOptions(num_envs=2, dim=4))
    with pytest.raises(TypeError, match=r"^embeddings: expected float32\[2, 4\]"):
        memory.novelty(torch.zeros(2, 4, dtype=dtype))


def test_embeddings_may_need_gradients() -> None:
    memory = EpisodicMemory(EpisodicOptions(num_envs=2, dim=4))
    assert memory.novelty(torch.zeros(2, 4, requires_grad=True)).tolist() == [0, 0]


BAD_OPTIONS: list[tuple[str, list[object]]] = [
    ("num_envs", [0, -1, 2**62]),
    ("capacity", [0, -1, 2**62]),
    ("dim", [0, -1, 2**62]),
    ("neighbours", [0, -1, 4097]),
    ("kernel_epsilon", [0.0, -1.0, np.nan, np.inf]),
    ("cluster_distance", [-1.0, np.nan, np.inf]),
    ("pseudo_count", [0.0, -1.0, np.nan, np.inf]),
    ("max_similarity", [0.0, -1.0, np.nan, np.inf]),
    ("short_memory", ["", "Use", "none"]),
    ("mean_updates", [-1]),
    ("mean_rate", [-0.1, 1.1, np.nan]),
    ("threads", [0, -1, 257]),
]


@pytest.mark.parametrize(
    ("option", "value"), [(option, value) for option, values in BAD_OPTIONS for value in values]
)
def test_bad_options_are_refused(option: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{option}: "):
        EpisodicMemory(EpisodicOptions(num_envs=2)._replace(**{option: value}))


@pytest.mark.parametrize("option", ["num_envs", "capacity", "dim"])
@pytest.mark.parametrize("value", [0, -1, 2**62])
def test_a_memory_estimate_never_wraps_around(option: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"^{option}: "):
        _ = core_options(EpisodicOptions(num_envs=2)._replace(**{option: value})).memory_bytes


def test_running_means_that_cannot_be_are_refused() -> None:
    memory = filled(EpisodicOptions(num_envs=2, dim=4), 5)
    before = memory.running_means()
    for mean, updates in ((np.nan, 1), (-1.0, 1), (1.0, 0), (1.0, -1), (np.inf, 3)):
        with pytest.raises(ValueError, match=r"^means\[1\]"):
            memory.set_running_means(np.array([1.0, mean]), np.array([1, updates]))
    np.testing.assert_array_equal(memory.running_means(), before)


def test_snapshots_are_refused_by_name(tmp_path: Path) -> None:
    options = EpisodicOptions(num_envs=2, dim=4)
    memory = filled(options, 5)
    path = tmp_path / "memory"
    memory.save(path)
    data = path.read_bytes()
    refusals: list[tuple[EpisodicOptions, Callable[[], object], str]] = [
        (options._replace(neighbours=3), lambda: None, "neighbours is 10 in it and 3 here"),
        (options, lambda: path.write_bytes(data[:-1]), "cut short"),
        (options, lambda: path.write_bytes(b"x" + data[1:]), "no snapshot"),
        (options, path.unlink, "cannot be read"),
    ]
    for wrong, damage, message in refusals:
        damage()
        other = filled(wrong, 3)
        with pytest.raises(CheckpointError, match=f"^{re.escape(str(path))}: .*{message}"):
            other.load(path)
        assert other.sizes.tolist() == [3, 3]
    with pytest.raises(CheckpointError, match="cannot be written"):
        memory.save(tmp_path / "nowhere" / "memory")


def test_other_threads_run_while_a_memory_is_searched() -> None:
    memory = filled(EpisodicOptions(num_envs=2, dim=4, threads=2), 50)
    rows = torch.ones(2, 4)
    threads = [
        threading.Thread(target=lambda: [memory.novelty(rows) for _ in range(200)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert memory.bytes_used > 0
        memory.running_means()
    assert memory.sizes.tolist() == [850, 850]
