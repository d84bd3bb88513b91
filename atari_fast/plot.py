"""`python -m atari_fast.plot curves|action-gap RUN [RUN ...]`: pictures of runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from atari_fast.errors import ConfigError
from atari_fast.infra.cli import parse_options, run_cli

GAP = "action-gap"


@dataclass(frozen=True)
class Options:
    """Draw the learning curves of one or more runs, as a PNG and a CSV file."""

    kind: Annotated[Literal["curves", "action-gap"], tyro.conf.Positional] = "curves"
    """What to draw: curves (scores against frames and time), or action-gap (how far the two best
    actions of agents are apart; see `action-gap --help`)."""
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Run directories."""
    out: str = ""
    """PNG file; empty: plots/<kind>.png in the first run directory. CSV goes beside it."""


@dataclass(frozen=True)
class GapOptions(Options):
    """Measure the action gap of agents of one game in the same states; write a PNG and CSV files.

    The states are, in equal shares, from the own play of each agent and from random play.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Run directories, checkpoints in them, or zoo files (.safetensors)."""
    which: Literal["best", "last"] = "best"
    """Checkpoint of a run directory: the best by evaluation, or the last one."""
    states: int = 4000
    """Shared states in which the gaps are measured; rounded down to equal shares."""
    episodes: int = 10
    """Full games that each agent plays, with the epsilon of its evaluations, and random play."""
    seed: int = 3001
    """Root of all random numbers."""
    device: str = "auto"
    """Torch device; auto: CUDA where it is there."""
    threads: int = 1
    """Torch threads on the CPU; 0: one for each core."""


def main(argv: Sequence[str]) -> int:
    """Draws as the command line says; returns the exit code."""
    default = GapOptions() if GAP in argv else Options()
    options = parse_options(argv, default, "python -m atari_fast.plot")
    if not options.runs:
        raise ConfigError("runs: expected at least one run directory, got none")
    if options.out and Path(options.out).suffix != ".png":
        raise ConfigError(f"out: expected a file NAME.png, got {options.out}")
    if isinstance(options, GapOptions) and options.kind == GAP:
        _plot_gaps(options)
        return 0
    from atari_fast.infra.plots import plot_curves

    out = Path(options.out) if options.out else options.runs[0] / "plots" / "curves.png"
    plot_curves(options.runs, out)
    print(out)
    return 0


def _plot_gaps(options: GapOptions) -> None:
    sources = len(options.runs) + 1
    if options.states < sources or options.episodes < 1 or options.seed < 0:
        raise ConfigError(
            f"states: expected at least {sources}, one from each agent and from random play, "
            "episodes: at least 1, seed: at least 0, "
            f"got {options.states}, {options.episodes} and {options.seed}"
        )
    from atari_fast.agents.restore import TrainedAgent, load_agent
    from atari_fast.infra.gap_plot import RANDOM, write_gap_study
    from atari_fast.runtime.action_gap import check_alike, study_gaps
    from atari_fast.runtime.device import select_device, set_threads

    device = select_device(options.device)
    set_threads(options.threads)
    agents: dict[str, TrainedAgent] = {}
    for path in options.runs:
        name, number = _name(path), 1
        while name in (RANDOM, *agents):
            number += 1
            name = f"{_name(path)} ({number})"
        agents[name] = load_agent(path, options.which, device)
    check_alike(agents)
    study = study_gaps(
        agents,
        device,
        states=options.states,
        episodes=options.episodes,
        seed=options.seed,
        report=print,
    )
    first = next(iter(agents.values()))
    folder = first.folder if first.source.is_file() else first.folder / "plots"
    for out in write_gap_study(study, Path(options.out or folder / f"{GAP}.png")):
        print(out)


def _name(path: Path) -> str:
    """What a run, a checkpoint or a zoo file is called in the picture."""
    path = path.resolve()
    if path.is_file():
        return path.stem
    return f"{path.parents[1].name} {path.name}" if path.parent.name == "checkpoints" else path.name


if __name__ == "__main__":
    run_cli(main)
