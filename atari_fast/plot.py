"""`python -m atari_fast.plot curves|action-gap RUN [RUN ...]`: pictures of runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from atari_fast.config import Range
from atari_fast.config_io import check_ranges
from atari_fast.errors import ConfigError
from atari_fast.infra.cli import parse_options, run_cli
from atari_fast.infra.files import require_writable

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
    ranges = {"states": Range(sources), "episodes": Range(1), "seed": Range(0)}
    check_ranges(options, ranges)
    from atari_fast.agents.restore import TrainedAgent, load_agent
    from atari_fast.infra.gap_plot import RANDOM, write_gap_study
    from atari_fast.infra.plots import distinct_names
    from atari_fast.runtime.action_gap import check_alike, study_gaps
    from atari_fast.runtime.device import select_device, set_threads

    device = select_device(options.device)
    set_threads(options.threads)
    names = distinct_names([_place(path) for path in options.runs], reserved=(RANDOM,))
    agents: dict[str, TrainedAgent] = {}
    for path, name in zip(options.runs, names, strict=True):
        agents[name] = load_agent(path, options.which, device)
    check_alike(agents)
    first = next(iter(agents.values()))
    folder = first.folder if first.source.is_file() else first.folder / "plots"
    out = Path(options.out) if options.out else folder / f"{GAP}.png"
    require_writable(out, makes_folders=True)
    study = study_gaps(
        agents,
        device,
        states=options.states,
        episodes=options.episodes,
        seed=options.seed,
        report=print,
    )
    for written in write_gap_study(study, out):
        print(written)


def _place(path: Path) -> tuple[str, ...]:
    """The parts of a path, by which a run, a checkpoint or a zoo file is named in the picture."""
    path = path.resolve()
    if path.parent.name == "checkpoints":
        return (*path.parents[2].parts, f"{path.parents[1].name} {path.name}")
    return path.with_suffix("").parts if path.is_file() else path.parts


if __name__ == "__main__":
    run_cli(main)
