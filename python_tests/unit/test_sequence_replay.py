"""The sequence replay beside a numpy twin that keeps all rows and predicts every draw exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from atari_fast.types import StepBatch
from sequence_twin import COLUMNS, STATES, Settings, Streams, Twin


class Pair:
    """The replay and its twin, driven together; every answer must be equal bit for bit."""

    def __init__(self, settings: Settings, stream_seed: int) -> None:
        self.settings = settings
        self.replay = settings.build()
        self.twin = Twin(settings)
        self.streams = Streams(settings.lanes, stream_seed)
        self.ids = np.zeros(0, np.int64)

    def append(self) -> None:
        rows = self.streams.step()
        step = StepBatch(
            np.stack([row.frame for row in rows]),
            np.array([row.reward for row in rows], np.float32),
            np.array([row.flags for row in rows], np.uint8),
        )
        made = self.replay.append(
            step,
            np.array([row.action for row in rows], np.int64),
            [np.stack([row.columns[i] for row in rows]) for i in range(len(COLUMNS))],
            [np.stack([row.states[i] for row in rows]) for i in range(len(STATES))],
        )
        expected = self.twin.append(rows)
        assert list(zip(*(field.tolist() for field in made), strict=True)) == expected
        assert len(self.replay) == self.twin.size
        assert self.replay.num_dropped == sum(lane.dropped for lane in self.twin.lanes)

    def sample(self, size: int, beta: float) -> None:
        batch = self.replay.new_batch(size, pinned=False)
        if not self.twin.size:
            with pytest.raises(ValueError, match="no sequence"):
                self.replay.sample_into(batch, beta)
            return
        for field in (batch.frames, *batch.columns, *batch.states):
            field.fill_(99)  # what is not written would show
        self.replay.sample_into(batch, beta)
        for name, expected in self.twin.sample(size, beta).items():
            actual = getattr(batch, name)
            if isinstance(expected, list):
                for a, e in zip(actual, expected, strict=True):
                    np.testing.assert_array_equal(a.numpy(), e, err_msg=name, strict=True)
            else:
                np.testing.assert_array_equal(actual.numpy(), expected, err_msg=name, strict=True)
        self.ids = np.concatenate([self.ids, batch.ids.numpy()])[-200:]

    def update(self, rng: np.random.Generator, count: int, odd: bool) -> None:
        ids = rng.choice(self.ids, count)
        shape = (self.settings.unroll, count)
        td = rng.choice(ODD, shape) if odd else rng.exponential(1.0, shape).astype(np.float32)
        learn = rng.integers(1, self.settings.unroll + 1, count)
        masked = td.copy()
        for b, rows in enumerate(learn):
            masked[rows:, b] = rng.choice(BAD)  # must not be looked at
        tensors = (torch.from_numpy(array) for array in (ids, masked, learn))
        assert self.replay.update_priorities(*tensors) == self.twin.update(ids, td, learn)

    def set(self, rng: np.random.Generator, count: int) -> None:
        ids = rng.choice(self.ids, count)
        priorities = rng.exponential(1.0, count).astype(np.float32)
        dropped = self.twin.set(ids, priorities.tolist())
        assert self.replay.set_priorities(ids, priorities) == dropped

    def refuse(self, position: int, bad: float) -> None:
        priorities = np.full(5, 1e9, np.float32)
        priorities[position] = bad
        ids = self.ids[-1].repeat(5)
        with pytest.raises(ValueError, match=rf"^priorities\[{position}\]"):
            self.replay.set_priorities(ids, priorities)
        ids[position] = (len(self.twin.lanes[0].spans)) * self.settings.lanes
        with pytest.raises(ValueError, match=rf"^ids\[{position}\]"):
            self.replay.set_priorities(ids, np.full(5, 1e9, np.float32))


BAD = (math.nan, math.inf, -math.inf, -1.0, -1e-45)
ODD = np.array([0.0, 1e-45, 1e-38, 1e-6, 1.0, 1e10, 1e38, 3.4e38], np.float32)


@st.composite
def all_settings(draw: st.DrawFn) -> Settings:
    unroll = draw(st.integers(1, 7))
    return Settings(
        lanes=draw(st.integers(1, 3)),
        spare_rows=draw(st.integers(1, 20)),
        odd_capacity=draw(st.integers(0, 2)),
        stack=draw(st.integers(1, 4)),
        burn_in=draw(st.integers(0, 6)),
        unroll=unroll,
        period=draw(st.integers(1, unroll)),
        extra=draw(st.integers(1, 4)),
        tail=draw(st.sampled_from(["shift", "mask"])),
        places=draw(st.sampled_from([0, 0, 1, 3])),
        prioritized=draw(st.booleans()),
        alpha=draw(st.sampled_from([0.0, 0.9, 1.0])),
        eta=draw(st.sampled_from([0.0, 0.9, 1.0])),
        mix=draw(st.sampled_from([0.0, 0.2, 1.0])),
        buffer_max_weights=draw(st.booleans()),
        stratified=draw(st.booleans()),
        threads=draw(st.sampled_from([1, 1, 3])),
        seed=draw(st.integers(0, 2**64 - 1)),
    )


class SequenceMachine(RuleBasedStateMachine):
    @initialize(settings=all_settings(), stream_seed=st.integers(0, 1000))
    def build(self, settings: Settings, stream_seed: int) -> None:
        self.pair = Pair(settings, stream_seed)

    @rule(steps=st.integers(1, 12))
    def append(self, steps: int) -> None:
        for _ in range(steps):
            self.pair.append()

    @rule(size=st.integers(1, 6), beta=st.sampled_from([0.0, 0.6, 1.0, 700.0]))
    def sample(self, size: int, beta: float) -> None:
        self.pair.sample(size, beta)

    def can_update(self) -> bool:
        return self.pair.settings.prioritized and len(self.pair.ids) > 0

    @precondition(can_update)
    @rule(seed=st.integers(0, 1000), count=st.integers(0, 12), odd=st.booleans())
    def update(self, seed: int, count: int, odd: bool) -> None:
        self.pair.update(np.random.default_rng(seed), count, odd)

    @precondition(can_update)
    @rule(seed=st.integers(0, 1000), count=st.integers(0, 12))
    def set(self, seed: int, count: int) -> None:
        self.pair.set(np.random.default_rng(seed), count)

    @precondition(can_update)
    @rule(position=st.integers(0, 4), bad=st.sampled_from(BAD))
    def refuse(self, position: int, bad: float) -> None:
        self.pair.refuse(position, bad)


class ManySequencesMachine(SequenceMachine):
    """The same for longer."""


TestSequenceMachine = SequenceMachine.TestCase
TestSequenceMachine.settings = hypothesis_settings(
    max_examples=100, stateful_step_count=40, deadline=None, derandomize=True, database=None
)

TestManySequencesMachine = pytest.mark.slow(ManySequencesMachine.TestCase)
TestManySequencesMachine.settings = hypothesis_settings(
    max_examples=500, stateful_step_count=100, deadline=None, derandomize=True, database=None
)
