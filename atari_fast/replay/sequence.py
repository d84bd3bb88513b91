"""Sequences for recurrent learners: the C++ replay behind typed, reusable batch buffers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from atari_fast import _core
from atari_fast.replay.common import frame_memory, load_snapshot, save_snapshot
from atari_fast.types import Acted, StepBatch

TORCH_TYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "uint8": torch.uint8,
    "int32": torch.int32,
    "int64": torch.int64,
}
"""The types that columns and states may have."""


class RowSpec(NamedTuple):
    """A column of every row beside frame, action, reward and flags."""

    name: str
    """Unique among the columns: behaviour_probability, policy, intrinsic_reward, ..."""
    dtype: str
    """float32, float16, uint8, int32 or int64."""
    width: int = 1
    """Elements in a row."""


class StateSpec(NamedTuple):
    """A recurrent state, kept for the first unrolled row of each sequence."""

    name: str
    """Unique among the states: h, c, ..."""
    dtype: str
    """float32 or float16."""
    width: int
    """Elements, 512 for one layer of R2D2."""


@dataclass(frozen=True)
class SequenceConfig:
    """Settings of a sequence replay. Defaults: R2D2 (Kapturowski 2019, table 2).

    The table does not state `tail`, `max_sequences`, `priority_epsilon`, `uniform_mix`,
    `buffer_max_weights`, `stratified`, `frame_gb` and `threads`; their defaults are ours.
    """

    capacity: int = 4_000_000
    """Rows kept over all environments (one agent step of one environment stores one)."""
    stack: int = 4
    """Frames in an observation; 1 for NGU and Agent57."""
    burn_in: int = 40
    """Rows before the unroll window that only produce a recurrent state."""
    unroll: int = 80
    """L, rows that are learned from; 160 for Agent57."""
    period: int = 40
    """Steps from one start to the next, at most L."""
    bootstrap_steps: int = 5
    """Rows after the unroll window to bootstrap from, at least 1; n for full n-step targets."""
    tail: Literal["shift", "mask"] = "shift"
    """At an episode's end: one start shifted back until its window is full, or short windows."""
    max_sequences: int = 0
    """Sequences kept over all environments; 0: 1.25 capacity / period + 2 per environment."""
    prioritized: bool = True
    """Proportional prioritized replay (Schaul 2016) instead of uniform draws."""
    alpha: float = 0.9
    """Exponent of the priorities."""
    eta: float = 0.9
    """Share of the largest |delta| in a priority, beside the mean."""
    priority_epsilon: float = 1e-6
    """Added to a priority before the exponent."""
    uniform_mix: float = 0.0
    """Share of the draws that are uniform over the memory."""
    buffer_max_weights: bool = False
    """Importance weights are divided by the largest of the memory instead of the batch."""
    stratified: bool = True
    """Prioritized draws come one from each of B equal segments of the total priority; uniform draws
    are always independent."""
    frame_gb: float = 0.0
    """Gigabytes that compressed frames may take, beyond which the oldest are dropped early; 0: an
    eighth of the raw frames."""
    threads: int = 1
    """Threads that gather a batch; results do not depend on it."""


class SequenceBatch(NamedTuple):
    """B sequences, time-major; T = burn_in + L + bootstrap_steps.

    Row s, the first unroll row, stands at t = l, the setting `burn_in`, in every sequence. The rows
    of sequence b that exist are t in [l - burn_in[b], l + valid_length[b] + bootstrap_length[b]);
    all others are zeros (-1 in prev_actions) and must influence nothing. `states` belong to the
    first row that exists: on the rows before it the network must leave its state as it is.
    """

    frames: torch.Tensor
    """uint8[stack - 1 + T, B, H, W]; `ops.stacks.cut_sequence_stacks` makes observations of it."""
    actions: torch.Tensor
    """int64[T, B], action taken in row t."""
    prev_actions: torch.Tensor
    """int64[T, B], action taken in row t - 1; -1 where an episode begins and outside it."""
    rewards: torch.Tensor
    """float32[T, B], raw reward that arrived with row t: the network's previous reward at t, and
    the reward of action t - 1. 0 at an episode's first row if the environment delivers 0."""
    flags: torch.Tensor
    """uint8[T, B], bit set of `Flag` that arrived with row t."""
    columns: tuple[torch.Tensor, ...]
    """[T, B, width] each, in the order of the specs."""
    states: tuple[torch.Tensor, ...]
    """[B, width] each, in the order of the specs."""
    burn_in: torch.Tensor
    """int64[B], rows before s that exist: min(burn_in, s)."""
    valid_length: torch.Tensor
    """int64[B], number of valid unroll rows, 1 to L."""
    bootstrap_length: torch.Tensor
    """int64[B], number of rows after those, 1 to bootstrap_steps. The last of them has an
    observation only: what follows its action is not in the sequence."""
    weights: torch.Tensor
    """float32[B], importance weights."""
    ids: torch.Tensor
    """int64[B], for `update_priorities`; always on the CPU."""


class NewSequences(NamedTuple):
    """Sequences that an append made."""

    ids: NDArray[np.int64]
    """int64[n], for `set_priorities`."""
    envs: NDArray[np.int64]
    """int64[n]."""
    starts: NDArray[np.int64]
    """int64[n], number of the first unroll row; the rows of an environment count from 0."""
    valid_length: NDArray[np.int64]
    """int64[n], number of valid unroll rows."""


class SequenceReplay:
    """Sequences of E environments, uniform or prioritized (csrc/replay/sequence_replay.h)."""

    def __init__(
        self,
        config: SequenceConfig,
        num_envs: int,
        frame_shape: tuple[int, int],
        columns: Sequence[RowSpec],
        states: Sequence[StateSpec],
        seed: int,
    ) -> None:
        self.columns = tuple(columns)
        self.states = tuple(states)
        self._config = config
        self._frame_shape = frame_shape
        options = sequence_options(config, num_envs, frame_shape, columns, states, seed)
        self._core = _core.SequenceReplay(options)

    def __len__(self) -> int:
        """Sequences that can be drawn."""
        return self._core.num_sequences

    @property
    def num_dropped(self) -> int:
        """Sequences dropped before their frames were gone, because max_sequences was reached."""
        return self._core.num_dropped

    @property
    def bytes_used(self) -> int:
        """Bytes that the replay takes now."""
        return self._core.bytes_used

    def save(self, path: Path) -> None:
        """Writes the whole state, frames and random numbers included; see `save_snapshot`."""
        save_snapshot(self._core, path)

    def load(self, path: Path) -> None:
        """Goes to the state of a replay with the same settings; see `load_snapshot`."""
        load_snapshot(self._core, path)

    def append(self, step: StepBatch, acted: Acted) -> NewSequences:
        """Stores what arrived in E environments and what the actor made of it.

        Args:
            step: What arrived.
            acted: Actions, columns and states, in the order of the specs.

        Returns:
            The sequences that this made. They have the largest priority seen so far until the
            actor gives them its own, by `update_priorities` with its |delta| or `set_priorities`.
        """
        made = self._core.append(
            step.frames, acted.actions, step.rewards, step.flags, acted.columns, acted.states
        )
        return NewSequences(*np.ascontiguousarray(made.T))

    def new_batch(self, size: int, pinned: bool) -> SequenceBatch:
        """Allocates a batch of `size` sequences on the CPU, in page-locked memory if `pinned`."""

        def empty(*shape: int, dtype: torch.dtype) -> torch.Tensor:
            return torch.zeros(shape, dtype=dtype, pin_memory=pinned)

        config = self._config
        rows = config.burn_in + config.unroll + config.bootstrap_steps
        return SequenceBatch(
            frames=empty(config.stack - 1 + rows, size, *self._frame_shape, dtype=torch.uint8),
            actions=empty(rows, size, dtype=torch.int64),
            prev_actions=empty(rows, size, dtype=torch.int64),
            rewards=empty(rows, size, dtype=torch.float32),
            flags=empty(rows, size, dtype=torch.uint8),
            columns=tuple(
                empty(rows, size, spec.width, dtype=TORCH_TYPES[spec.dtype])
                for spec in self.columns
            ),
            states=tuple(
                empty(size, spec.width, dtype=TORCH_TYPES[spec.dtype]) for spec in self.states
            ),
            burn_in=empty(size, dtype=torch.int64),
            valid_length=empty(size, dtype=torch.int64),
            bootstrap_length=empty(size, dtype=torch.int64),
            weights=empty(size, dtype=torch.float32),
            ids=empty(size, dtype=torch.int64),
        )

    def sample_into(self, batch: SequenceBatch, beta: float) -> None:
        """Draws sequences into a batch of `new_batch`, with importance exponent `beta`."""
        self._core.sample_into(
            beta,
            batch.frames.numpy(),
            batch.actions.numpy(),
            batch.prev_actions.numpy(),
            batch.rewards.numpy(),
            batch.flags.numpy(),
            [column.numpy() for column in batch.columns],
            [state.numpy() for state in batch.states],
            batch.burn_in.numpy(),
            batch.valid_length.numpy(),
            batch.bootstrap_length.numpy(),
            batch.weights.numpy(),
            batch.ids.numpy(),
        )

    def update_priorities(
        self, ids: torch.Tensor, td_abs: torch.Tensor, valid_length: torch.Tensor
    ) -> int:
        """Sets priorities eta max + (1 - eta) mean of |delta| over the valid unroll rows.

        Args:
            ids: int64[B].
            td_abs: float32[L, B]; rows from valid_length[b] on are not looked at.
            valid_length: int64[B], number of valid unroll rows.

        Returns:
            How many sequences were gone.
        """
        return self._core.update_priorities(ids.numpy(), td_abs.numpy(), valid_length.numpy())

    def set_priorities(self, ids: NDArray[np.int64], priorities: NDArray[np.float32]) -> int:
        """Sets priorities float32[n] of ids int64[n]; returns how many sequences were gone."""
        return self._core.set_priorities(ids, priorities)


def sequence_options(
    config: SequenceConfig,
    num_envs: int,
    frame_shape: tuple[int, int],
    columns: Sequence[RowSpec] = (),
    states: Sequence[StateSpec] = (),
    seed: int = 0,
) -> _core.SequenceReplayOptions:
    """Checks the settings; `memory_bytes` of the result is the most that such a replay takes."""
    return _core.SequenceReplayOptions(
        num_envs=num_envs,
        capacity=config.capacity,
        frame_shape=frame_shape,
        stack=config.stack,
        burn_in=config.burn_in,
        unroll=config.unroll,
        period=config.period,
        bootstrap_steps=config.bootstrap_steps,
        tail=config.tail,
        columns=[(spec.name, spec.dtype, spec.width) for spec in columns],
        states=[(spec.name, spec.dtype, spec.width) for spec in states],
        max_sequences=config.max_sequences,
        prioritized=config.prioritized,
        alpha=config.alpha,
        eta=config.eta,
        priority_epsilon=config.priority_epsilon,
        uniform_mix=config.uniform_mix,
        buffer_max_weights=config.buffer_max_weights,
        stratified=config.stratified,
        frame_memory=frame_memory(config.capacity, config.frame_gb, frame_shape),
        threads=config.threads,
        seed=seed,
    )
