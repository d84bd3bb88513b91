"""State machines that drive a structure and its reference: how often; what both replays share."""

from __future__ import annotations

import math
import tempfile
import unittest
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from numpy.typing import NDArray

from atari_fast.types import Acted, Flag, StepBatch

FRAME = (7, 9)
"""Odd, and large enough for a frame that changes little to be shorter as a difference."""
END = Flag.TERMINATED | Flag.TRUNCATED
BAD = (math.nan, math.inf, -math.inf, -1.0, -1e-45)
ODD = np.array([0.0, 1e-45, 1e-38, 1e-6, 1.0, 1e10, 1e38, 3.4e38], np.float32)


def machine_tests(
    machine: type[RuleBasedStateMachine], *, examples: int, steps: int
) -> tuple[type[unittest.TestCase], type[unittest.TestCase]]:
    """The fast test of a state machine, and the slow one of 500 examples of 100 steps."""
    tests = []
    for name, count, length in (("Test", examples, steps), ("TestLong", 500, 100)):
        settings = hypothesis_settings(
            max_examples=count,
            stateful_step_count=length,
            deadline=None,
            derandomize=True,
            database=None,
        )
        tests.append(type(name, (machine.TestCase,), {"settings": settings}))
    return tests[0], pytest.mark.slow(tests[1])


def moved(before: Any, after: Any) -> Any:
    """`after` with the state of `before`, by a file in memory, where no time goes into a disk."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        path = Path(folder) / "snapshot"
        before.save(path)
        after.load(path)
    return after


def next_frame(rng: np.random.Generator, before: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same frame, one that differs in places, or another; no zero: padding is told apart."""
    share = rng.choice([0.0, 0.1, 1.0])
    new = rng.integers(1, 256, FRAME, dtype=np.uint8)
    return np.where(rng.random(FRAME) < share, new, before)


def random_reward(rng: np.random.Generator) -> np.float32:
    return np.float32(rng.choice([-1, 0, 1, 7, rng.normal(), 1e3 * rng.normal()]))


def arrived(rows: list[Any]) -> tuple[StepBatch, Acted]:
    """What one step of the environments of these rows delivers, and the actions then chosen."""
    step = StepBatch(
        np.stack([row.frame for row in rows]),
        np.array([row.reward for row in rows], np.float32),
        np.array([row.flags for row in rows], np.uint8),
    )
    return step, Acted(np.array([row.action for row in rows], np.int64))


class Pair(ABC):
    """A replay and its reference, driven together; every answer must be equal bit for bit
    (importance weights to a millionth)."""

    def __init__(self, settings: Any, reference: Any) -> None:
        self.settings = settings
        self.replay = settings.build()
        self.reference = reference
        self.ids = np.zeros(0, np.int64)
        """Drawn lately."""

    @abstractmethod
    def append(self, envs: list[int] | None = None) -> None:
        """Appends the same row of each of these environments, or of all, to both."""

    def append_some(self, rng: np.random.Generator) -> None:
        """Appends a row of some environments in any order; the first ones come more often."""
        num_envs = self.settings.num_envs
        chosen = np.flatnonzero(rng.random(num_envs) < 0.8 ** np.arange(1, num_envs + 1))
        if len(chosen):
            self.append(rng.permutation(chosen).tolist())

    @abstractmethod
    def replay_priorities(self, ids: NDArray[np.int64], priorities: NDArray[np.float32]) -> int:
        """Sets the replay's priorities; returns how many ids were stale."""

    def sample(self, size: int, beta: float) -> None:
        batch = self.replay.new_batch(size, pinned=False)
        if not self.reference.size:
            with pytest.raises(ValueError, match=r"no (transition|sequence)"):
                self.replay.sample_into(batch, beta)
            return
        for field in batch:
            for tensor in field if isinstance(field, tuple) else [field]:
                tensor.fill_(99)  # what is not written would show
        self.replay.sample_into(batch, beta)
        for name, expected in self.reference.sample(size, beta).items():
            actual = getattr(batch, name)
            pairs = (
                zip(actual, expected, strict=True)
                if isinstance(expected, list)
                else [(actual, expected)]
            )
            for a, e in pairs:
                if name == "weights":
                    # The power is in float32 there, in float64 here: rounding the ratio counts
                    # beta times, rounding beta counts as often as the weight's logarithm is large.
                    size = np.abs(np.log(np.maximum(e, np.finfo(np.float32).tiny))).max()
                    bound = 1e-6 * max(1.0, beta) + 2.0**-23 * float(size)
                    np.testing.assert_allclose(a.numpy(), e, rtol=bound, atol=1e-44)
                else:
                    np.testing.assert_array_equal(a.numpy(), e, err_msg=name, strict=True)
        self.ids = np.concatenate([self.ids, batch.ids.numpy()])[-200:]

    def set(self, ids: NDArray[np.int64], priorities: NDArray[np.float32]) -> None:
        dropped = self.reference.set(ids, priorities.tolist())
        assert self.replay_priorities(ids, priorities) == dropped

    def refuse(self, position: int, bad: float) -> None:
        priorities = np.full(5, 1e9, np.float32)
        priorities[position] = bad
        ids = self.ids[-1].repeat(5)
        with pytest.raises(ValueError, match=rf"^priorities\[{position}\]"):
            self.replay_priorities(ids, priorities)
        ids[position] = self.reference.next_id
        with pytest.raises(ValueError, match=rf"^ids\[{position}\]"):
            self.replay_priorities(ids, np.full(5, 1e9, np.float32))

    def move_to_another_object(self) -> None:
        self.replay = moved(self.replay, self.settings.build())


class PairMachine(RuleBasedStateMachine):
    """A subclass makes the pair."""

    pair: Pair

    @rule(steps=st.integers(1, 12))
    def append(self, steps: int) -> None:
        for _ in range(steps):
            self.pair.append()

    @rule(steps=st.integers(1, 12), seed=st.integers(0, 1000))
    def append_some(self, steps: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(steps):
            self.pair.append_some(rng)

    @rule(size=st.integers(1, 9), beta=st.sampled_from([0.0, 0.4, 1.0, 700.0]))
    def sample(self, size: int, beta: float) -> None:
        self.pair.sample(size, beta)

    def can_update(self) -> bool:
        return self.pair.settings.prioritized and len(self.pair.ids) > 0

    @precondition(can_update)
    @rule(seed=st.integers(0, 1000), count=st.integers(0, 12), odd=st.booleans())
    def set(self, seed: int, count: int, odd: bool) -> None:
        rng = np.random.default_rng(seed)
        values = rng.choice(ODD, count) if odd else rng.exponential(1.0, count).astype(np.float32)
        self.pair.set(rng.choice(self.pair.ids, count), values)

    @precondition(can_update)
    @rule(position=st.integers(0, 4), bad=st.sampled_from(BAD))
    def refuse(self, position: int, bad: float) -> None:
        self.pair.refuse(position, bad)

    @rule()
    def move_to_another_object(self) -> None:
        self.pair.move_to_another_object()
