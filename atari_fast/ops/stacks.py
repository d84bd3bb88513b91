"""Observations out of windows of frames."""

from __future__ import annotations

import torch


def cut_stacks(
    frames: torch.Tensor, steps: torch.Tensor, stack: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cuts the observation at s, and the one m steps later, out of a window of frames.

    Args:
        frames: rows s-S+1 to s+n of each transition. uint8[B, S + n, H, W]
        steps: m of each transition, from 1 to n. int64[B]
        stack: S, frames in an observation.

    Returns:
        frames[:, :S] and frames[b, m_b : m_b + S], both uint8[B, S, H, W].
    """
    observation = frames[:, :stack]
    n = frames.shape[1] - stack
    if n == 1 or (not steps.is_cuda and int(steps.min()) == n):  # no short tail: a view will do
        return observation, frames[:, n:]
    rows = steps[:, None] + torch.arange(stack, device=frames.device)
    batch = torch.arange(frames.shape[0], device=frames.device)[:, None]
    return observation, frames[batch, rows]
