"""Sequences for recurrent learners: the C++ replay behind typed, reusable batch buffers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from atari_fast import _core
from atari_fast.config import FRAMES_PER_STEP, SequenceReplayConfig
from atari_fast.errors import NumericError
from atari_fast.replay.common import checked_settings, frame_memory, load_snapshot, save_snapshot
from atari_fast.replay.rate_limiter import RateLimiter
from atari_fast.replay.recent_rows import NewSequences, Rank, RecentRing
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
    """A recurrent state, kept for the first row of each sequence (see `unroll_states`)."""

    name: str
    """Unique among the states: h, c, ..."""
    dtype: str
    """float32 or float16."""
    width: int
    """Elements, 512 for one layer of R2D2."""


@dataclass(frozen=True)
class SequenceConfig(SequenceReplayConfig):
    """All settings of a sequence replay, with those that other settings of an agent decide."""

    stack: int = 4
    """Frames in an observation; 1 for NGU and Agent57."""
    bootstrap_steps: int = 5
    """Rows after the unroll window to bootstrap from, at least 1; n for full n-step targets."""
    unroll_states: bool = False
    """Keep the recurrent states before the first unroll row too."""


TIME_MAJOR = frozenset({"frames", "actions", "prev_actions", "rewards", "flags", "columns"})
"""Fields of a `SequenceBatch` whose second axis is the batch."""


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
    """[B, width] each, in the order of the specs; with `unroll_states` those before the first
    unroll row follow in the same order."""
    burn_in: torch.Tensor
    """int64[B], rows before s that exist: min(burn_in, s)."""
    valid_length: torch.Tensor
    """int64[B], number of valid unroll rows, 1 to L."""
    bootstrap_length: torch.Tensor
    """int64[B], rows that exist after those, 1 to bootstrap_steps. The last of them has an
    observation only: what follows its action is not in the sequence."""
    weights: torch.Tensor
    """float32[B], importance weights."""
    ids: torch.Tensor
    """int64[B], for `update_priorities`; always on the CPU."""

    def slice(self, begin: int, end: int) -> SequenceBatch:
        """Sequences [begin, end), as views."""

        def cut(name: str, field: Any) -> Any:
            if isinstance(field, tuple):
                return tuple(cut(name, part) for part in field)
            return field[:, begin:end] if name in TIME_MAJOR else field[begin:end]

        return SequenceBatch(**{name: cut(name, field) for name, field in self._asdict().items()})


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
        *,
        min_frames: int = 0,
        update_period: int = FRAMES_PER_STEP,
        beta: float = 0.0,
        rank: Rank | None = None,
        num_estimates: int = 0,
    ) -> None:
        """Make an empty replay.

        Args:
            config: sizes and draws.
            num_envs: E.
            frame_shape: (height, width) of a frame.
            columns: further columns of every row.
            states: recurrent states.
            seed: seed of the draws.
            min_frames: emulator frames of play before the first update.
            update_period: emulator frames for each update.
            beta: importance exponent.
            rank: priorities of new sequences, from the estimates of their actor; None leaves
                them the largest priority seen so far.
            num_estimates: number of the actor's estimates, which `rank` takes.
        """
        self.columns = tuple(columns)
        self.states = tuple(states)
        self.prioritized = config.prioritized
        self._config = config
        self._frame_shape = frame_shape
        self._limiter = RateLimiter(min_frames, update_period)
        self._beta = beta
        self._rank = rank if config.prioritized else None
        self._recent = RecentRing(num_envs, config.unroll + config.bootstrap_steps, num_estimates)
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

    def save(self, path: Path, *, split: bool = False, previous: Path | None = None) -> None:
        """Writes all rows and sequences; see `TransitionReplay.save`."""
        save_snapshot(self._core, path, split=split, previous=str(previous or ""))

    def load(self, path: Path) -> None:
        """Goes to the state of a replay with the same settings; see `load_snapshot`."""
        load_snapshot(self._core, path)

    def state(self) -> dict[str, Any]:
        """The recent rows from which initial priorities are computed."""
        return {"recent": self._recent.state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`."""
        self._recent.load_state(state["recent"])

    def due(self, frames: int, updates: int) -> int:
        """Updates to do now, after `frames` emulator frames and `updates` updates."""
        return self._limiter.due(frames, updates)

    def beta(self, progress: float) -> float:
        """Importance exponent, which is constant."""
        del progress
        return self._beta

    def append(
        self, step: StepBatch, acted: Acted, envs: NDArray[np.int64] | None = None
    ) -> NewSequences:
        """Stores what arrived in n environments and what the actor made of it.

        Args:
            step: What arrived.
            acted: Actions, columns and states in the order of the specs, and estimates for `rank`.
                States are rounded to the type of their spec.
            envs: The environments, distinct and in any order, int64[n]; None for all E in order.

        Returns:
            The sequences that this made, which have the priorities that `rank` gives them.

        Raises:
            ValueError: An environment is out of range or comes twice, or an array has another size
                than n; nothing is then stored.
        """
        states = [
            state.astype(spec.dtype, copy=False)
            for state, spec in zip(acted.states, self.states, strict=True)
        ]
        made = self._core.append(
            step.frames, acted.actions, step.rewards, step.flags, acted.columns, states, envs
        )
        new = NewSequences(*np.ascontiguousarray(made.T))
        if self._rank is not None:
            self._recent.append(step, acted.estimates, envs)
            if len(new.ids):
                priorities = self._rank(self._recent.rows(new))
                if not bool(torch.isfinite(priorities).all()):
                    raise NumericError(
                        "initial priorities: the actor's values are not finite; the last "
                        "checkpoint is whole; lower --optim.lr or use --precision fp32"
                    )
                self._core.set_priorities(new.ids, priorities.numpy())
        return new

    def new_batch(self, size: int, pinned: bool) -> SequenceBatch:
        """Allocates a batch of `size` sequences on the CPU, in page-locked memory if `pinned`."""

        def empty(*shape: int, dtype: torch.dtype) -> torch.Tensor:
            return torch.zeros(shape, dtype=dtype, pin_memory=pinned)

        config = self._config
        rows = config.burn_in + config.unroll + config.bootstrap_steps
        states = self.states * (2 if config.unroll_states else 1)
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
            states=tuple(empty(size, spec.width, dtype=TORCH_TYPES[spec.dtype]) for spec in states),
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

    def update_priorities(self, ids: torch.Tensor, priorities: torch.Tensor) -> int:
        """Sets priorities float32[n] of ids int64[n]; returns how many sequences were gone."""
        return self._core.set_priorities(ids.numpy(), priorities.numpy())


def sequence_options(
    config: SequenceConfig,
    num_envs: int,
    frame_shape: tuple[int, int],
    columns: Sequence[RowSpec] = (),
    states: Sequence[StateSpec] = (),
    seed: int = 0,
) -> _core.SequenceReplayOptions:
    """Checks the settings; `memory_bytes` of the result is the most that such a replay takes.

    Raises:
        ConfigError: they do not fit each other.
    """
    with checked_settings():
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
            unroll_states=config.unroll_states,
            max_sequences=config.max_sequences,
            prioritized=config.prioritized,
            alpha=config.alpha,
            priority_epsilon=config.priority_epsilon,
            uniform_mix=config.uniform_mix,
            buffer_max_weights=config.buffer_max_weights,
            stratified=config.stratified,
            frame_memory=frame_memory(config.capacity, config.frame_gb, frame_shape),
            threads=config.threads,
            seed=seed,
        )
