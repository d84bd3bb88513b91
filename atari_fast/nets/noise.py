"""Random numbers of networks and losses, from a generator that each thread may choose."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import torch


class _Choice(threading.local):
    generator: torch.Generator | None = None


_choice = _Choice()


@contextlib.contextmanager
def drawing_from(generator: torch.Generator | None) -> Iterator[None]:
    """This thread's `normal` and `uniform` draw from `generator`; None is torch's own."""
    before, _choice.generator = _choice.generator, generator
    try:
        yield
    finally:
        _choice.generator = before


def normal(*shape: int, device: torch.device) -> torch.Tensor:
    """Standard normal numbers, float32[shape]."""
    return torch.randn(*shape, device=device, generator=_choice.generator)


def uniform(*shape: int, device: torch.device) -> torch.Tensor:
    """Numbers uniform in [0, 1), float32[shape]."""
    return torch.rand(*shape, device=device, generator=_choice.generator)
