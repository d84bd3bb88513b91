"""All that ties learning to acting: how many updates belong to how many frames."""

from __future__ import annotations


class RateLimiter:
    """One update for every `period` frames after the first `min_frames`, done as soon as it is due.

    That makes a run a function of its seed, whatever the speed of its environments.
    """

    def __init__(self, min_frames: int, period: int) -> None:
        self._min_frames = min_frames
        self._period = period

    def due(self, frames: int, updates: int) -> int:
        """Updates to do now, after `frames` frames of play and `updates` updates."""
        return max(0, frames - self._min_frames) // self._period - updates
