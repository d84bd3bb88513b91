"""Targets and priorities of sequences, time-major: one equation per function."""

from __future__ import annotations

import torch

from atari_fast.types import Flag

_TERMINATED, _LIFE_LOST = int(Flag.TERMINATED), int(Flag.LIFE_LOST)


def row_discounts(
    flags: torch.Tensor, gamma: float | torch.Tensor, zero_on_life_loss: bool
) -> torch.Tensor:
    """gamma_t = gamma, or 0 where row t ends the episode and nothing may be bootstrapped from it.

    Args:
        flags: bit set of `Flag` that arrived with each row. uint8[T, B]
        gamma: discount factor of one agent step, or one for each sequence, float32[B].
        zero_on_life_loss: whether a lost life counts as an end too.

    Returns:
        float32[T, B]
    """
    ends = _TERMINATED | (_LIFE_LOST if zero_on_life_loss else 0)
    return gamma * ((flags & ends) == 0).float()


def n_step_bootstrap(
    rewards: torch.Tensor,
    discounts: torch.Tensor,
    values: torch.Tensor,
    last: torch.Tensor,
    steps: int,
    rows: int,
) -> torch.Tensor:
    """y_t = sum_{k<m} (prod_{j<=k} gamma_{t+j}) r_{t+k+1} + (prod_{j<=m} gamma_{t+j}) V_{t+m}.

    m is `steps`, or fewer where the sequence's last row comes first (truncation, or the end of the
    data). A terminal ends a return by its discount of 0. R2D2 (Kapturowski et al. 2019, 2.3).

    Args:
        rewards: reward that arrived with each row. float32[T, B]
        discounts: gamma_t as `row_discounts` gives them. float32[T, B]
        values: V, value of each row's observation. float32[T, B]
        last: index of the last row that exists. int64[B]
        steps: n, at least 1.
        rows: L, rows that get a target; T is at least L + 1.

    Returns:
        float32[L, B]. Rows from `last` on have no target: their numbers mean nothing.
    """
    index = torch.arange(rows, device=rewards.device)[:, None]
    returns, discount = torch.zeros_like(values[:rows]), torch.ones_like(values[:rows])
    bootstrap = values[:rows]
    for step in range(1, steps + 1):
        row = (index + step).clamp(max=len(values) - 1).expand(-1, values.shape[1])
        exists = index + step <= last
        returns = returns + torch.where(exists, discount * rewards.gather(0, row), 0.0)
        discount = torch.where(exists, discount * discounts.gather(0, row), discount)
        bootstrap = torch.where(exists, values.gather(0, row), bootstrap)
    return returns + discount * bootstrap


def mixed_priority(errors: torch.Tensor, valid: torch.Tensor, eta: float) -> torch.Tensor:
    """P = eta max_t |delta_t| + (1 - eta) mean_t |delta_t| (R2D2, 2.3, eq. 1).

    Args:
        errors: TD errors delta. float32[L, B]
        valid: which rows count, at least one of each sequence. bool[L, B]
        eta: share of the maximum, from 0 to 1.

    Returns:
        float32[B]
    """
    sizes = torch.where(valid, errors.abs(), 0.0)
    mean = sizes.sum(dim=0) / valid.sum(dim=0)
    return eta * sizes.max(dim=0).values + (1 - eta) * mean
