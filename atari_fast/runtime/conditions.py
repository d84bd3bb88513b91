"""What the numbers of a run depend on besides its settings, compared when it is resumed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from atari_fast.infra.manifest import library_versions
from atari_fast.runtime.device import Autocast

_LIBRARIES = ("atari_fast", "ale_py", "torch")


def conditions(device: torch.device, autocast: Autocast) -> dict[str, str]:
    """Device, precision and threads that this process computes with, `auto` resolved."""
    if device.type == "cuda":
        kind = torch.cuda.get_device_name(device)
    else:
        kind = torch.backends.cpu.get_cpu_capability()
    return {
        "device": f"{device.type} ({kind})",
        "precision": "bf16" if autocast.enabled else "fp32",
        "threads": str(torch.get_num_threads()),
    }


def changes(
    versions: Mapping[str, Any], before: Mapping[str, Any], now: Mapping[str, str]
) -> list[str]:
    """A sentence for everything that is another than when a checkpoint was written.

    Args:
        versions: of the libraries, as its manifest has them; one that is missing is not compared.
        before: what `conditions` said then; empty for checkpoints of versions that did not ask.
        now: what it says now.
    """
    was = {name: versions[name] for name in _LIBRARIES if name in versions} | dict(before)
    has = library_versions() | dict(now)
    return [
        f"{name} was {was[name]} and is {has[name]}, so the run need not end as the one that never "
        "stopped"
        for name in was
        if name in has and was[name] != has[name]
    ]
