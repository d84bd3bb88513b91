"""Videos of full-colour play."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from atari_fast.agents.agent import ActorSpec
from atari_fast.agents.restore import TrainedAgent
from atari_fast.envs.atari_env import SCREEN_SHAPE, AtariEnv, Env
from atari_fast.infra.video import VideoWriter
from atari_fast.runtime.acting import StackedActor
from atari_fast.runtime.device import Autocast, seeded
from atari_fast.runtime.episodes import EpisodeTracker
from atari_fast.seeding import stream
from atari_fast.types import StepBatch

GAME_STREAM = "record/lane"
"""Stream of the environment of a recorded game."""


class PlayedStep(NamedTuple):
    """What arrived with a step, and what the actor made of it."""

    reward: float
    """Raw reward."""
    over: bool
    """Whether the game ended with it."""
    metrics: Mapping[str, float]
    """The actor's."""


def play_game(
    agent: TrainedAgent, env: Env, device: torch.device, *, epsilon: float, seed: int
) -> Iterator[PlayedStep]:
    """Plays one full game, step by step; torch's own generator is used where the agent uses it.

    Args:
        agent: who plays.
        env: environment of the agent's game that has played nothing yet.
        device: where the agent's networks are.
        epsilon: probability of a random action.
        seed: root of the actor's random numbers.

    Yields:
        Each step, that of the first frame too; the last one is `over`.
    """
    rng = np.random.default_rng(stream(seed, "record/actor"))
    autocast = Autocast(device, agent.config.precision)
    acting = ActorSpec(1, "evaluate", rng, autocast, epsilon)
    actor = StackedActor(agent.agent, acting, agent.spec, device)
    tracker = EpisodeTracker(1)
    frame = np.zeros((1, *agent.spec.frame_shape), np.uint8)
    action, over = 0, False
    while not over:
        reward, flags = env.step(action, frame[0])
        step = StepBatch(frame, np.array([reward], np.float32), np.array([flags], np.uint8))
        over = bool(tracker.add(step))
        action = int(actor.act(step).actions[0])
        yield PlayedStep(reward, over, actor.actor.metrics())


def record_game(
    agent: TrainedAgent,
    out: Path,
    device: torch.device,
    *,
    epsilon: float,
    seed: int,
    max_seconds: float,
) -> tuple[float, bool]:
    """Plays one full game and writes every emulator frame of it to a video (60 a second).

    Args:
        agent: who plays.
        out: the file, ending in one of `video.SUFFIXES`.
        device: where the agent's networks are.
        epsilon: probability of a random action.
        seed: root of the game's random numbers.
        max_seconds: the video, and the game, are cut there.

    Returns:
        The raw score, and whether the game was over before the cut.

    Raises:
        EnvError: the video cannot be encoded.
        CheckpointError: it cannot be written.
    """
    env_config = dataclasses.replace(agent.config.env, life_loss="none")
    env = AtariEnv(agent.config.game, env_config, stream(seed, GAME_STREAM))
    score = 0.0
    with seeded(device, seed), VideoWriter(out, SCREEN_SHAPE) as video:
        env.watch(video.write)
        for step in play_game(agent, env, device, epsilon=epsilon, seed=seed):
            score += step.reward
            if step.over:
                return score, True
            if video.frames >= 60 * max_seconds:
                break
    return score, False
