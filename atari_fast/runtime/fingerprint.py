"""What the numbers of a run depend on besides its settings, compared when it is resumed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from atari_fast.errors import CheckpointError
from atari_fast.infra.manifest import library_versions
from atari_fast.runtime.device import MAX_THREADS, Autocast
from atari_fast.runtime.driver import progress

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


def schedule_changes(
    scheduled: Callable[[float], dict[str, float]],
    learning_starts: int,
    frames: int,
    before: int,
    now: int,
) -> list[str]:
    """A sentence for every schedule that jumps at a resume, because the run ends elsewhere.

    Args:
        scheduled: values of the schedules by the fraction of a run's learning that is done.
        learning_starts: emulator frames before the first update.
        frames: emulator frames of the checkpoint.
        before: total frames in the settings of the checkpoint.
        now: total frames of the resumed run.
    """
    was, has = (scheduled(progress(frames, learning_starts, total)) for total in (before, now))
    names = {"lr": "optim.lr"}
    return [
        f"{names.get(name, name)} goes from {was[name]:.3g} to {has[name]:.3g} here, since its "
        f"schedule ends with the run, at {now:,} frames and no longer at {before:,}"
        for name in has
        if was[name] != has[name]
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
