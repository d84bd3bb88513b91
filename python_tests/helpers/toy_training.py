"""Trainings of toys, without a directory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from atari_fast.agents.agent import Agent
from atari_fast.agents.registry import build
from atari_fast.config import Config
from atari_fast.config_io import validate
from atari_fast.envs.atari_env import Env, make_env
from atari_fast.envs.vector_env import VectorEnv
from atari_fast.runtime.evaluation import evaluate
from atari_fast.seeding import stream
from atari_fast.types import EnvSpec
from run_parts import CPU, FP32, make_driver


class Learned(NamedTuple):
    agent: Agent[Any]
    spec: EnvSpec
    late_score: float
    """Mean score of the training games that ended in the last fifth of the run."""


def learn(config: Config, make: Callable[..., Env] = make_env) -> Learned:
    """Train an agent on environments that `make` makes."""
    validate(config)
    torch.manual_seed(config.seed)
    scores: list[float] = []
    with VectorEnv(config.game, config.env, stream(config.seed, "lanes"), make=make) as envs:
        agent = build(config, envs.spec, CPU)
        for result in make_driver(config, agent, envs):
            if result.frames > 0.8 * config.total_frames:
                scores.extend(episode.score for episode in result.episodes)
        return Learned(agent, envs.spec, float(np.mean(scores)))


def score(config: Config) -> float:
    """Mean score of 100 games after learning."""
    agent, spec, _ = learn(config)
    return evaluate(agent, config, spec, CPU, FP32, episodes=100, epsilon=0.0, seed=5).mean
