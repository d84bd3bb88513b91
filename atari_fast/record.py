"""`python -m atari_fast.record RUN [--episodes 1]`: videos of full-colour play."""

from __future__ import annotations

import mimetypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from atari_fast.config import Range
from atari_fast.config_io import check_ranges
from atari_fast.errors import ConfigError, EnvError
from atari_fast.games import TOYS
from atari_fast.infra.cli import parse_options, run_cli
from atari_fast.infra.console import number
from atari_fast.infra.video import SUFFIXES


@dataclass(frozen=True)
class Options:
    """Record games of a trained agent."""

    path: Annotated[str, tyro.conf.Positional] = ""
    """A run directory, a checkpoint in it, or a zoo file (.safetensors)."""
    which: Literal["best", "last"] = "best"
    """Checkpoint of a run directory: the best by evaluation, or the last one."""
    episodes: int = 1
    """Games to record, one file each."""
    epsilon: float | None = None
    """Probability of a random action; None: that of the run's own evaluations, run.eval_epsilon."""
    seed: int = 2001
    """Root of the random numbers of the first game; the next game takes the next seed."""
    max_seconds: float = 300.0
    """A video, and its game, are cut there."""
    device: str = "auto"
    """Torch device; auto: CUDA where it is there."""
    threads: int = 1
    """Torch threads on the CPU; 0: one for each core. Beside another busy process several threads
    wait for each other, and are many times slower than one."""
    out: str = ""
    """A file NAME.webm (VP9) or NAME.mp4 (H.264, or VP9 where OpenCV lacks that) for one game, or
    a directory; empty: videos in the run directory, or the directory of the zoo file."""


def main(argv: Sequence[str]) -> int:
    """Records as the command line says; returns the exit code."""
    options = parse_options(argv, Options(), "python -m atari_fast.record")
    if not options.path:
        raise ConfigError("path: expected a run directory, a checkpoint or a zoo file, got nothing")
    ranges = {
        "episodes": Range(1),
        "seed": Range(0, 2**63 - options.episodes),
        "max_seconds": Range(0, 1e300, above=True),
        "epsilon": Range(0, 1),
    }
    check_ranges(options, ranges)
    out = Path(options.out)
    named = _is_video(out)
    if named and options.episodes > 1:
        raise ConfigError(
            f"out: one file holds one game, got {out} and --episodes {options.episodes}; "
            "name a directory"
        )
    from atari_fast.agents.restore import load_agent
    from atari_fast.runtime.device import select_device, set_threads
    from atari_fast.runtime.recording import record_game

    device = select_device(options.device)
    set_threads(options.threads)
    agent = load_agent(Path(options.path), options.which, device)
    folder = agent.folder if agent.source.is_file() else agent.folder / "videos"
    directory = out if options.out else folder
    if agent.config.game in TOYS:
        raise EnvError(f"{agent.config.game}: a toy has no screen; record one of the 57 games")
    for seed in range(options.seed, options.seed + options.episodes):
        video = out if named else directory / f"{agent.config.game}-{agent.frames}-seed{seed}.webm"
        score, over = record_game(
            agent,
            video,
            device,
            epsilon=agent.config.run.eval_epsilon if options.epsilon is None else options.epsilon,
            seed=seed,
            max_seconds=options.max_seconds,
        )
        print(f"{video}: score {number(score)}{'' if over else ' so far (cut)'}")
    return 0


def _is_video(out: Path) -> bool:
    """Whether --out names a file; what is a directory already is none.

    Raises:
        ConfigError: it is the name of a picture or of another kind of video.
    """
    kind = mimetypes.guess_type(out.name)[0] or ""
    if out.is_dir() or not (out.suffix in SUFFIXES or kind.startswith(("video/", "image/"))):
        return False
    if out.suffix not in SUFFIXES:
        raise ConfigError(f"out: expected NAME.webm, NAME.mp4 or a directory, got {out}")
    return True


if __name__ == "__main__":
    run_cli(main)
