"""The newest rows of each environment, from which new sequences get their first priorities."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from atari_fast.infra.weights import checked_like
from atari_fast.types import Flag, StepBatch


class NewSequences(NamedTuple):
    """Sequences that an append made."""

    ids: NDArray[np.int64]
    """int64[n], for `update_priorities`."""
    envs: NDArray[np.int64]
    """int64[n]."""
    starts: NDArray[np.int64]
    """int64[n], number of the first unroll row; the rows of an environment count from 0."""
    valid_length: NDArray[np.int64]
    """int64[n], number of valid unroll rows."""
    bootstrap_length: NDArray[np.int64]
    """int64[n], number of rows that exist after those."""


class RecentRows(NamedTuple):
    """Rows of n new sequences from their first unroll row on; T = L + bootstrap_steps."""

    rewards: torch.Tensor
    """float32[T, n], raw reward that arrived with each row."""
    flags: torch.Tensor
    """uint8[T, n], flags that arrived with it."""
    estimates: tuple[torch.Tensor, ...]
    """float32[T, n] each, the actor's estimates."""
    valid_length: torch.Tensor
    """int64[n], valid unroll rows, at the beginning."""
    last: torch.Tensor
    """int64[n], index of the last row that exists."""


Rank = Callable[[RecentRows], torch.Tensor]
"""Initial priorities float32[n] of new sequences, from what their actor estimated."""


class RecentRing:
    """Rewards, flags and estimates of the newest rows of each of E environments.

    One row more than a sequence has from its first unroll row on: a sequence may be known to be
    complete one row late.
    """

    def __init__(self, num_envs: int, length: int, num_estimates: int) -> None:
        """Make an empty ring.

        Args:
            num_envs: E.
            length: T, rows of a sequence from its first unroll row on.
            num_estimates: k, estimates of each row.
        """
        self._length = length
        self._envs = np.arange(num_envs)
        self._heads = np.zeros(num_envs, np.int64)
        self._rewards = np.zeros((length + 1, num_envs), np.float32)
        self._flags = np.zeros((length + 1, num_envs), np.uint8)
        self._estimates = np.zeros((length + 1, num_estimates, num_envs), np.float32)

    def append(
        self,
        step: StepBatch,
        estimates: tuple[NDArray[np.float32], ...],
        envs: NDArray[np.int64] | None,
    ) -> None:
        """Add a row to each of n environments.

        Args:
            step: what arrived in them.
            estimates: the actor's estimates, float32[n] each.
            envs: which environments, int64[n]; None for all E.
        """
        envs = self._envs if envs is None else envs
        place = self._heads[envs] % len(self._rewards)
        self._rewards[place, envs] = step.rewards
        self._flags[place, envs] = step.flags
        self._estimates[place, :, envs] = np.stack(estimates, axis=1)
        self._heads[envs] += 1

    def rows(self, new: NewSequences) -> RecentRows:
        """The rows of sequences that the last append made.

        They end with the newest row of their environment, or with the one before it where that row
        begins an episode although the one before it ended none: games were lost with a worker.
        """
        size = len(self._rewards)
        newest = self._heads[new.envs] - 1
        lost = (self._flags[newest % size, new.envs] & Flag.FIRST) != 0
        last = new.valid_length + new.bootstrap_length - 1
        row = newest - lost - last + np.arange(self._length)[:, None]
        place = np.minimum(row, newest) % size
        estimates = (self._estimates[:, i] for i in range(self._estimates.shape[1]))
        return RecentRows(
            rewards=torch.from_numpy(self._rewards[place, new.envs]),
            flags=torch.from_numpy(self._flags[place, new.envs]),
            estimates=tuple(torch.from_numpy(one[place, new.envs]) for one in estimates),
            valid_length=torch.from_numpy(new.valid_length),
            last=torch.from_numpy(last),
        )

    def state(self) -> list[torch.Tensor]:
        """Rewards [R, E], flags [R, E] and estimates [R, k, E], oldest first; nothing when empty.

        R is the most rows that an environment has; the others begin with rows of zeros.
        """
        rows = min(int(self._heads.max()), len(self._rewards))
        if rows == 0:
            return []
        place = (self._heads - rows + np.arange(rows)[:, None]) % len(self._rewards)
        estimates = self._estimates.transpose(0, 2, 1)[place, self._envs].transpose(0, 2, 1)
        fields = self._rewards[place, self._envs], self._flags[place, self._envs], estimates
        return [torch.from_numpy(np.ascontiguousarray(field)) for field in fields]

    def load_state(self, state: list[torch.Tensor]) -> None:
        """Continue from `state`."""
        self._heads[:] = 0
        for ring in (self._rewards, self._flags, self._estimates):
            ring[:] = 0
        if not state:
            return
        rewards, flags, estimates = state
        rows = min(len(rewards), len(self._rewards))
        _, count, num_envs = self._estimates.shape
        self._rewards[:rows] = checked_like(rewards, torch.empty(rows, num_envs)).numpy()
        template = torch.empty(rows, num_envs, dtype=torch.uint8)
        self._flags[:rows] = checked_like(flags, template).numpy()
        template = torch.empty(rows, count, num_envs)
        self._estimates[:rows] = checked_like(estimates, template).numpy()
        self._heads[:] = rows
