"""`python -m atari_fast.record RUN [--episodes 1]`: mp4 videos of full-colour play."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from atari_fast.errors import CheckpointError, ConfigError, EnvError
from atari_fast.games import TOYS
from atari_fast.infra.cli import parse_options, run_cli


@dataclass(frozen=True)
class Options:
    """Record games of a trained agent."""

    path: Annotated[str, tyro.conf.Positional] = ""
    """A run directory, a checkpoint in it, or a zoo file (.safetensors)."""
    which: Literal["best", "last"] = "best"
    """Checkpoint of a run directory: the best by evaluation, or the last one."""
    episodes: int = 1
    """Games to record, one file each."""
    epsilon: float = 0.01
    """Probability of a random action."""
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
    """Directory of the videos; empty: videos in the run directory, or the directory of the zoo
    file."""


def main(argv: Sequence[str]) -> int:
    """Records as the command line says; returns the exit code."""
    options = parse_options(argv, Options(), "python -m atari_fast.record")
    if not options.path:
        raise ConfigError("path: expected a run directory, a checkpoint or a zoo file, got nothing")
    if options.episodes < 1 or not options.max_seconds > 0 or options.seed < 0:
        raise ConfigError(
            "episodes: expected at least 1, max_seconds: above 0, seed: at least 0, "
            f"got {options.episodes}, {options.max_seconds} and {options.seed}"
        )
    if not 0 <= options.epsilon <= 1:
        raise ConfigError(f"epsilon: expected a number from 0 to 1, got {options.epsilon}")
    from atari_fast.agents.restore import load_agent
    from atari_fast.runtime.device import select_device, set_threads
    from atari_fast.runtime.recording import record_game

    device = select_device(options.device)
    set_threads(options.threads)
    agent = load_agent(Path(options.path), options.which, device)
    folder = agent.folder if agent.source.is_file() else agent.folder / "videos"
    directory = Path(options.out) if options.out else folder
    if agent.config.game in TOYS:
        raise EnvError(f"{agent.config.game}: a toy has no screen; record one of the 57 games")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"{directory}: cannot be made: {error.strerror}") from error
    for seed in range(options.seed, options.seed + options.episodes):
        out = directory / f"{agent.config.game}-{agent.frames}-seed{seed}.mp4"
        score, over = record_game(
            agent,
            out,
            device,
            epsilon=options.epsilon,
            seed=seed,
            max_seconds=options.max_seconds,
        )
        print(f"{out}: score {score:g}{'' if over else ' so far (cut)'}")
    return 0


if __name__ == "__main__":
    run_cli(main)
