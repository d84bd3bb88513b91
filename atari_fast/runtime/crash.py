"""What a run that met a number which is not finite leaves for its reader."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from atari_fast.agents.agent import Agent, Batch
from atari_fast.agents.registry import build
from atari_fast.config import Config
from atari_fast.config_io import from_record, to_record
from atari_fast.envs.atari_env import make_env
from atari_fast.errors import CheckpointError
from atari_fast.infra.checkpoint import latest_checkpoint, read_checkpoint, write_checkpoint
from atari_fast.infra.files import wrap_errors
from atari_fast.runtime.device import Autocast, select_device
from atari_fast.seeding import stream

CRASH = "crash"
"""Folder of the bundle in a run directory."""


def write_crash(
    directory: Path, frames: int, config: Config, agent: Agent[Any], batch: Batch
) -> Path:
    """Writes networks, batch and settings into `directory`/crash, in the form of a checkpoint.

    Raises:
        CheckpointError: it cannot be written.
    """
    nets = {name: net.state_dict() for name, net in agent.nets.items()}
    tensors = {**nets, "batch": _flat(batch)}
    return write_checkpoint(directory / CRASH, frames, tensors, {"config": to_record(config)}, 1)


def crash_text(
    directory: Path, frames: int, config: Config, agent: Agent[Any], batch: Batch | None
) -> str:
    """Calls `write_crash` if there was a batch; says in a message what became of it."""
    if batch is None:
        return "there was no update yet"
    try:
        path = write_crash(directory, frames, config, agent, batch)
    except CheckpointError as error:
        return str(error)
    return f"{path} has the batch and the networks"


def crashed_loss(directory: Path) -> torch.Tensor:
    """The loss float32[] of the last crash of a run, computed again from its bundle.

    Raises:
        CheckpointError: there is no whole bundle.
    """
    bundle = read_checkpoint(latest_checkpoint(directory / CRASH))
    with wrap_errors(bundle.path):
        config = from_record(bundle.records["config"])
    device = select_device(config.device)
    spec = make_env(config.game, config.env, stream(0, "spec")).spec
    with wrap_errors(bundle.path):
        agent = build(config, spec, device)
        for name, net in agent.nets.items():
            net.load_state_dict(bundle.tensors[name])
        tensors = {name: value.to(device) for name, value in bundle.tensors["batch"].items()}
        batch = _nested(agent.batch_type, tensors)
        with torch.no_grad(), Autocast(device, config.precision)():
            losses = agent.objectives[0].loss(batch).losses
    loss: torch.Tensor = (batch.weights * losses).mean()
    return loss


def _flat(batch: Batch) -> dict[str, torch.Tensor]:
    """The tensors of a batch by name: `field`, or `field.<i>` where a field has several."""
    flat = {}
    for name, value in batch._asdict().items():
        if isinstance(value, tuple):
            flat.update({f"{name}.{i}": part for i, part in enumerate(value)})
        else:
            flat[name] = value
    return flat


def _nested(kind: Any, flat: Mapping[str, torch.Tensor]) -> Any:
    """The batch of class `kind` that `_flat` made flat."""
    values = []
    for name in kind._fields:
        parts = [flat[f"{name}.{i}"] for i in range(len(flat)) if f"{name}.{i}" in flat]
        values.append(flat[name] if name in flat else tuple(parts))
    return kind._make(values)
