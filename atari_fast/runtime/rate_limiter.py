"""All that ties learning to acting: how many updates belong to how many frames."""

from __future__ import annotations


class RateLimiter:
    """One update for every `period` frames after the first `min_frames`.

    `tolerance` is how many updates learning may lag behind; with 0 every update is done once it
    is due, which makes a run in one thread a function of its seed.
    """

    def __init__(self, min_frames: int, period: int, tolerance: int = 0) -> None:
        self._min_frames = min_frames
        self._period = period
        self._tolerance = tolerance

    def learning_frames(self, frames: int) -> int:
        """Frames since learning began."""
        return max(0, frames - self._min_frames)

    def due(self, frames: int, updates: int) -> int:
        """Updates to do now, after `frames` frames of play and `updates` updates."""
        behind = self.learning_frames(frames) // self._period - updates
        return behind if behind > self._tolerance else 0
