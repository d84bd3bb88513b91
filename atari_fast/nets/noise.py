"""Random numbers for networks and losses, drawn from a generator chosen per thread."""

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
    """Make `normal` and `uniform` of this thread draw from `generator`; None: torch's default."""
    before, _choice.generator = _choice.generator, generator
    try:
        yield
    finally:
        _choice.generator = before


def normal(*shape: int, device: torch.device) -> torch.Tensor:
    """Samples of the standard normal distribution, float32[shape]."""
    return torch.randn(*shape, device=device, generator=_choice.generator)


def uniform(*shape: int, device: torch.device) -> torch.Tensor:
    """Samples of the uniform distribution on [0, 1), float32[shape]."""
    return torch.rand(*shape, device=device, generator=_choice.generator)
