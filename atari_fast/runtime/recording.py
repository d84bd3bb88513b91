"""Videos of full-colour play."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch

from atari_fast.agents.agent import ActorSpec
from atari_fast.agents.restore import TrainedAgent
from atari_fast.envs.atari_env import SCREEN_SHAPE, AtariEnv
from atari_fast.infra.video import VideoWriter
from atari_fast.runtime.acting import StackedActor
from atari_fast.runtime.device import Autocast, seeded
from atari_fast.runtime.episodes import EpisodeTracker
from atari_fast.seeding import stream
from atari_fast.types import StepBatch


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
    config = agent.config
    env_config = dataclasses.replace(config.env, life_loss="none")
    env = AtariEnv(config.game, env_config, stream(seed, "record/lane"))
    rng = np.random.default_rng(stream(seed, "record/actor"))
    autocast = Autocast(device, config.precision)
    acting = ActorSpec(1, "evaluate", rng, autocast, epsilon)
    actor = StackedActor(agent.agent, acting, agent.spec, device)
    tracker = EpisodeTracker(1)
    frame = np.zeros((1, *agent.spec.frame_shape), np.uint8)
    score, action = 0.0, 0
    with seeded(device, seed), VideoWriter(out, SCREEN_SHAPE) as video:
        env.watch(video.write)
        while video.frames < 60 * max_seconds:
            reward, flags = env.step(action, frame[0])
            step = StepBatch(frame, np.array([reward], np.float32), np.array([flags], np.uint8))
            score += reward
            if tracker.add(step):
                return score, True
            action = int(actor.act(step).actions[0])
    return score, False
