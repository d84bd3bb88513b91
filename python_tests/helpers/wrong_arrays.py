"""All ways in which an array can be another than the one that a binding takes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[np.generic]


def unaligned(array: Array) -> Array:
    memory = np.zeros(array.nbytes + 1, np.uint8)[1:]
    return memory.view(array.dtype).reshape(array.shape)


def spread(array: Array, axis: int) -> Array:
    """The same shape with gaps between the elements along `axis`."""
    shape = list(array.shape)
    shape[axis] *= 2
    wide = np.zeros(shape, array.dtype)
    return wide[(slice(None),) * axis + (slice(None, None, 2),)]


def fortran(array: Array) -> Array:
    """Column-major; a vector has no such order, so it gets a stride of 0 instead."""
    if array.ndim == 1:
        return np.broadcast_to(array[:1], array.shape)
    return np.asfortranarray(array)


def read_only(array: Array) -> Array:
    array.flags.writeable = False
    return array


WRONG_TYPES: dict[str, Callable[[Array], object]] = {
    "bool": lambda a: a.astype(np.bool_),
    "int8": lambda a: a.astype(np.int8),
    "int32": lambda a: a.astype(np.int32),
    "uint64": lambda a: a.astype(np.uint64),
    "float16": lambda a: a.astype(np.float16),
    "complex": lambda a: a.astype(np.complex64),
    "datetime": lambda a: a.astype(np.int64).view("M8[s]"),
    "void": lambda a: a.view(f"V{a.itemsize}"),
    "text": lambda a: a.astype("U8"),
    "record": lambda a: np.zeros(a.shape, [("x", a.dtype)]),
    "object": lambda a: a.astype(object),
    "None": lambda a: None,
    "torch tensor": torch.from_numpy,
    "list": lambda a: a.tolist(),
    "tuple": tuple,
    "scalar": lambda a: a.dtype.type(0),
    "int": lambda a: 3,
    "memoryview": lambda a: a.data,
    "bytes": lambda a: a.tobytes(),
    "class": type,
}
WRONG_SHAPES: dict[str, Callable[[Array], Array]] = {
    "0-d": lambda a: np.zeros((), a.dtype),
    "one more axis": lambda a: a[None],
    "one axis less": lambda a: np.zeros(a.shape[1:], a.dtype),
    "flat": lambda a: np.zeros((a.size, 1), a.dtype),
    "longer last axis": lambda a: np.zeros((*a.shape[:-1], a.shape[-1] + 1), a.dtype),
    "shorter last axis": lambda a: np.zeros((*a.shape[:-1], a.shape[-1] - 1), a.dtype),
    "empty last axis": lambda a: np.zeros((*a.shape[:-1], 0), a.dtype),
    "longer first axis": lambda a: np.zeros((a.shape[0] + 1, *a.shape[1:]), a.dtype),
    "empty first axis": lambda a: np.zeros((0, *a.shape[1:]), a.dtype),
    "many axes": lambda a: np.zeros((1,) * 30, a.dtype),
}
WRONG_LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "gaps in the last axis": lambda a: spread(a, a.ndim - 1),
    "gaps in the first axis": lambda a: spread(a, 0),
    "Fortran order": fortran,
    "reversed": lambda a: a[::-1],
    "reversed last axis": lambda a: a[..., ::-1],
    "broadcast": lambda a: np.broadcast_to(a[:1], a.shape),
    "unaligned": unaligned,
}


def swapped(array: Array) -> Array:
    return array.astype(array.dtype.newbyteorder())
