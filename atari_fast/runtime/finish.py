"""What a finished run leaves for its reader: its learning curve and a game by its best agent."""

from __future__ import annotations

from pathlib import Path

import torch

from atari_fast.agents.restore import load_agent
from atari_fast.games import TOYS
from atari_fast.infra.plots import plot_curves
from atari_fast.runtime.recording import record_game

_VIDEO_SECONDS = 300.0


def finish(directory: Path, device: torch.device) -> None:
    """Draws plots/curves.png and records videos/best.mp4 in a run directory."""
    plots, videos = directory / "plots", directory / "videos"
    plots.mkdir(exist_ok=True)
    plot_curves([directory], plots / "curves.png")
    print(f"learning curve: {plots / 'curves.png'}")
    agent = load_agent(directory, "best", device)
    if agent.config.game in TOYS:
        return
    videos.mkdir(exist_ok=True)
    out = videos / "best.mp4"
    epsilon, seed = agent.config.run.eval_epsilon, agent.config.seed
    score, over = record_game(
        agent, out, device, epsilon=epsilon, seed=seed, max_seconds=_VIDEO_SECONDS
    )
    print(
        f"a game of {agent.source.name}, score {score:.0f}{'' if over else ' so far (cut)'}: {out}"
    )
