"""Ranges of settings: they stand on the fields, as `Annotated[float, Range(0, 1)]`."""

from __future__ import annotations

import typing

FRAMES_PER_STEP = 4
"""Emulator frames of one agent step (action repeat)."""
_MAX_INT = 2**63 - 1


class Range(typing.NamedTuple):
    """The values that a number may have: from `low` to `high`, both included."""

    low: float
    high: float = _MAX_INT
    multiple: int = 1
    """Integers must be multiples of this."""
    above: bool = False
    """Whether `low` itself is excluded."""

    def problem(self, value: float) -> str | None:
        """What is wrong with a value; None when it is in the range."""
        outside = not self.low <= value <= self.high or (self.above and value == self.low)
        if not outside and (self.multiple == 1 or value % self.multiple == 0):
            return None
        kind = f"a multiple of {self.multiple}" if self.multiple > 1 else "a number"
        if self.above:
            bounds = f"above {number_text(self.low)}"
        elif value > self.high or self.high < _MAX_INT:
            bounds = f"from {number_text(self.low)} to {number_text(self.high)}"
        else:
            bounds = f"of at least {number_text(self.low)}"
        return f"expected {kind} {bounds}, got {number_text(value)}"


def number_text(value: float) -> str:
    """A number as messages show it."""
    return f"{value:g}" if isinstance(value, float) else str(value)


POSITIVE = Range(1)
NON_NEGATIVE = Range(0)
FRACTION = Range(0, 1)
PERIOD = Range(FRAMES_PER_STEP, multiple=FRAMES_PER_STEP)
REAL_POSITIVE = Range(0, 1e300, above=True)
REAL_NON_NEGATIVE = Range(0, 1e300)
