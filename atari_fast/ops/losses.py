"""Losses on temporal-difference errors; the mean over the batch is the learner's."""

from __future__ import annotations

import torch


def huber(td: torch.Tensor, delta: float | torch.Tensor = 1.0) -> torch.Tensor:
    """0.5 td^2 where |td| <= delta, else delta (|td| - 0.5 delta) (Huber 1964, eq. 1.6).

    With delta = 1 its gradient is the TD error clipped to [-1, 1] of Mnih et al. 2015 (Methods).
    With delta = 1 / w the loss times w has the weighted error w td clipped to [-1, 1].

    Args:
        td: errors. float32[B]
        delta: bound of the gradient, above 0: a number, or one for each error, float32[B].

    Returns:
        float32[B]
    """
    clipped = td.abs().clamp(max=delta)
    return clipped * (td.abs() - 0.5 * clipped)


def squared(td: torch.Tensor) -> torch.Tensor:
    """0.5 td^2 of errors float32[B]."""
    return 0.5 * td.square()
