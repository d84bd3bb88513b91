"""Numbers that change with the frames of a run."""

from __future__ import annotations

from collections.abc import Callable


def fraction(frame: int, frames: int) -> float:
    """`frame` / `frames` within [0, 1]; 1 where `frames` is not positive."""
    return min(1.0, max(0.0, frame / frames)) if frames > 0 else 1.0


def linear(start: float, end: float, frames: int) -> Callable[[int], float]:
    """A line from `start` at frame 0 to `end` at frame `frames`, constant before and after."""

    def value(frame: int) -> float:
        share = fraction(frame, frames)
        return (1.0 - share) * start + share * end

    return value
