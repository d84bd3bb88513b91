"""What the numbers of a run depend on besides its settings, compared when it is resumed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from atari_fast.config import Config
from atari_fast.errors import CheckpointError
from atari_fast.infra.manifest import library_versions
from atari_fast.runtime.device import MAX_THREADS, Autocast
from atari_fast.runtime.loop import schedules

_LIBRARIES = ("atari_fast", "ale_py", "torch")


def fingerprint(device: torch.device, autocast: Autocast, threads: int) -> dict[str, str]:
    """Device, precision and learner's threads that a run computes with, `auto` resolved."""
    if device.type == "cuda":
        kind = torch.cuda.get_device_name(device)
    else:
        kind = torch.backends.cpu.get_cpu_capability()
    return {
        "device": f"{device.type} ({kind})",
        "precision": "bf16" if autocast.enabled else "fp32",
        "threads": str(threads),
    }


def saved_threads(state: Mapping[str, Any]) -> int:
    """The learner's threads in the state of a checkpoint; 0 where it does not say.

    Raises:
        CheckpointError: it says what no run can have had.
    """
    before = state.get("run", {}).get("conditions", {})
    saved = before.get("threads", "0") if isinstance(before, Mapping) else before
    if not (isinstance(saved, str) and saved.isdecimal() and int(saved) <= MAX_THREADS):
        raise CheckpointError(f"the checkpoint is damaged: conditions.threads is {saved!r}")
    return int(saved)


def schedule_changes(before: Config, now: Config, frames: int) -> list[str]:
    """A sentence for every schedule that jumps at a resume since the run ends at other frames.

    Args:
        before: the settings of the checkpoint.
        now: those of the resumed run.
        frames: emulator frames of the checkpoint.
    """
    learning = max(0, frames - now.replay.min_frames)
    was, has = schedules(before), schedules(now)
    values = [
        (
            "optim.lr",
            now.optim.lr * was.lr_fraction(learning),
            now.optim.lr * has.lr_fraction(learning),
        )
    ]
    if now.replay.prioritized:
        values.append(("beta", was.beta(learning), has.beta(learning)))
    return [
        f"{name} goes from {old:.3g} to {new:.3g} here, since its schedule ends with the run, at "
        f"{now.total_frames:,} frames and no longer at {before.total_frames:,}"
        for name, old, new in values
        if old != new
    ]


def changes(
    versions: Mapping[str, Any], before: Mapping[str, Any], now: Mapping[str, str]
) -> list[str]:
    """A sentence for everything that is another than when a checkpoint was written.

    Args:
        versions: of the libraries, as its manifest has them; one that is missing is not compared.
        before: what `fingerprint` said then; empty for checkpoints of versions that did not ask.
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
