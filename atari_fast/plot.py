"""`python -m atari_fast.plot curves|action-gap|map|episode RUN [RUN ...]`: pictures of runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from atari_fast.config import Range
from atari_fast.config_io import check_ranges
from atari_fast.errors import ConfigError
from atari_fast.infra.cli import parse_options, run_cli
from atari_fast.infra.files import require_writable

if TYPE_CHECKING:
    from atari_fast.agents.restore import TrainedAgent

GAP = "action-gap"


@dataclass(frozen=True)
class Options:
    """Draw the learning curves of one or more runs, as a PNG and a CSV file."""

    kind: Annotated[Literal["curves", "action-gap", "map", "episode"], tyro.conf.Positional] = (
        "curves"
    )
    """What to draw: curves (scores against frames and time), action-gap (how far the two best
    actions of agents are apart), map (rooms and positions that runs have visited) or episode (the
    intrinsic reward along a game); see also `action-gap --help`, `episode --help`."""
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


@dataclass(frozen=True)
class MapOptions(Options):
    """Draw the rooms and positions that runs of one game have visited, as a PNG and a CSV file.

    The games are hero, montezuma_revenge, pitfall, private_eye and venture.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Run directories, of which the last checkpoint is read, or checkpoints in them."""


@dataclass(frozen=True)
class EpisodeOptions(Options):
    """Play a game with an agent that has an intrinsic reward, and draw it along the game.

    It is the game that `record` records with the same seed. The picture has the screens of the
    highest rewards and, in the games of `map`, the player's path; a CSV file has every step.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """One run directory, checkpoint in it, or zoo file (.safetensors)."""
    which: Literal["best", "last"] = "best"
    """Checkpoint of a run directory: the best by evaluation, or the last one."""
    seed: int = 2001
    """Root of the random numbers of the game."""
    max_seconds: float = 300.0
    """The game is cut after so many seconds of play."""
    device: str = "auto"
    """Torch device; auto: CUDA where it is there."""
    threads: int = 1
    """Torch threads on the CPU; 0: one for each core."""


KINDS: dict[str, type[Options]] = {
    "curves": Options,
    GAP: GapOptions,
    "map": MapOptions,
    "episode": EpisodeOptions,
}


def main(argv: Sequence[str]) -> int:
    """Draws as the command line says; returns the exit code."""
    kind = next((argument for argument in argv if argument in KINDS), "curves")
    options = parse_options(argv, KINDS[kind](), "python -m atari_fast.plot")
    if not options.runs:
        raise ConfigError("runs: expected at least one run directory, got none")
    if options.out and Path(options.out).suffix != ".png":
        raise ConfigError(f"out: expected a file NAME.png, got {options.out}")
    if isinstance(options, GapOptions):
        _plot_gaps(options)
    elif isinstance(options, EpisodeOptions):
        _plot_episode(options)
    elif isinstance(options, MapOptions):
        _plot_maps(options)
    else:
        from atari_fast.infra.plots import plot_curves

        out = Path(options.out) if options.out else options.runs[0] / "plots" / "curves.png"
        print(plot_curves(options.runs, out))
    return 0


def _plot_maps(options: MapOptions) -> None:
    from atari_fast.infra.map_plot import write_maps
    from atari_fast.infra.plots import distinct_names
    from atari_fast.runtime.explored import load_explored

    names = distinct_names([_place(path) for path in options.runs])
    game, runs = load_explored(options.runs, names)
    out = Path(options.out) if options.out else options.runs[0] / "plots" / "map.png"
    for written in write_maps(game, runs, out):
        print(written)


def _plot_episode(options: EpisodeOptions) -> None:
    check_ranges(options, {"seed": Range(0), "max_seconds": Range(0, 1e300, above=True)})
    if len(options.runs) > 1:
        raise ConfigError(f"runs: expected one run, got {len(options.runs)}")
    from atari_fast.agents.restore import load_agent
    from atari_fast.infra.episode_plot import write_episode
    from atari_fast.infra.plots import distinct_names
    from atari_fast.runtime.device import select_device, set_threads
    from atari_fast.runtime.episode_study import study_episode

    device = select_device(options.device)
    set_threads(options.threads)
    agent = load_agent(options.runs[0], options.which, device)
    (name,) = distinct_names([_place(options.runs[0])])
    out = Path(options.out) if options.out else _plots_of(agent) / "episode.png"
    require_writable(out, makes_folders=True)
    episode = study_episode(agent, name, device, seed=options.seed, max_seconds=options.max_seconds)
    for written in write_episode(episode, out):
        print(written)


def _plot_gaps(options: GapOptions) -> None:
    sources = len(options.runs) + 1
    ranges = {"states": Range(sources), "episodes": Range(1), "seed": Range(0)}
    check_ranges(options, ranges)
    from atari_fast.agents.restore import load_agent
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
    folder = _plots_of(next(iter(agents.values())))
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


def _plots_of(agent: TrainedAgent) -> Path:
    """Where pictures of an agent go: beside its zoo file, or in plots/ of its run directory."""
    return agent.folder if agent.source.is_file() else agent.folder / "plots"


def _place(path: Path) -> tuple[str, ...]:
    """The parts of a path, by which a run, a checkpoint or a zoo file is named in the picture."""
    path = path.resolve()
    if path.parent.name == "checkpoints":
        return (*path.parents[2].parts, f"{path.parents[1].name} {path.name}")
    return path.with_suffix("").parts if path.is_file() else path.parts


if __name__ == "__main__":
    run_cli(main)
