"""Numbers that change with the frames of a run."""

from __future__ import annotations

from collections.abc import Callable


def fraction(frame: int, frames: int) -> float:
    """`frame` / `frames` within [0, 1]; 1 where `frames` is not positive."""
    return min(1.0, max(0.0, frame / frames)) if frames > 0 else 1.0


def interpolate(start: float, end: float, share: float) -> float:
    """The value at a fraction `share`, from 0 to 1, of the way from `start` to `end`."""
    return (1.0 - share) * start + share * end


def linear(start: float, end: float, frames: int) -> Callable[[int], float]:
    """A line from `start` at frame 0 to `end` at frame `frames`, constant before and after."""

    def value(frame: int) -> float:
        return interpolate(start, end, fraction(frame, frames))

    return value
