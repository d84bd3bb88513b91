"""The directory of a run: how it begins, and the files of the replay in its checkpoints."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from pathlib import Path
from typing import Any

from atari_fast.agents.agent import Memory
from atari_fast.config import Config
from atari_fast.config_io import to_json
from atari_fast.errors import CheckpointError, ConfigError
from atari_fast.infra.checkpoint import Checkpoint, Snapshot, open_checkpoints
from atari_fast.infra.console import warn
from atari_fast.infra.files import reason, remove, replace_file, wrap_errors
from atari_fast.infra.logging import METRICS
from atari_fast.infra.weights import unpack_state

CONFIG = "config.json"
"""Name of the settings in a run directory."""
REPLAY = "replay"
"""Name of the replay's file in a checkpoint; one that has it can be resumed."""


def create_run_directory(config: Config) -> tuple[Path, int]:
    """Makes the run directory, in which no checkpoint may be yet, and writes config.json into it.

    Where a run ended before its first checkpoint this one begins anew, and says so; metrics of the
    other are kept as `metrics.jsonl.old`.

    Returns:
        The directory, and what `open_checkpoints` gives.

    Raises:
        ConfigError: it holds a run already.
        CheckpointError: it cannot be made or written.
    """
    directory = Path(config.run.dir) if config.run.dir else _new_directory(config)
    if holds_checkpoint(directory):
        raise ConfigError(
            f"run.dir: {directory} holds a run already; go on with --resume {directory}, or name "
            "another --run.dir"
        )
    lock = open_checkpoints(directory / "checkpoints")
    try:
        if (directory / CONFIG).exists():
            warn(f"{directory}: nothing was saved there yet; the run begins anew")
            with contextlib.suppress(FileNotFoundError):
                (directory / METRICS).replace(directory / f"{METRICS}.old")
            for events in directory.glob("events.out.tfevents.*"):
                remove(events)
        replace_file(directory / CONFIG, to_json(config).encode())
    except BaseException:
        os.close(lock)
        raise
    return directory, lock


def holds_checkpoint(directory: Path) -> bool:
    """Whether a run directory has anything that a run could go on from, whole or not."""
    return any(directory.glob("checkpoints/ckpt-*"))


def saved_state(checkpoint: Checkpoint) -> dict[str, Any]:
    """What a checkpoint holds besides networks and replay.

    Raises:
        CheckpointError: it does not fit together.
    """
    with wrap_errors(checkpoint.path):
        return unpack_state(checkpoint.tensors["state"], checkpoint.records["state"])


def _new_directory(config: Config) -> Path:
    """A directory of its own in runs/, also for runs that start in the same second."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    name = f"{config.game}-{config.preset}-s{config.seed}-{stamp}"
    for number in itertools.count(1):
        directory = Path("runs") / (name if number == 1 else f"{name}-{number}")
        try:
            directory.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise CheckpointError(f"{directory}: cannot be made: {reason(error)}") from error
        return directory
    raise AssertionError  # the numbers do not end


def replay_snapshot(memory: Memory[Any], before: Path | None) -> dict[str, Snapshot]:
    """The replay's files; what it has in common with its last snapshot, `before`, is linked."""
    parts = before.parent.glob(f"{REPLAY}-*.bin") if before else ()
    linked = sum(part.stat().st_size for part in parts)
    needed = max(0, memory.bytes_used - linked)
    return {REPLAY: Snapshot(needed, lambda path: memory.save(path, split=True, previous=before))}
