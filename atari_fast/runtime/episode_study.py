"""One game of an agent with an intrinsic reward, step by step."""

from __future__ import annotations

import dataclasses
import zlib

import numpy as np
import torch

from atari_fast.agents.restore import TrainedAgent
from atari_fast.envs.atari_env import make_env
from atari_fast.errors import ConfigError
from atari_fast.games import canonical_name
from atari_fast.infra.episode_plot import STEPS_PER_SECOND, Episode, highest_peaks
from atari_fast.runtime.device import seeded
from atari_fast.runtime.recording import GAME_STREAM, play_game
from atari_fast.seeding import stream

_METRICS = ("intrinsic/reward", "intrinsic/episodic", "intrinsic/life_long")
"""Metrics of an actor, which for one environment are the values of that environment."""


def study_episode(
    agent: TrainedAgent, player: str, device: torch.device, *, seed: int, max_seconds: float
) -> Episode:
    """Plays the game that `record_game` records with this seed and the epsilon of evaluations.

    Args:
        agent: who plays.
        player: what it is called.
        device: where its networks are.
        seed: root of the game's random numbers; torch's generators are left as they were.
        max_seconds: the game is cut there, and has one step at least.

    Raises:
        ConfigError: the agent has no intrinsic reward.
    """
    config = agent.config
    env_config = dataclasses.replace(config.env, life_loss="none")
    env = make_env(config.game, env_config, stream(seed, GAME_STREAM))
    rows: list[tuple[float, ...]] = []
    places: list[int] = []
    screens: list[bytes] = []  # compressed: a long game has gigabytes
    over = False
    with seeded(device, seed):
        for step in play_game(agent, env, device, epsilon=config.run.eval_epsilon, seed=seed):
            if _METRICS[0] not in step.metrics:
                raise ConfigError(
                    f"runs: {player} has no intrinsic reward; expected an agent of NGU or Agent57"
                )
            rows.append((step.reward, *(step.metrics[name] for name in _METRICS)))
            places.append(env.place)
            screen = env.screen_rgb()
            screens.append(zlib.compress(screen.tobytes(), 1))
            over = step.over
            if over or len(rows) >= STEPS_PER_SECOND * max_seconds:
                break
    rewards, intrinsic, episodic, life_long = np.array(rows).T
    peaks = highest_peaks(intrinsic)
    shown = [np.frombuffer(zlib.decompress(screens[step]), np.uint8) for step in peaks]
    return Episode(
        player=player,
        game=canonical_name(config.game),
        score=float(rewards.sum()),
        over=over,
        rewards=rewards,
        intrinsic=intrinsic,
        episodic=episodic,
        life_long=life_long,
        places=np.array(places),
        peaks=peaks,
        screens=[pixels.reshape(screen.shape) for pixels in shown],
    )
