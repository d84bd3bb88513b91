"""What a finished run leaves for its reader: its learning curve and a game by its best agent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from atari_fast.agents.restore import load_agent
from atari_fast.errors import AtariFastError, raise_interrupt
from atari_fast.games import TOYS
from atari_fast.infra.console import number, say, warn
from atari_fast.infra.manifest import MANIFEST
from atari_fast.infra.plots import plot_curves
from atari_fast.runtime.recording import record_game

_VIDEO_SECONDS = 300.0
_CURVES = Path("plots", "curves.png")
_VIDEO = Path("videos", "best.webm")


def is_finished(directory: Path, game: str, checkpoint: Path) -> bool:
    """Whether `finish` has made all pictures of a run of `game` since `checkpoint`, its last."""
    pictures = [directory / name for name in ((_CURVES,) if game in TOYS else (_CURVES, _VIDEO))]
    saved = (checkpoint / MANIFEST).stat().st_mtime
    return all(picture.exists() and picture.stat().st_mtime >= saved for picture in pictures)


def finish(directory: Path, device: torch.device) -> None:
    """Draws plots/curves.png and records videos/best.webm in a run directory.

    Each that cannot be made costs a warning: the run is saved by then.
    """
    _try("learning curve", lambda: _draw_curve(directory))
    _try("video", lambda: _record_best(directory, device))


def _try(what: str, make: Callable[[], None]) -> None:
    try:
        make()
    except Exception as error:  # whatever a foreign package raises must not look like a failed run
        raise_interrupt(error)
        problem = str(error) if isinstance(error, AtariFastError) else repr(error)
        warn(f"the run is saved, but has no {what}: {problem}")


def _draw_curve(directory: Path) -> None:
    say(f"learning curve: {plot_curves([directory], directory / _CURVES)}")


def _record_best(directory: Path, device: torch.device) -> None:
    agent = load_agent(directory, "best", device)
    if agent.config.game in TOYS:
        return
    say("recording a game of the best agent")
    video = directory / _VIDEO
    epsilon, seed = agent.config.run.eval_epsilon, agent.config.seed
    score, over = record_game(
        agent, video, device, epsilon=epsilon, seed=seed, max_seconds=_VIDEO_SECONDS
    )
    cut = "" if over else " so far (cut)"
    say(f"a game of {agent.source.name}, score {number(score)}{cut}: {video}")
