"""Arrays that a binding writes, in one piece of memory: overlap is refused, nearness is not."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

Arrays = dict[str, NDArray[np.generic]]


def pairs(arrays: Arrays) -> list[tuple[str, str]]:
    names = list(arrays)
    return [(later, earlier) for i, later in enumerate(names) for earlier in names[:i]]


def check_overlap(
    call: Callable[[Arrays], object], arrays: Arrays, later: str, earlier: str
) -> None:
    first, second = arrays[earlier], arrays[later]
    memory = np.zeros(first.nbytes + second.nbytes + 8, np.uint8)
    after = -(-first.nbytes // 8) * 8  # the first aligned byte behind
    for shift, fits in ((after, True), (after - 8, False)):
        arrays[earlier] = memory[: first.nbytes].view(first.dtype).reshape(first.shape)
        end = shift + second.nbytes
        arrays[later] = memory[shift:end].view(second.dtype).reshape(second.shape)
        if fits:
            call(arrays)
        else:
            names = rf"^{re.escape(later)}: .*overlaps {re.escape(earlier)}"
            with pytest.raises(ValueError, match=names):
                call(arrays)
