"""The parts of a run on the CPU in float32, and a tiny run, as tests put them together."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from atari_fast.agents.parts import AgentParts
from atari_fast.config import (
    AgentConfig,
    Config,
    EnvConfig,
    NetConfig,
    OptimConfig,
    ReplayConfig,
    RunConfig,
)
from atari_fast.replay.transition import TransitionReplay
from atari_fast.runtime.actor import Actor
from atari_fast.runtime.device import Autocast
from atari_fast.runtime.learner import Learner
from atari_fast.runtime.services import RunServices
from atari_fast.runtime.trainer import Trainer
from atari_fast.types import EnvSpec

CPU = torch.device("cpu")
FP32 = Autocast(CPU, "fp32")


def make_replay(config: Config, frame_shape: tuple[int, int], seed: int = 0) -> TransitionReplay:
    return TransitionReplay(config.env, config.net, config.agent, config.replay, frame_shape, seed)


def make_learner(parts: AgentParts, replay: TransitionReplay, optim: OptimConfig) -> Learner:
    return Learner(parts, replay, optim, CPU, FP32)


def make_actor(
    q_values: Callable[[torch.Tensor], torch.Tensor],
    spec: EnvSpec,
    num_envs: int,
    stack: int,
    seed: int = 0,
) -> Actor:
    return Actor(q_values, spec, num_envs, stack, CPU, FP32, np.random.default_rng(seed))


def make_services(
    config: Config,
    parts: AgentParts,
    spec: EnvSpec,
    replay: TransitionReplay,
    learner: Learner,
    log: Callable[..., None] = lambda values, note: None,
) -> RunServices:
    return RunServices(
        config,
        parts,
        spec,
        CPU,
        FP32,
        replay,
        learner.optimizer,
        now=lambda: 0,
        stop=lambda: False,
        busy=lambda text: None,
        log=log,
    )


TINY_PONG = Config(
    game="pong",
    precision="fp32",
    threads=1,
    total_frames=4 * 400,
    env=EnvConfig(num_envs=4),
    net=NetConfig(channels=(4, 4, 4), hidden=16),
    agent=AgentConfig(
        double=True,
        dueling=True,
        n_step=3,
        target_period=160,
        epsilon_end=0.1,
        epsilon_frames=1_200,
    ),
    replay=ReplayConfig(capacity=1_000, min_frames=400, prioritized=True),
    optim=OptimConfig(batch_size=8, update_period=16, lr=1e-3),
    run=RunConfig(log_period=400, eval_period=0, checkpoint_period=800, tensorboard=False),
)


def tiny_trainer(directory: Path, **changes: object) -> Trainer:
    """A trainer of TINY_PONG with other settings, in its own directory."""
    run = dataclasses.replace(TINY_PONG.run, dir=str(directory))
    return Trainer(dataclasses.replace(TINY_PONG, run=run, **changes))
