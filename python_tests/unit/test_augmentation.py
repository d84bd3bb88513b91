"""Random shifts beside a slow reference in numpy."""

from __future__ import annotations

import numpy as np
import torch

from atari_fast.ops.augmentation import random_shift


def reference(frames: np.ndarray, up: int, left: int) -> np.ndarray:
    """Frames uint8[S, H, W] moved by `up` and `left` pixels, the edge repeated."""
    size = abs(up), abs(left)
    padded = np.pad(frames, ((0, 0), (size[0], size[0]), (size[1], size[1])), mode="edge")
    top, left = size[0] + up, size[1] + left
    return padded[:, top : top + frames.shape[1], left : left + frames.shape[2]]


def test_random_shift_moves_all_frames_of_an_item_alike() -> None:
    torch.manual_seed(0)
    frames = torch.randint(0, 256, (400, 3, 9, 7), dtype=torch.uint8)
    found = random_shift(frames, 2).numpy()
    offsets = [(up, left) for up in range(-2, 3) for left in range(-2, 3)]
    counts = dict.fromkeys(offsets, 0)
    for item, moved in zip(frames.numpy(), found, strict=True):
        fitting = [o for o in offsets if np.array_equal(reference(item, *o), moved)]
        assert len(fitting) == 1
        counts[fitting[0]] += 1
    assert found.dtype == np.uint8
    assert min(counts.values()) >= 4  # 16 on average


def test_random_shift_by_nothing_is_the_same_frames() -> None:
    frames = torch.randint(0, 256, (4, 2, 5, 6), dtype=torch.uint8)
    assert torch.equal(random_shift(frames, 0), frames)


def test_random_shift_may_be_wider_than_the_frame() -> None:
    frames = torch.randint(0, 256, (50, 1, 3, 3), dtype=torch.uint8)
    assert random_shift(frames, 9).shape == frames.shape
