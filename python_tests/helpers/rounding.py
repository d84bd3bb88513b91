"""How far rounding alone may carry a result whose order of sums is up to a CPU's kernels."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike

FLOAT32 = 2.0**-24
"""Largest relative error of one rounding to float32."""
BFLOAT16 = 2.0**-8
"""The same of bfloat16."""


def relative_error(found: torch.Tensor, exact: torch.Tensor | ArrayLike) -> float:
    """Norm of the difference over the norm of `exact`; single numbers may be near 0 by chance."""
    difference, size = (
        np.asarray(values.detach() if isinstance(values, torch.Tensor) else values, np.float64)
        for values in (found, exact)
    )
    difference = difference - size
    return float(np.linalg.norm(difference) / np.linalg.norm(size))


def assert_rounded(
    found: torch.Tensor, exact: torch.Tensor | ArrayLike, *terms: int, unit: float = FLOAT32
) -> None:
    """Checks that `found` is `exact` but for rounding in sums of so many terms, one after another.

    A sum of n terms, in any order, is off by less than n units (Higham 2002, 3.1), and the errors
    of layers add up.
    """
    error, bound = relative_error(found, exact), sum(terms) * unit
    assert found.shape == np.shape(exact)
    assert error <= bound, f"off by {error:.2g} of its size, where rounding explains {bound:.2g}"
