"""Full games with a fixed policy, in fresh environments, scored by raw rewards."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from atari_fast import games
from atari_fast.agents.agent import ActorSpec, Agent, B, PerEnvRandom
from atari_fast.config import FRAMES_PER_STEP, Config
from atari_fast.envs.vector_env import VectorEnv
from atari_fast.runtime.acting import StackedActor
from atari_fast.runtime.device import Autocast, seeded
from atari_fast.runtime.episodes import EpisodeTracker
from atari_fast.runtime.exploration import ExplorationRecord
from atari_fast.seeding import child, stream
from atari_fast.types import EnvSpec


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
    explored: Mapping[str, int]
    """`ExplorationRecord.counts` of all games; empty in games without addresses."""

    @property
    def mean(self) -> float:
        """Mean score."""
        return float(np.mean(self.scores))

    def summary(self) -> dict[str, Any]:
        """All of it as JSON-able values, with mean, median, min, max, human-normalised."""
        human = None if self.game in games.TOYS else games.human_normalized(self.game, self.mean)
        values = dataclasses.asdict(self)
        explored = values.pop("explored")
        return {
            **values,
            **explored,
            "episodes": len(self.scores),
            "mean": self.mean,
            "median": float(np.median(self.scores)),
            "min": min(self.scores),
            "max": max(self.scores),
            "human_normalized": human,
        }


def evaluate(
    agent: Agent[B],
    config: Config,
    spec: EnvSpec,
    device: torch.device,
    autocast: Autocast,
    *,
    episodes: int,
    epsilon: float,
    seed: int,
    num_envs: int = 16,
    stop: Callable[[], bool] = lambda: False,
) -> Evaluation:
    """Plays `episodes` full games: fresh environments, no life mode, no clipping.

    Each game has random numbers of its own, and the network sees batches of one size, so that the
    score of game i depends on the agent, `seed` and i, not on `num_envs` (but for iqn, whose
    quantile levels are drawn for all environments at once). All games that begin are counted, so
    short ones are not favoured; when `stop` says so, those that are finished by then are all that
    is returned. Torch's generators are left as they were.
    """
    num_envs = min(num_envs, episodes)
    env = dataclasses.replace(config.env, num_envs=num_envs, life_loss="none")
    workers = min(env.num_workers, num_envs)
    workers = workers if env.num_workers > 1 else 0  # nothing runs beside a single one
    env = dataclasses.replace(env, num_workers=workers)
    starts, chances = stream(seed, "evaluation/lanes"), stream(seed, "evaluation/actor")
    chance = PerEnvRandom([np.random.default_rng(child(chances, i)) for i in range(num_envs)])
    acting = ActorSpec(num_envs, "evaluate", chance, autocast, epsilon, fixed_batches=True)
    actor = StackedActor(agent, acting, spec, device)
    tracker = EpisodeTracker(num_envs)
    record = ExplorationRecord.of_game(config.game, num_envs)
    game_of = list(range(num_envs))  # -1: no more games for that environment
    waiting = iter(range(num_envs, episodes))
    scores: dict[int, float] = {}
    frames = truncated = 0
    with (
        seeded(device, seed),
        VectorEnv(config.game, env, starts) as envs,
    ):
        step = envs.step(np.zeros(num_envs, np.int64))
        while len(scores) < episodes and not stop():
            step = envs.step(actor.act(step).actions)
            frames += FRAMES_PER_STEP * sum(game >= 0 for game in game_of)
            seeds = {}
            finished = [one for one in tracker.add(step) if game_of[one.env] >= 0]
            actor.actor.episodes_finished(finished)
            if record is not None:
                record.add(np.where(np.array(game_of) >= 0, envs.places(), -1), finished)
            for episode in finished:
                i = episode.env
                truncated += episode.truncated
                scores[game_of[i]] = episode.score
                game_of[i] = game = next(waiting, -1)
                if game >= 0:
                    seeds[i] = child(starts, game)
                    chance.rngs[i] = np.random.default_rng(child(chances, game))
            if seeds:
                step = envs.renew(seeds)
    return Evaluation(
        game=games.canonical_name(config.game),
        protocol=config.env.protocol,
        action_set=config.env.action_set,
        max_episode_frames=config.env.max_episode_frames,
        epsilon=epsilon,
        seed=seed,
        frames=frames,
        truncated=truncated,
        scores=tuple(scores[game] for game in sorted(scores)),
        explored={} if record is None else record.counts(),
    )
