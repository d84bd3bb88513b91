"""The action gap and a form that the scale of the values does not change."""

from __future__ import annotations

import torch


def action_gap(q: torch.Tensor) -> torch.Tensor:
    """Q(a1) - Q(a2), the best value less the second best (Bellemare et al. 2016, section 2).

    Args:
        q: action values of at least 2 actions. float32[B, A]

    Returns:
        float32[B]
    """
    best = q.topk(2, dim=1).values
    return best[:, 0] - best[:, 1]


def relative_gap(q: torch.Tensor) -> torch.Tensor:
    """The action gap over max_a Q(a) - min_a Q(a), from 0 to 1; 0 where all values are equal.

    Args:
        q: as in `action_gap`.

    Returns:
        float32[B]
    """
    low, high = q.aminmax(dim=1)
    return action_gap(q) / (high - low).clamp(min=torch.finfo(q.dtype).tiny)
