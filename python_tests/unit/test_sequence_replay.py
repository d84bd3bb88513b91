"""The sequence replay beside a numpy reference that keeps all rows and predicts all draws."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from hypothesis.stateful import initialize
from numpy.typing import NDArray

from atari_fast.replay.recent_rows import NewSequences, RecentRows
from atari_fast.replay.sequence import SequenceReplay
from atari_fast.types import Acted, StepBatch
from machines import FRAME, Pair, PairMachine, arrived, machine_tests, moved
from sequence_reference import COLUMNS, STATES, Reference, Row, Settings, Streams


def acted_in(rows: list[Row]) -> tuple[StepBatch, Acted]:
    """What one step of these rows' environments delivers, and what the actor makes of it."""
    step, acted = arrived(rows)
    columns = tuple(np.stack([row.columns[i] for row in rows]) for i in range(len(COLUMNS)))
    states = tuple(np.stack([row.states[i] for row in rows]) for i in range(len(STATES)))
    return step, acted._replace(columns=columns, states=states)


def made_of(new: NewSequences) -> list[tuple[int, ...]]:
    return list(zip(*(field.tolist() for field in new), strict=True))


class SequencePair(Pair):
    def __init__(self, settings: Settings, stream_seed: int) -> None:
        super().__init__(settings, Reference(settings))
        self.streams = Streams(settings.num_envs, stream_seed)

    def append(self, envs: list[int] | None = None) -> None:
        rows, chosen = self.next_rows(envs)
        made = self.replay.append(*acted_in(rows), None if envs is None else np.array(envs))
        expected = self.reference.append(rows, chosen)
        assert made_of(made) == expected
        assert len(self.replay) == self.reference.size
        assert self.replay.num_dropped == sum(env.dropped for env in self.reference.envs)

    def next_rows(self, envs: list[int] | None) -> tuple[list[Row], list[int]]:
        chosen = list(range(self.settings.num_envs)) if envs is None else envs
        return self.streams.step(chosen), chosen

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
        unroll_states=draw(st.booleans()),
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


class RankedPair(SequencePair):
    """A replay whose actor's estimates are the numbers of the rows and of their environments."""

    def __init__(self, settings: Settings, stream_seed: int) -> None:
        super().__init__(settings, stream_seed)
        self.ranked: list[RecentRows] = []
        self.replay = self.build()

    def build(self) -> SequenceReplay:
        def rank(rows: RecentRows) -> torch.Tensor:
            self.ranked.append(rows)
            return torch.ones(len(rows.last))

        config = self.settings.config()
        return SequenceReplay(
            config, self.settings.num_envs, FRAME, COLUMNS, STATES, 1, rank=rank, num_estimates=2
        )

    def append(self, envs: list[int] | None = None) -> None:
        rows, chosen = self.next_rows(envs)
        numbers = [len(self.reference.envs[env].rows) for env in chosen]
        step, acted = acted_in(rows)
        estimates = (np.array(numbers, np.float32), np.array(chosen, np.float32))
        given = None if envs is None else np.array(envs)
        new = self.replay.append(step, acted._replace(estimates=estimates), given)
        assert self.reference.append(rows, chosen) == made_of(new)
        assert bool(self.ranked) == bool(len(new.ids))
        for ranked in self.ranked:
            for n, (env, start) in enumerate(zip(new.envs, new.starts, strict=True)):
                last = int(ranked.last[n])
                held = self.reference.envs[env].rows[start : start + last + 1]
                assert len(held) == last + 1
                assert ranked.rewards[: last + 1, n].tolist() == [row.reward for row in held]
                assert ranked.flags[: last + 1, n].tolist() == [row.flags for row in held]
                assert (ranked.estimates[1][: last + 1, n] == env).all()
                numbers = ranked.estimates[0][: last + 1, n].tolist()
                assert numbers == list(range(start, start + last + 1))
                assert int(ranked.valid_length[n]) == new.valid_length[n]
                assert last == new.valid_length[n] + new.bootstrap_length[n] - 1
        self.ranked.clear()

    def move_to_another_object(self) -> None:
        state = self.replay.state()
        self.replay = moved(self.replay, self.build())
        self.replay.load_state(state)
        again = self.replay.state()
        assert all(map(torch.equal, state["recent"], again["recent"]))


@pytest.mark.parametrize("tail", ["shift", "mask"])
def test_new_sequences_are_ranked_by_the_rows_of_their_own_environment(
    tail: Literal["shift", "mask"],
) -> None:
    pair = RankedPair(Settings(num_envs=3, tail=tail), stream_seed=4)
    rng = np.random.default_rng(5)
    for turn in range(600):
        if turn % 3:
            pair.append_some(rng)
        else:
            pair.append()
        if turn % 40 == 1:
            pair.move_to_another_object()
    lengths = [len(env.rows) for env in pair.reference.envs]
    assert lengths[0] > lengths[1] > lengths[2]
