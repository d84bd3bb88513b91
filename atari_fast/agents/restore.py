"""Trained agents from checkpoints and zoo files, ready to play."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch

from atari_fast.agents.agent import Agent
from atari_fast.agents.registry import build
from atari_fast.config import Config
from atari_fast.config_io import from_record
from atari_fast.envs.atari_env import make_env
from atari_fast.errors import CheckpointError
from atari_fast.infra.checkpoint import (
    BEST,
    best_checkpoint,
    latest_checkpoint,
    read_checkpoint,
)
from atari_fast.infra.files import wrap_errors
from atari_fast.infra.manifest import MANIFEST
from atari_fast.infra.weights import load_weights, unpack_state
from atari_fast.seeding import stream
from atari_fast.types import EnvSpec


class TrainedAgent(NamedTuple):
    """An agent as it was saved."""

    source: Path
    """The checkpoint or zoo file."""
    frames: int
    """Emulator frames that it was trained for."""
    config: Config
    spec: EnvSpec
    agent: Agent[Any]

    @property
    def folder(self) -> Path:
        """The run directory of the checkpoint, or the folder of the zoo file."""
        return self.source.parent if self.source.is_file() else self.source.resolve().parents[1]


def load_agent(path: Path, which: str, device: torch.device) -> TrainedAgent:
    """Loads an agent; its replay, which can be large, is not looked at.

    Args:
        path: a run directory, a checkpoint in it, or a zoo file (.safetensors).
        which: `best` by evaluation or `last`; only for run directories. A run that has no
            evaluation yet has no best checkpoint, and its last one is taken.
        device: where the networks go.

    Raises:
        CheckpointError: nothing usable is there, or what is there does not fit its configuration.
    """
    state: dict[str, Any] = {}
    if path.is_file():
        tensors, metadata = load_weights(path)
        record = metadata.get("config")
        source, frames = path, int(metadata.get("frames", 0))
        state = {"parts": metadata.get("parts", {})}
    else:
        checkpoint = read_checkpoint(find_checkpoint(path, which), snapshots=False)
        source, frames = checkpoint.path, checkpoint.frames
        with wrap_errors(source):
            state = unpack_state(checkpoint.tensors["state"], checkpoint.records["state"])
        record, tensors = checkpoint.records.get("config"), checkpoint.tensors.get("online", {})
    with wrap_errors(source):
        config = from_record(record)
    spec = make_env(config.game, config.env, stream(0, "spec")).spec
    with wrap_errors(source):
        agent = build(config, spec, device)
        agent.nets["online"].load_state_dict(tensors)
        for name, part in agent.parts.items():
            if name in state.get("parts", {}):
                part.load_state(state["parts"][name])
    return TrainedAgent(source, frames, config, spec, agent)


def find_checkpoint(path: Path, which: str) -> Path:
    """Returns the checkpoint `which` (see `load_agent`) of a run directory, or `path` if it is one.

    Raises:
        CheckpointError: there is none.
    """
    if (path / MANIFEST).exists():
        return path
    root = path / "checkpoints"
    if not root.is_dir():
        raise CheckpointError(
            f"{path}: no checkpoints are there; expected a run directory, "
            "a checkpoint or a .safetensors file"
        )
    if which == "best" and (root / BEST).exists():
        return best_checkpoint(root, snapshots=False)
    return latest_checkpoint(root, snapshots=False)
