"""`python -m atari_fast.evaluate RUN [--episodes 100]`: raw scores of full games."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from atari_fast.errors import CheckpointError, ConfigError
from atari_fast.infra.cli import parse_options, run_cli


@dataclass(frozen=True)
class Options:
    """Evaluate a trained agent: fresh games, no clipping, no life mode, raw scores."""

    path: Annotated[str, tyro.conf.Positional] = ""
    """A run directory, a checkpoint in it, or a zoo file (.safetensors)."""
    which: Literal["best", "last"] = "best"
    """Checkpoint of a run directory: the best by evaluation, or the last one."""
    episodes: int = 100
    """Full games to play."""
    epsilon: float = 0.01
    """Probability of a random action."""
    seed: int = 1001
    """Root of the random numbers of these games."""
    lanes: int = 16
    """Games that run at a time."""
    workers: int = 0
    """Worker processes that share the lanes; 0: none."""
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
    if not (options.episodes >= 1 and options.lanes >= 1 and 0 <= options.workers <= options.lanes):
        raise ConfigError(
            "episodes and lanes: expected at least 1, and workers from 0 to lanes, "
            f"got {options.episodes}, {options.lanes} and {options.workers}"
        )
    if not 0 <= options.epsilon <= 1 or options.seed < 0:
        raise ConfigError(
            "epsilon: expected a number from 0 to 1, and seed: at least 0, "
            f"got {options.epsilon} and {options.seed}"
        )
    from rich.console import Console
    from rich.table import Table

    from atari_fast.agents.restore import load_agent
    from atari_fast.config_io import to_record
    from atari_fast.infra.weights import export_weights
    from atari_fast.runtime.device import Autocast, select_device, set_threads
    from atari_fast.runtime.evaluation import evaluate

    device = select_device(options.device)
    set_threads(options.threads)
    agent = load_agent(Path(options.path), options.which, device)
    env = dataclasses.replace(agent.config.env, workers=options.workers)
    result = evaluate(
        agent.parts.q_values,
        dataclasses.replace(agent.config, env=env),
        agent.spec,
        device,
        Autocast(device, agent.config.precision),
        episodes=options.episodes,
        epsilon=options.epsilon,
        seed=options.seed,
        lanes=options.lanes,
    )
    summary = {"source": str(agent.source), "trained_frames": agent.frames, **result.summary()}
    table = Table(title=f"{agent.source}", show_header=False)
    for key, value in summary.items():
        if key not in ("source", "scores"):
            table.add_row(key, f"{value:,.4g}" if isinstance(value, float) else str(value))
    Console().print(table)
    out = Path(options.out) if options.out else None
    if out is None and agent.source.is_dir():
        named = Path(options.path).resolve() == agent.source.resolve()
        name = agent.source.resolve().name if named else options.which
        out = agent.folder / f"evaluation-{name}.json"
    if out is not None:
        try:
            out.write_text(json.dumps(summary, indent=2) + "\n")
        except OSError as error:
            raise CheckpointError(f"{out}: cannot be written: {error.strerror}") from error
    if options.export:
        run_settings = dataclasses.replace(agent.config.run, dir="")
        metadata = {
            "frames": agent.frames,
            "config": to_record(dataclasses.replace(agent.config, run=run_settings)),
            "evaluation": {**summary, "source": agent.source.name},
        }
        export_weights(Path(options.export), agent.parts.trained.state_dict(), metadata)
    return 0


if __name__ == "__main__":
    run_cli(main)
