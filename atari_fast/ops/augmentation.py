"""Changes of observations that leave their values as they are."""

from __future__ import annotations

import torch


def random_shift(frames: torch.Tensor, pixels: int) -> torch.Tensor:
    """Moves the frames of each item by its own random offset (Kostrikov et al. 2021, DrQ, 3.1).

    Up or down and left or right by up to `pixels` each, uniform, the same in all frames of an item,
    so that what moves between them still does; the edge is repeated.

    Args:
        frames: uint8[B, S, H, W]
        pixels: at least 0.

    Returns:
        uint8[B, S, H, W]
    """
    batch, stack, height, width = frames.shape
    offsets = torch.randint(-pixels, pixels + 1, (2, batch, 1), device=frames.device)
    rows = (torch.arange(height, device=frames.device) + offsets[0]).clamp(0, height - 1)
    columns = (torch.arange(width, device=frames.device) + offsets[1]).clamp(0, width - 1)
    source = (rows[:, :, None] * width + columns[:, None]).view(batch, 1, -1)
    return frames.flatten(2).gather(2, source.expand(-1, stack, -1)).view_as(frames)
