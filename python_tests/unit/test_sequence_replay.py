"""The sequence replay beside a numpy reference that keeps all rows and predicts all draws."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.stateful import initialize
from numpy.typing import NDArray

from machines import Pair, PairMachine, arrived, machine_tests
from sequence_reference import COLUMNS, STATES, Reference, Settings, Streams


class SequencePair(Pair):
    def __init__(self, settings: Settings, stream_seed: int) -> None:
        super().__init__(settings, Reference(settings))
        self.streams = Streams(settings.num_envs, stream_seed)

    def append(self) -> None:
        rows = self.streams.step()
        step, acted = arrived(rows)
        columns = tuple(np.stack([row.columns[i] for row in rows]) for i in range(len(COLUMNS)))
        states = tuple(np.stack([row.states[i] for row in rows]) for i in range(len(STATES)))
        made = self.replay.append(step, acted._replace(columns=columns, states=states))
        expected = self.reference.append(rows)
        assert list(zip(*(field.tolist() for field in made), strict=True)) == expected
        assert len(self.replay) == self.reference.size
        assert self.replay.num_dropped == sum(env.dropped for env in self.reference.envs)

    def replay_priorities(self, ids: NDArray[np.int64], priorities: NDArray[np.float32]) -> int:
        return self.replay.update_priorities(torch.from_numpy(ids), torch.from_numpy(priorities))


@st.composite
def all_settings(draw: st.DrawFn) -> Settings:
    unroll = draw(st.integers(1, 7))
    return Settings(
        num_envs=draw(st.integers(1, 3)),
        spare_rows=draw(st.integers(1, 20)),
        odd_capacity=draw(st.integers(0, 2)),
        stack=draw(st.integers(1, 4)),
        burn_in=draw(st.integers(0, 6)),
        unroll=unroll,
        period=draw(st.integers(1, unroll)),
        bootstrap_steps=draw(st.integers(1, 4)),
        tail=draw(st.sampled_from(["shift", "mask"])),
        places=draw(st.sampled_from([0, 0, 1, 3])),
        prioritized=draw(st.booleans()),
        alpha=draw(st.sampled_from([0.0, 0.9, 1.0])),
        mix=draw(st.sampled_from([0.0, 0.2, 1.0])),
        buffer_max_weights=draw(st.booleans()),
        stratified=draw(st.booleans()),
        threads=draw(st.sampled_from([1, 1, 3])),
        seed=draw(st.integers(0, 2**64 - 1)),
    )


class SequenceMachine(PairMachine):
    @initialize(settings=all_settings(), stream_seed=st.integers(0, 1000))
    def build(self, settings: Settings, stream_seed: int) -> None:
        self.pair = SequencePair(settings, stream_seed)


TestSequenceMachine, TestManySequencesMachine = machine_tests(
    SequenceMachine, examples=100, steps=40
)
