"""The parts of a run on the CPU in float32, and a tiny run, as tests put them together."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from atari_fast.agents.agent import ActorSpec, Agent, LossOutput
from atari_fast.agents.common import value_agent
from atari_fast.config import (
    DqnAgentConfig,
    DqnConfig,
    DqnFamilyConfig,
    DqnOptimConfig,
    EnvConfig,
    NetConfig,
    ReplayConfig,
    RunConfig,
    with_algorithm,
)
from atari_fast.envs.vector_env import VectorEnv
from atari_fast.replay.transition import TransitionBatch, TransitionReplay
from atari_fast.runtime.acting import StackedActor
from atari_fast.runtime.device import Autocast
from atari_fast.runtime.driver import SyncDriver
from atari_fast.runtime.learner import Learner
from atari_fast.runtime.services import RunServices
from atari_fast.runtime.trainer import Trainer
from atari_fast.types import EnvSpec

CPU = torch.device("cpu")
FP32 = Autocast(CPU, "fp32")


def with_agent(
    config: DqnFamilyConfig, algorithm: str = "dqn", **changes: object
) -> DqnFamilyConfig:
    """The settings for an algorithm, with changed settings of its agent."""
    config = with_algorithm(config, algorithm)
    return dataclasses.replace(config, agent=dataclasses.replace(config.agent, **changes))


def make_replay(
    config: DqnFamilyConfig, frame_shape: tuple[int, int], seed: int = 0
) -> TransitionReplay:
    return TransitionReplay(config.env, config.net, config.agent, config.replay, frame_shape, seed)


def no_loss(batch: TransitionBatch) -> LossOutput:
    """Zero for every transition."""
    return LossOutput(torch.zeros_like(batch.rewards), torch.zeros_like(batch.rewards), {})


def make_agent(
    config: DqnFamilyConfig,
    spec: EnvSpec,
    q_values: Callable[[torch.Tensor], torch.Tensor] = lambda observations: observations,
    net: torch.nn.Module | None = None,
    loss: Callable[[TransitionBatch], LossOutput] = no_loss,
) -> Agent[TransitionBatch]:
    """An agent of given values and loss."""
    net = net or torch.nn.Linear(1, 1)
    return value_agent(
        config, spec, net, net, q_values=q_values, behaviour=q_values, loss=loss, hooks=()
    )


def make_actor(
    agent: Agent[TransitionBatch],
    spec: EnvSpec,
    num_envs: int,
    epsilon: float = 0.0,
    seed: int = 0,
    mode: Literal["train", "evaluate"] = "evaluate",
) -> StackedActor:
    rng = np.random.default_rng(seed)
    return StackedActor(agent, ActorSpec(num_envs, mode, rng, FP32, epsilon), spec, CPU)


def make_services(
    config: DqnFamilyConfig,
    agent: Agent[TransitionBatch],
    spec: EnvSpec,
    memory: TransitionReplay,
    learner: Learner[TransitionBatch],
    log: Callable[..., None] = lambda values, note: None,
) -> RunServices:
    return RunServices(
        config,
        agent,
        spec,
        CPU,
        FP32,
        memory,
        learner.optimizers,
        now=lambda: 0,
        stop=lambda: False,
        busy=lambda text: None,
        log=log,
    )


def make_driver(
    config: DqnFamilyConfig, agent: Agent[Any], envs: VectorEnv, seed: int = 1
) -> SyncDriver[Any]:
    """A training without a directory; `seed` is that of the memory."""
    memory = agent.make_memory(seed)
    learner = Learner(agent, memory, CPU, FP32)
    actor = make_actor(agent, envs.spec, envs.num_envs, seed=config.seed, mode="train")
    services = make_services(config, agent, envs.spec, memory, learner)
    return SyncDriver(
        agent, envs, memory, actor, learner, services, total_frames=config.total_frames
    )


TINY_PONG = DqnConfig(
    game="pong",
    precision="fp32",
    threads=1,
    total_frames=4 * 400,
    env=EnvConfig(num_envs=4),
    net=NetConfig(channels=(4, 4, 4), hidden=16),
    agent=DqnAgentConfig(
        double=True,
        dueling=True,
        n_step=3,
        target_period=160,
        epsilon_end=0.1,
        epsilon_frames=1_200,
    ),
    replay=ReplayConfig(capacity=1_000, min_frames=400, prioritized=True),
    optim=DqnOptimConfig(batch_size=8, update_period=16, lr=1e-3),
    run=RunConfig(log_period=400, eval_period=0, checkpoint_period=800, tensorboard=False),
)


def tiny_trainer(directory: Path, **changes: object) -> Trainer:
    """A trainer of TINY_PONG with other settings, in its own directory."""
    run = dataclasses.replace(TINY_PONG.run, dir=str(directory))
    return Trainer(dataclasses.replace(TINY_PONG, run=run, **changes))
