"""What a finished run leaves for its reader: its learning curve and a game by its best agent."""

from __future__ import annotations

from pathlib import Path

import torch

from atari_fast.agents.restore import load_agent
from atari_fast.games import TOYS
from atari_fast.infra.manifest import MANIFEST
from atari_fast.infra.plots import plot_curves
from atari_fast.runtime.recording import record_game

_VIDEO_SECONDS = 300.0
_CURVES = Path("plots", "curves.png")
_VIDEO = Path("videos", "best.mp4")


def is_finished(directory: Path, game: str, checkpoint: Path) -> bool:
    """Whether `finish` has made all pictures of a run of `game` since `checkpoint`, its last."""
    pictures = [directory / name for name in ((_CURVES,) if game in TOYS else (_CURVES, _VIDEO))]
    saved = (checkpoint / MANIFEST).stat().st_mtime
    return all(picture.exists() and picture.stat().st_mtime >= saved for picture in pictures)


def finish(directory: Path, device: torch.device) -> None:
    """Draws plots/curves.png and records videos/best.mp4 in a run directory."""
    curves, video = directory / _CURVES, directory / _VIDEO
    curves.parent.mkdir(exist_ok=True)
    plot_curves([directory], curves)
    print(f"learning curve: {curves}")
    agent = load_agent(directory, "best", device)
    if agent.config.game in TOYS:
        return
    video.parent.mkdir(exist_ok=True)
    epsilon, seed = agent.config.run.eval_epsilon, agent.config.seed
    score, over = record_game(
        agent, video, device, epsilon=epsilon, seed=seed, max_seconds=_VIDEO_SECONDS
    )
    cut = "" if over else " so far (cut)"
    print(f"a game of {agent.source.name}, score {score:.0f}{cut}: {video}")
