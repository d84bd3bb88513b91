"""Agents with a memory learn games that nobody can play without one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
import torch

from atari_fast.agents.registry import build
from atari_fast.config import (
    Config,
    DqnAgentConfig,
    DqnConfig,
    DqnOptimConfig,
    EnvConfig,
    NetConfig,
    OptimConfig,
    R2d2AgentConfig,
    R2d2Config,
    R2d2ReplayConfig,
    RecurrentNetConfig,
    ReplayConfig,
)
from atari_fast.config_io import validate
from atari_fast.envs.vector_env import VectorEnv
from atari_fast.runtime.evaluation import evaluate
from atari_fast.seeding import stream
from run_parts import CPU, FP32, make_driver

R2D2 = R2d2Config(
    game="t_maze",
    precision="fp32",
    total_frames=80_000,
    env=EnvConfig(num_envs=8),
    net=RecurrentNetConfig(torso="mlp", stack=1, hidden=64, lstm=64),
    agent=R2d2AgentConfig(discount=0.97, n_step=8, target_period=40, epsilon_alpha=3.0),
    replay=R2d2ReplayConfig(
        capacity=20_000,
        burn_in=5,
        unroll=20,
        period=10,
        min_frames=4_000,
        replay_ratio=16.0,
    ),
    optim=OptimConfig(lr=2e-3, eps=1e-5, batch_size=16, max_grad_norm=40.0),
)
DQN = DqnConfig(
    game="t_maze",
    precision="fp32",
    total_frames=72_000,
    env=EnvConfig(num_envs=8),
    net=NetConfig(torso="mlp", stack=4, hidden=32),
    agent=DqnAgentConfig(discount=0.97, n_step=3, target_period=800, epsilon_frames=20_000),
    replay=ReplayConfig(capacity=20_000, min_frames=4_000),
    optim=DqnOptimConfig(lr=1e-3, eps=1e-5),
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def score(config: Config) -> float:
    """Mean score of 100 games after learning."""
    validate(config)
    torch.manual_seed(config.seed)
    with VectorEnv(config.game, config.env, stream(config.seed, "envs")) as envs:
        agent = build(config, envs.spec, CPU)
        for _ in make_driver(config, agent, envs):
            pass
        spec = envs.spec
    return evaluate(agent, config, spec, CPU, FP32, episodes=100, epsilon=0.0, seed=5).mean


def success(mean: float) -> float:
    """Fraction of games won, where a win counts 1 and a loss -1."""
    return (mean + 1) / 2


def test_r2d2_solves_the_t_maze() -> None:
    assert success(score(R2D2)) >= 0.95


def test_a_feed_forward_network_does_not() -> None:
    assert success(score(DQN)) <= 0.6


def test_r2d2_with_several_policies_solves_catch() -> None:
    agent = dataclasses.replace(R2D2.agent, policies=3, discount_min=0.9)
    config = dataclasses.replace(R2D2, game="catch", agent=agent, total_frames=40_000)
    assert success(score(config)) >= 0.95


def test_r2d2_recalls_a_symbol() -> None:
    assert score(dataclasses.replace(R2D2, game="recall", total_frames=100_000)) >= 0.9
