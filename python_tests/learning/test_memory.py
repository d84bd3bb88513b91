"""Agents with a memory learn games that nobody can play without one."""

from __future__ import annotations

import dataclasses

import numpy as np

from atari_fast.config import (
    DqnAgentConfig,
    DqnConfig,
    DqnOptimConfig,
    EnvConfig,
    NetConfig,
    OptimConfig,
    OptimizerConfig,
    PqnAgentConfig,
    PqnConfig,
    R2d2AgentConfig,
    R2d2Config,
    R2d2ReplayConfig,
    RecurrentNetConfig,
    ReplayConfig,
    ReusedRolloutConfig,
    RolloutNetConfig,
)
from atari_fast.envs.atari_env import Env
from atari_fast.envs.memory_toys import Recall
from toy_training import learn, score

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
PQN = PqnConfig(
    game="recall",
    precision="fp32",
    total_frames=120_000,
    env=EnvConfig(num_envs=16),
    net=RolloutNetConfig(torso="mlp", stack=1, hidden=32, lstm=32, layer_norm=True),
    agent=PqnAgentConfig(q_lambda=0.9, epsilon_end=0.05, epsilon_frames=60_000),
    rollout=ReusedRolloutConfig(steps=32, minibatches=4, epochs=2),
    optim=OptimizerConfig(lr=3e-3, eps=1e-5, max_grad_norm=10.0, lr_final_fraction=0.0),
)


class ShortRecall(Recall):
    DELAY = 5


def make_short_recall(game: str, config: EnvConfig, seed: np.random.SeedSequence) -> Env:
    return ShortRecall(seed)


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


def test_pqn_with_an_lstm_recalls_a_symbol() -> None:
    assert learn(PQN, make_short_recall).late_score >= 0.85


def test_pqn_without_an_lstm_guesses_the_symbol() -> None:
    net = dataclasses.replace(PQN.net, lstm=0)
    assert learn(dataclasses.replace(PQN, net=net), make_short_recall).late_score <= 0.4
