"""The directory of a new run."""

from __future__ import annotations

import os
import time
from pathlib import Path

from atari_fast.config import Config
from atari_fast.config_io import to_json
from atari_fast.errors import ConfigError
from atari_fast.infra.checkpoint import open_checkpoints
from atari_fast.infra.files import replace_file


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
