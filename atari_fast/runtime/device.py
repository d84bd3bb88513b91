"""Which device computes, in which precision, with how many threads."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
from collections.abc import Iterator

import torch

from atari_fast.errors import ConfigError
from atari_fast.infra.cpu import available_cores

MAX_THREADS = 4096
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def select_device(name: str) -> torch.device:
    """The torch device of `--device`; `auto` is CUDA where it is there, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type in ("cpu", "cuda"):
            torch.empty(0, device=device)
            return device
    except (RuntimeError, AssertionError):
        pass
    raise ConfigError(f"device: {name!r} cannot be used here; expected auto, cpu or cuda")


@contextlib.contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Torch's generators of the CPU and of `device` from `seed`, and as they were afterwards."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def set_threads(threads: int) -> None:
    """Sets torch's CPU threads; 0 stands for one for each core that this process may use.

    Raises:
        ConfigError: the number is negative, or more than a machine has.
    """
    if not 0 <= threads <= MAX_THREADS:
        raise ConfigError(f"threads: expected a number from 0 to {MAX_THREADS}, got {threads}")
    torch.set_num_threads(threads or available_cores())


@contextlib.contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Torch splits its operations over so many threads in this block, for few and large ones."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def keep_freed_memory() -> None:
    """Lets the C library keep blocks of up to 32 MB that are freed, 1 GB in all, for the next ones.

    An update frees some 40 MB. Handed back to the system, they return as pages that it clears at
    the first touch, one by one: up to a fifth of an update in bfloat16 on two threads. Other C
    libraries than glibc are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None and platform.libc_ver()[0] == "glibc":
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        mallopt(_M_TRIM_THRESHOLD, 1 << 30)


class Autocast:
    """The precision in which networks compute; parameters and targets stay float32."""

    def __init__(self, device: torch.device, precision: str) -> None:
        self._device_type = device.type
        self.enabled = precision == "bf16" or (precision == "auto" and _computes_bf16(device))
        if device.type == "cuda" and precision == "fp32":  # by default convolutions are in TF32
            torch.backends.cudnn.allow_tf32 = False

    def __call__(self) -> contextlib.AbstractContextManager[object]:
        """A context in which matrix products and convolutions run in bfloat16, if it pays.

        The cache of cast weights is off: weights that were cast in a `no_grad` block would be used
        again, without their gradient, by the forward pass that is trained.
        """
        return torch.autocast(
            self._device_type, torch.bfloat16, enabled=self.enabled, cache_enabled=False
        )


def _computes_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return device.type == "cpu" and supported is not None and bool(supported())
