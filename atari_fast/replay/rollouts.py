"""Rollouts: what a fixed number of steps of all environments brought."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from atari_fast.errors import CheckpointError
from atari_fast.infra.weights import checked_like
from atari_fast.types import Acted, Flag, StepBatch


class Rollout(NamedTuple):
    """T transitions of E environments, time-major; see `ops.returns` for what they are."""

    rewards: torch.Tensor
    """Raw reward of each transition. float32[T, E]"""
    flags: torch.Tensor
    """Flags that arrived with it, a bit set of `Flag`. uint8[T, E]"""
    valid: torch.Tensor
    """Whether it is real. bool[T, E]"""
    estimates: tuple[torch.Tensor, ...]
    """What the actor estimated at each row. float32[T + 1, E] each"""


class RolloutBatch(NamedTuple):
    """B items of a rollout, time-major: transitions (T = 1), or with an LSTM environments."""

    observations: torch.Tensor
    """uint8[T, B, S, H, W], the frames of a stack interleaved in memory (channels last)."""
    first: torch.Tensor
    """Where an episode begins. bool[T, B]"""
    states: tuple[torch.Tensor, ...]
    """Recurrent state before the first row. float32[B, H] each"""
    actions: torch.Tensor
    """int64[T, B]"""
    estimates: tuple[torch.Tensor, ...]
    """What the actor estimated at each row. float32[T, B] each"""
    targets: tuple[torch.Tensor, ...]
    """float32[T, B] each, as the memory's `targets` returned them."""
    valid: torch.Tensor
    """Which transitions are real; nothing may be learned from others. bool[T, B]"""
    weights: torch.Tensor
    """1 for all items. float32[B]"""
    ids: torch.Tensor
    """Indices of the items, always on the CPU. int64[B]"""

    def slice(self, begin: int, end: int) -> RolloutBatch:
        """Items [begin, end), as views."""

        def cut(name: str, field: Any) -> Any:
            if isinstance(field, tuple):
                return tuple(cut(name, part) for part in field)
            return field[begin:end] if name in ("states", "weights", "ids") else field[:, begin:end]

        return RolloutBatch(**{name: cut(name, field) for name, field in self._asdict().items()})


@dataclass(frozen=True)
class RolloutOptions:
    """Sizes of a rollout memory."""

    steps: int
    """T, transitions of a rollout in each environment."""
    num_envs: int
    """E."""
    frame_shape: tuple[int, int]
    """(height, width) of a frame."""
    stack: int
    """S, frames of an observation."""
    num_actions: int
    """A."""
    lstm: int
    """H, units of the LSTM; 0: there is none, and items are transitions."""
    num_items: int
    """Items of a rollout: E with an LSTM, else E T."""
    num_estimates: int
    """Estimates of the actor."""
    num_targets: int
    """Targets."""
    epochs: int
    """K, how often each rollout is handed out."""
    minibatches: int
    """M, batches of each epoch."""
    normalize: bool
    """Shift and scale the first target of each batch to mean 0 and variance 1."""

    @property
    def bytes_needed(self) -> int:
        """Bytes of the observations of a rollout and of two batches."""
        height, width = self.frame_shape
        batches = 2 * self.steps // self.minibatches
        rows = (self.steps + 1 + batches) * self.num_envs
        return rows * self.stack * height * width


class RolloutMemory:
    """The present rollout. A full one is handed out K times in M random parts, then forgotten.

    A rollout of T transitions is full when row T has arrived, which is the first row of the next
    one. The action of that row is chosen before the learner's updates, since the emulators step
    while it learns: recorded estimates are those of the weights that chose.
    """

    prioritized = False

    def __init__(
        self,
        options: RolloutOptions,
        targets: Callable[[Rollout], tuple[torch.Tensor, ...]],
        seed: int,
    ) -> None:
        """Make an empty memory.

        Args:
            options: sizes.
            targets: computes targets float32[T, E] of a full rollout.
            seed: seed of the random parts.
        """
        self._options = o = options
        self._targets = targets
        self._rng = np.random.default_rng(seed)
        rows = o.steps + 1
        # Stacks are kept as a batch has them: a batch is drawn from each rollout again and again.
        self._stacks = torch.zeros(rows, o.num_envs, *o.frame_shape, o.stack, dtype=torch.uint8)
        self._rewards = torch.zeros(rows, o.num_envs)
        self._flags = torch.zeros(rows, o.num_envs, dtype=torch.uint8)
        self._actions = torch.zeros(rows, o.num_envs, dtype=torch.int64)
        self._estimates = torch.zeros(o.num_estimates, rows, o.num_envs)
        self._states = torch.zeros(2, 2 if o.lstm else 0, o.num_envs, o.lstm)  # rows 0 and T
        self._held = 0
        self._valid = torch.zeros(o.steps, o.num_envs, dtype=torch.bool)
        self._made: tuple[torch.Tensor, ...] = ()
        self._parts: list[torch.Tensor] = []

    def __len__(self) -> int:
        """Batches of the full rollout that are still to be handed out."""
        return len(self._parts)

    @property
    def bytes_used(self) -> int:
        """Bytes that the memory takes."""
        return self._stacks.numel()

    def append(self, step: StepBatch, acted: Acted) -> None:
        """Store what arrived in all environments and what the actor made of it."""
        o = self._options
        if self._held > o.steps:
            self._forget()
        row = self._held
        self._rewards[row] = torch.from_numpy(step.rewards)
        self._flags[row] = torch.from_numpy(step.flags)
        self._actions[row] = torch.from_numpy(acted.actions)
        for mine, estimate in zip(self._estimates, acted.estimates, strict=True):
            mine[row] = torch.from_numpy(estimate)
        _push(self._stacks.numpy()[row], self._stacks.numpy()[row - 1], step)
        if row in (0, o.steps):
            for mine, state in zip(self._states[int(row > 0)], acted.states, strict=True):
                mine.copy_(torch.from_numpy(state))
        self._held += 1
        if self._held > o.steps:
            self._finish()

    def _forget(self) -> None:
        """Begin the next rollout with the last row of this one."""
        for column in (self._stacks, self._rewards, self._flags, self._actions):
            column[0] = column[-1]
        self._estimates[:, 0] = self._estimates[:, -1]
        self._states[0] = self._states[1]
        self._held = 1
        self._parts = []

    def _finish(self) -> None:
        """Compute targets, and draw which items each batch has."""
        o = self._options
        self._valid = (self._flags[1:] & Flag.FIRST) == 0
        self._made = self._targets(
            Rollout(self._rewards[1:], self._flags[1:], self._valid, tuple(self._estimates))
        )
        orders = [self._rng.permutation(o.num_items) for _ in range(o.epochs)]
        self._parts = [
            part for order in orders for part in torch.from_numpy(order).chunk(o.minibatches)
        ]

    def due(self, frames: int, updates: int) -> int:
        """Updates to do now: K M when a rollout is full."""
        del frames, updates
        return len(self._parts)

    def beta(self, progress: float) -> float:
        """Importance exponent, which means nothing here."""
        del progress
        return 0.0

    def new_batch(self, size: int, pinned: bool) -> RolloutBatch:
        """Allocate a batch of `size` items on the CPU, in page-locked memory if `pinned`."""
        o = self._options
        rows = o.steps if o.lstm else 1

        def empty(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
            return torch.zeros(shape, dtype=dtype, pin_memory=pinned)

        stacks = empty(rows, size, *o.frame_shape, o.stack, dtype=torch.uint8)
        return RolloutBatch(
            observations=stacks.movedim(-1, 2),
            first=empty(rows, size, dtype=torch.bool),
            states=tuple(empty(size, o.lstm) for _ in range(2 if o.lstm else 0)),
            actions=empty(rows, size, dtype=torch.int64),
            estimates=tuple(empty(rows, size) for _ in range(o.num_estimates)),
            targets=tuple(empty(rows, size) for _ in range(o.num_targets)),
            valid=empty(rows, size, dtype=torch.bool),
            weights=torch.ones(size, pin_memory=pinned),
            ids=empty(size, dtype=torch.int64),
        )

    def sample_into(self, batch: RolloutBatch, beta: float) -> None:
        """Hand out the next batch of the full rollout."""
        del beta
        o = self._options
        items = self._parts.pop(0)
        batch.ids.copy_(items)
        if o.lstm:
            rows, envs = torch.arange(o.steps)[:, None], items[None]
        else:
            rows, envs = items[None] // o.num_envs, items[None] % o.num_envs
        places = (rows * o.num_envs + envs).flatten()
        stacks = batch.observations.movedim(2, -1).flatten(0, 1)
        torch.index_select(self._stacks.flatten(0, 1), 0, places, out=stacks)
        batch.first.copy_((self._flags[rows, envs] & Flag.FIRST) != 0)
        for mine, state in zip(batch.states, self._states[0], strict=True):
            mine.copy_(state[items])
        batch.actions.copy_(self._actions[rows, envs])
        for mine, estimate in zip(batch.estimates, self._estimates, strict=True):
            mine.copy_(estimate[rows, envs])
        batch.valid.copy_(self._valid[rows, envs])
        for mine, target in zip(batch.targets, self._made, strict=True):
            mine.copy_(target[rows, envs])
        if o.normalize:
            _standardize(batch.targets[0], batch.valid)

    def update_priorities(self, ids: torch.Tensor, priorities: torch.Tensor) -> int:
        """There are none."""
        del ids, priorities
        return 0

    def save(self, path: Path, *, split: bool = False, previous: Path | None = None) -> None:
        """Write the stacks of frames; see `TransitionReplay.save`.

        Raises:
            CheckpointError: the file cannot be written.
        """
        del split, previous
        try:
            path.write_bytes(self._stacks.numpy().tobytes())
        except OSError as error:
            raise CheckpointError(f"{path}: {error.strerror}") from error

    def load(self, path: Path) -> None:
        """Read what `save` wrote.

        Raises:
            CheckpointError: the file is missing, or has another size.
        """
        try:
            data = np.fromfile(path, np.uint8)
        except OSError as error:
            raise CheckpointError(f"{path}: {error.strerror}") from error
        if data.size != self._stacks.numel():
            raise CheckpointError(f"{path}: expected {self._stacks.numel()} bytes, got {data.size}")
        self._stacks.copy_(torch.from_numpy(data).view_as(self._stacks))

    def state(self) -> dict[str, Any]:
        """The rows but for their frames, and the random numbers.

        Batches that were not handed out yet are not in it.
        """
        return {
            "held": self._held,
            "rows": list(self._columns()),
            "rng": self._rng.bit_generator.state,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`."""
        held, rows = int(state["held"]), state["rows"]
        if not 0 <= held <= self._options.steps + 1:
            raise ValueError(f"expected a number of rows, got {held}")
        for mine, saved in zip(self._columns(), rows, strict=True):
            mine.copy_(checked_like(saved, mine))
        if not bool(((self._actions >= 0) & (self._actions < self._options.num_actions)).all()):
            raise ValueError("expected actions of the game")
        self._held = held
        self._rng.bit_generator.state = state["rng"]

    def _columns(self) -> Sequence[torch.Tensor]:
        return (
            *(self._rewards, self._flags, self._actions),
            *(self._estimates, self._states),
        )


def _push(stacks: NDArray[np.uint8], before: NDArray[np.uint8], step: StepBatch) -> None:
    """Write stacks uint8[E, H, W, S]: those `before`, without the oldest frame, and a new frame."""
    if stacks.shape[-1] == 4 and sys.byteorder == "little":  # four frames are one number
        words = stacks.view(np.uint32)[..., 0]
        np.right_shift(before.view(np.uint32)[..., 0], 8, out=words)
        words[(step.flags & Flag.FIRST) != 0] = 0  # frames of the episode before
        words |= step.frames.astype(np.uint32) << 24
        return
    stacks[..., :-1] = before[..., 1:]
    stacks[(step.flags & Flag.FIRST) != 0] = 0
    stacks[..., -1] = step.frames


def _standardize(values: torch.Tensor, valid: torch.Tensor) -> None:
    """Shift and scale the valid ones of float32[T, B] to mean 0 and variance 1."""
    counted = values[valid]
    if len(counted):
        deviation, mean = torch.std_mean(counted, correction=0)
        values.sub_(mean).div_(deviation + 1e-8)
    values.masked_fill_(~valid, 0.0)
