"""`python -m atari_fast.evaluate RUN [--episodes 100]`: raw scores of full games."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from atari_fast.config import EnvConfig, Range
from atari_fast.config_io import check_ranges, ranges, to_record
from atari_fast.errors import CheckpointError, ConfigError
from atari_fast.infra.cli import parse_options, run_cli
from atari_fast.infra.console import number
from atari_fast.infra.files import reason, require_writable


@dataclass(frozen=True)
class Options:
    """Evaluate a trained agent: fresh games, no clipping, no life mode, raw scores."""

    path: Annotated[str, tyro.conf.Positional] = ""
    """A run directory, a checkpoint in it, or a zoo file (.safetensors)."""
    which: Literal["best", "last"] = "best"
    """Checkpoint of a run directory: the best by evaluation, or the last one."""
    episodes: int = 100
    """Full games to play."""
    epsilon: float | None = None
    """Probability of a random action; None: that of the run's own evaluations, run.eval_epsilon."""
    seed: int = 1001
    """Root of the random numbers of these games."""
    num_envs: int = 16
    """Games that run at a time."""
    num_workers: int = 0
    """Worker processes that share the environments; 0: none."""
    device: str = "auto"
    """Torch device; auto: CUDA where it is there."""
    threads: int = 1
    """Torch threads on the CPU; 0: one for each core. Beside another busy process several threads
    wait for each other, and are many times slower than one."""
    out: str = ""
    """JSON file for the result; empty: evaluation-<which>.json in the run directory, or
    evaluation-<checkpoint>.json for a checkpoint, none for a zoo file."""
    export: str = ""
    """File NAME.safetensors for the agent, its settings and this result, as the zoo keeps them."""


def main(argv: Sequence[str]) -> int:
    """Evaluates as the command line says; returns the exit code."""
    options = parse_options(argv, Options(), "python -m atari_fast.evaluate")
    if not options.path:
        raise ConfigError("path: expected a run directory, a checkpoint or a zoo file, got nothing")
    allowed = {
        "episodes": Range(1),
        "num_envs": ranges(EnvConfig)["num_envs"],
        "num_workers": Range(0, options.num_envs),
        "epsilon": Range(0, 1),
        "seed": Range(0),
    }
    check_ranges(options, allowed)
    import torch

    from atari_fast.agents.restore import load_agent
    from atari_fast.infra.manifest import library_versions
    from atari_fast.infra.weights import export_weights
    from atari_fast.runtime.device import Autocast, select_device, set_threads
    from atari_fast.runtime.evaluation import evaluate

    device = select_device(options.device)
    set_threads(options.threads)
    agent = load_agent(Path(options.path), options.which, device)
    out = Path(options.out) if options.out else None
    if out is None and agent.source.is_dir():
        named = Path(options.path).resolve() == agent.source.resolve()
        name = agent.source.resolve().name if named else options.which
        out = agent.folder / f"evaluation-{name}.json"
    if out is not None:
        require_writable(out)
    if options.export:
        require_writable(Path(options.export), makes_folders=True)
    env = dataclasses.replace(agent.config.env, num_workers=options.num_workers)
    autocast = Autocast(device, agent.config.precision)
    result = evaluate(
        agent.agent,
        dataclasses.replace(agent.config, env=env),
        agent.spec,
        device,
        autocast,
        episodes=options.episodes,
        epsilon=agent.config.run.eval_epsilon if options.epsilon is None else options.epsilon,
        seed=options.seed,
        num_envs=options.num_envs,
    )
    summary = {
        "source": str(agent.source),
        "trained_frames": agent.frames,
        **result.summary(),
        "num_envs": min(options.num_envs, options.episodes),
        "precision": "bf16" if autocast.enabled else "fp32",
        "device": device.type,
        "threads": torch.get_num_threads(),
        "versions": library_versions(),
    }
    try:
        if out is not None:
            _write_json(out, summary)
        if options.export:
            run_settings = dataclasses.replace(agent.config.run, dir="")
            metadata = {
                "frames": agent.frames,
                "config": to_record(dataclasses.replace(agent.config, run=run_settings)),
                "evaluation": {**summary, "source": agent.source.name},
                "parts": {name: part.state() for name, part in agent.agent.parts.items()},
            }
            export_weights(Path(options.export), agent.agent.nets["online"].state_dict(), metadata)
    finally:  # the games are played: what they gave is shown at any rate
        _show(summary)
    return 0


def _write_json(out: Path, summary: dict[str, Any]) -> None:
    try:
        out.write_text(json.dumps(summary, indent=2) + "\n")
    except OSError as error:
        raise CheckpointError(f"{out}: cannot be written: {reason(error)}") from error


def _show(summary: dict[str, Any]) -> None:
    """Prints a line for each value but the single scores."""
    print(summary["source"])
    for key, value in summary.items():
        if key in ("source", "scores", "versions"):
            continue
        numeric = isinstance(value, int | float) and not isinstance(value, bool) and key != "seed"
        print(f"  {key:<18}  {number(value) if numeric else value}")


if __name__ == "__main__":
    run_cli(main)
