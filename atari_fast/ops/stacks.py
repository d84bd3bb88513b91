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
        frames[:, :S] and frames[b, m_b : m_b + S], both uint8[B, S, H, W], channels last in memory.
    """
    observation = _channels_last(frames[:, :stack])
    n = frames.shape[1] - stack
    if n == 1 or (not steps.is_cuda and int(steps.min()) == n):  # no short tail: a view will do
        return observation, _channels_last(frames[:, n:])
    rows = steps[:, None] + torch.arange(stack, device=frames.device)
    batch = torch.arange(frames.shape[0], device=frames.device)[:, None]
    return observation, _channels_last(frames[batch, rows])


def _channels_last(frames: torch.Tensor) -> torch.Tensor:
    """The same frames uint8[B, S, H, W] with the S bytes of a pixel beside each other.

    Convolutions compute in this layout. To turn bytes once takes a fraction of the time of turning
    floats, which every pass through the first layer, forward and backward, did again.
    """
    return torch.stack(frames.unbind(1), dim=-1).permute(0, 3, 1, 2)


def cut_sequence_stacks(frames: torch.Tensor, stack: int) -> torch.Tensor:
    """Cuts the observation of every row out of time-major frames; a view, nothing is copied.

    Frames before an episode are zeros already, and no sequence crosses an episode, so no stack
    needs a mask.

    Args:
        frames: uint8[S - 1 + T, B, H, W], oldest first.
        stack: S, frames in an observation.

    Returns:
        uint8[T, B, S, H, W], with [t, b, k] = frames[t + k, b].
    """
    return frames.unfold(0, stack, 1).permute(0, 1, 4, 2, 3)
