"""The exploration records of runs, from their checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from atari_fast.agents.restore import find_checkpoint
from atari_fast.config_io import from_record
from atari_fast.errors import CheckpointError, ConfigError
from atari_fast.games import canonical_name
from atari_fast.infra.checkpoint import read_checkpoint
from atari_fast.infra.files import wrap_errors
from atari_fast.infra.map_plot import Explored
from atari_fast.places import PLACE_ADDRESSES
from atari_fast.runtime.directory import saved_state


def load_explored(runs: Sequence[Path], names: Sequence[str]) -> tuple[str, list[Explored]]:
    """Reads what runs have visited, from their last checkpoints.

    Args:
        runs: run directories, or checkpoints in them.
        names: what each is called.

    Returns:
        The game of all, and what each has visited.

    Raises:
        CheckpointError: a run has no checkpoint, or none with a record that holds a place.
        ConfigError: the runs are of different games.
    """
    games, found = [], []
    for path, name in zip(runs, names, strict=True):
        checkpoint = read_checkpoint(find_checkpoint(path, "last"), snapshots=False)
        with wrap_errors(checkpoint.path):
            game = canonical_name(from_record(checkpoint.records["config"]).game)
            record = saved_state(checkpoint)["run"].get("exploration")
        if record is None or not len(record["places"]):
            raise CheckpointError(
                f"{path}: its last checkpoint has no exploration record; expected a run of "
                f"{', '.join(PLACE_ADDRESSES)} with this version, and this is one of {game}"
            )
        games.append(game)
        found.append(Explored(name, checkpoint.frames, np.array(record["places"].tolist())))
    if len(set(games)) > 1:
        raise ConfigError(
            f"runs: expected runs of one game, got {' and '.join(sorted(set(games)))}"
        )
    return games[0], found
