"""Full games with a fixed policy, in fresh lanes, scored by raw rewards."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from atari_fast import games
from atari_fast.config import FRAMES_PER_STEP, Config
from atari_fast.envs.pool import LanePool
from atari_fast.runtime.actor import Actor
from atari_fast.runtime.device import Autocast, seeded
from atari_fast.runtime.episodes import EpisodeTracker
from atari_fast.seeding import stream
from atari_fast.types import EnvSpec, Flag


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Scores of N full games and the protocol in which they were played."""

    game: str
    protocol: str
    """`deepmind` or `machado`."""
    action_set: str
    max_episode_frames: int
    """Cap of a game in frames."""
    epsilon: float
    """Probability of a random action."""
    seed: int
    frames: int
    """Emulator frames played."""
    truncated: int
    """Games that the frame cap ended."""
    scores: tuple[float, ...]
    """Raw undiscounted return of each game."""

    @property
    def mean(self) -> float:
        """Mean score."""
        return float(np.mean(self.scores))

    def summary(self) -> dict[str, Any]:
        """All of it as JSON-able values, with mean, median, min, max, human-normalised."""
        human = None if self.game in games.TOYS else games.human_normalized(self.game, self.mean)
        return {
            **dataclasses.asdict(self),
            "episodes": len(self.scores),
            "mean": self.mean,
            "median": float(np.median(self.scores)),
            "min": min(self.scores),
            "max": max(self.scores),
            "human_normalized": human,
        }


def evaluate(
    q_values: Callable[[torch.Tensor], torch.Tensor],
    config: Config,
    spec: EnvSpec,
    device: torch.device,
    autocast: Autocast,
    *,
    episodes: int,
    epsilon: float,
    seed: int,
    lanes: int = 16,
    stop: Callable[[], bool] = lambda: False,
) -> Evaluation:
    """Plays `episodes` full games: fresh lanes, no life mode, no clipping.

    Every lane plays a number of games that is fixed beforehand, so that short games are not
    favoured. When `stop` says so, the games that are finished by then are all that is returned.
    All random numbers come from `seed`; torch's generators are left as they were.
    """
    lanes = min(lanes, episodes)
    env = dataclasses.replace(config.env, lanes=lanes, life_loss="none")
    env = dataclasses.replace(env, workers=min(env.workers, lanes))
    quota = np.full(lanes, episodes // lanes)
    quota[: episodes % lanes] += 1
    rng = np.random.default_rng(stream(seed, "evaluation/actor"))
    actor = Actor(q_values, spec, lanes, config.net.stack, device, autocast, rng)
    tracker = EpisodeTracker(lanes)
    scores: list[list[float]] = [[] for _ in range(lanes)]
    frames = truncated = 0
    with (
        seeded(device, seed),
        LanePool(config.game, env, stream(seed, "evaluation/lanes")) as pool,
    ):
        step = pool.step(np.zeros(lanes, np.int64))
        while quota.any() and not stop():
            step = pool.step(actor.act(step, epsilon))
            playing = (quota > 0) & ((step.flags & Flag.FIRST) == 0)
            frames += FRAMES_PER_STEP * int(np.count_nonzero(playing))
            for episode in tracker.add(step):
                if quota[episode.lane]:
                    quota[episode.lane] -= 1
                    truncated += episode.truncated
                    scores[episode.lane].append(episode.score)
    return Evaluation(
        game=games.canonical_name(config.game),
        protocol=config.env.protocol,
        action_set=config.env.action_set,
        max_episode_frames=config.env.max_episode_frames,
        epsilon=epsilon,
        seed=seed,
        frames=frames,
        truncated=truncated,
        scores=tuple(score for lane in scores for score in lane),
    )
