"""The directory of a run: how it begins, and the files of the replay in its checkpoints."""

from __future__ import annotations

import os
import time
from pathlib import Path

from atari_fast.config import Config
from atari_fast.config_io import to_json
from atari_fast.errors import ConfigError
from atari_fast.infra.checkpoint import Snapshot, open_checkpoints
from atari_fast.infra.files import replace_file
from atari_fast.replay.transition import TransitionReplay

REPLAY = "replay"
"""Name of the replay's file in a checkpoint; one that has it can be resumed."""


def create_run_directory(config: Config) -> tuple[Path, int]:
    """Makes the run directory, which must not hold a run yet, and writes config.json into it.

    Returns:
        The directory, and what `open_checkpoints` gives.

    Raises:
        ConfigError: it holds a run already.
        CheckpointError: it cannot be made or written.
    """
    stamp = time.strftime("%Y%m%d-%H%M%S")
    name = f"{config.game}-{config.preset}-s{config.seed}-{stamp}"
    directory = Path(config.run.dir) if config.run.dir else Path("runs") / name
    if (directory / "config.json").exists() or any(directory.glob("checkpoints/ckpt-*")):
        raise ConfigError(f"run.dir: {directory} holds a run already; name another --run.dir")
    lock = open_checkpoints(directory / "checkpoints")
    try:
        replace_file(directory / "config.json", to_json(config).encode())
    except BaseException:
        os.close(lock)
        raise
    return directory, lock


def replay_snapshot(replay: TransitionReplay, before: Path | None) -> dict[str, Snapshot]:
    """The replay's files; what it has in common with its last snapshot, `before`, is linked."""
    parts = before.parent.glob(f"{REPLAY}-*.bin") if before else ()
    linked = sum(part.stat().st_size for part in parts)
    needed = max(0, replay.bytes_used - linked)
    return {REPLAY: Snapshot(needed, lambda path: replay.save(path, apart=True, previous=before))}
