"""Tiny agents of the toy Catch and their memories, for tests on any device."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch

from atari_fast.agents.agent import ActorSpec, Agent
from atari_fast.agents.registry import build
from atari_fast.config import (
    A2cConfig,
    A3cConfig,
    Agent57AgentConfig,
    Agent57Config,
    EnvConfig,
    NetConfig,
    NoveltyConfig,
    OptimConfig,
    OptimizerConfig,
    PpoConfig,
    PqnAgentConfig,
    PqnConfig,
    R2d2AgentConfig,
    R2d2Config,
    R2d2ReplayConfig,
    RecurrentConfig,
    RecurrentNetConfig,
    RecurrentReplayConfig,
    ReusedRolloutConfig,
    RolloutNetConfig,
    SharedOptimizerConfig,
    SplitRolloutConfig,
    WorkerRolloutConfig,
)
from atari_fast.envs.vector_env import VectorEnv
from atari_fast.runtime.acting import StackedActor
from atari_fast.runtime.device import Autocast
from atari_fast.runtime.learner import Learner
from atari_fast.seeding import stream
from run_parts import TINY_PONG

_RUN = dataclasses.replace(
    TINY_PONG.run, checkpoint_period=1_600, replay_period=1_600, finish=False
)
DQN = dataclasses.replace(
    TINY_PONG,
    game="catch",
    total_frames=3_200,
    net=NetConfig(torso="mlp", hidden=16, stack=2),
    optim=dataclasses.replace(TINY_PONG.optim, batch_size=16, max_grad_norm=10.0),
    run=_RUN,
)
NOISY = dataclasses.replace(DQN, agent=dataclasses.replace(DQN.agent, noisy=True))
R2D2 = R2d2Config(
    game="catch",
    precision="fp32",
    threads=1,
    total_frames=3_200,
    env=EnvConfig(num_envs=4),
    net=RecurrentNetConfig(torso="mlp", hidden=16, lstm=12, stack=2),
    agent=R2d2AgentConfig(target_period=3, n_step=3, policies=3),
    replay=R2d2ReplayConfig(
        capacity=1_000, burn_in=4, unroll=8, period=4, min_frames=400, replay_ratio=2.0
    ),
    optim=OptimConfig(lr=1e-3, eps=1e-3, batch_size=8, max_grad_norm=40.0),
    run=_RUN,
)
AGENT57 = Agent57Config(
    game="catch",
    precision="fp32",
    threads=1,
    total_frames=3_200,
    env=R2D2.env,
    net=R2D2.net,
    agent=Agent57AgentConfig(policies=12, target_period=3),
    novelty=NoveltyConfig(memory=20, rows=3),
    replay=RecurrentReplayConfig(
        capacity=1_000, burn_in=4, unroll=8, period=4, min_frames=400, replay_ratio=2.0
    ),
    optim=R2D2.optim,
    run=_RUN,
)

PPO = PpoConfig(
    game="catch",
    precision="fp32",
    threads=1,
    total_frames=3_200,
    env=EnvConfig(num_envs=4),
    net=RolloutNetConfig(torso="mlp", hidden=16, lstm=12, stack=2),
    rollout=ReusedRolloutConfig(steps=9, minibatches=2, epochs=3),
    optim=OptimizerConfig(lr=1e-2, eps=1e-5, max_grad_norm=0.5),
    run=_RUN,
)
_SHARED = {
    field.name: getattr(PPO, field.name)
    for field in dataclasses.fields(PPO)
    if field.name != "agent"
}
A2C = A2cConfig(**{**_SHARED, "rollout": SplitRolloutConfig(steps=9, minibatches=2)})
A3C_CATCH = A3cConfig(
    **{
        **_SHARED,
        "total_frames": 4_000,
        "device": "cpu",
        "env": EnvConfig(num_envs=4, num_workers=1),
        "net": RolloutNetConfig(torso="mlp", hidden=16, lstm=8, stack=2, init="orthogonal"),
        "rollout": WorkerRolloutConfig(steps=9),
        "optim": SharedOptimizerConfig(lr=1e-2, lr_final_fraction=0.1, eps=1e-5, max_grad_norm=0.5),
    }
)
"""One worker."""
A3C = dataclasses.replace(
    A3C_CATCH,
    game="pong",
    total_frames=3_200,
    env=EnvConfig(num_envs=4, num_workers=2, crop=True),
    net=RolloutNetConfig(torso="pooled", pixels="running", stack=1, hidden=0, lstm=8),
    rollout=WorkerRolloutConfig(steps=5),
)
PQN = PqnConfig(
    **{**_SHARED, "net": dataclasses.replace(PPO.net, lstm=0)},
    agent=PqnAgentConfig(epsilon_frames=1_000),
)


def run_in(config: Any, directory: Path, device: str) -> Any:
    """The settings of a run on a device, in a directory."""
    run = dataclasses.replace(config.run, dir=str(directory))
    return dataclasses.replace(config, device=device, run=run)


def with_sizes(config: Any) -> Any:
    """The same agent of Pong with convolutions and wider layers."""
    net = dataclasses.replace(config.net, torso="nature", channels=(8, 16, 16), hidden=64)
    if isinstance(config, RecurrentConfig):
        net = dataclasses.replace(net, lstm=32)
    return dataclasses.replace(config, game="pong", net=net)


def filled(
    config: Any, device: torch.device, *, learned: bool = False, steps: int = 150
) -> tuple[Agent[Any], Any]:
    """An agent and its memory of `steps` steps of play, alike in every call; or after updates."""
    torch.manual_seed(0)
    autocast = Autocast(device, "fp32")
    with VectorEnv(config.game, config.env, stream(3, "envs")) as envs:
        agent = build(config, envs.spec, device)
        memory = agent.make_memory(1)
        acting = ActorSpec(envs.num_envs, "train", np.random.default_rng(0), autocast)
        actor = StackedActor(agent, acting, envs.spec, device)
        step = envs.step(np.zeros(envs.num_envs, np.int64))
        for _ in range(steps):
            acted = actor.act(step)
            memory.append(step, acted)
            step = envs.step(acted.actions)
    if learned:
        learner = Learner(agent, memory, device, autocast)
        for _ in range(5):
            learner.update(0.6)
        learner.state()
    return agent, memory
