"""Presets of A3C, A2C, PPO and PQN, with their sources."""

from __future__ import annotations

from dataclasses import replace

from atari_fast.config import (
    A2cAgentConfig,
    A2cConfig,
    A3cAgentConfig,
    A3cConfig,
    EnvConfig,
    OptimizerConfig,
    PpoAgentConfig,
    PpoConfig,
    PqnConfig,
    RolloutNetConfig,
    SharedOptimizerConfig,
    WorkerRolloutConfig,
)
from atari_fast.presets.saves import SAVES


def a2c_lstm() -> A2cConfig:
    """A2C with an LSTM: the recurrent network of A3C, environments in step (Mnih et al. 2016).

    Optimizer and weights of the losses are those of openai/baselines, whose A2C has them.
    """
    return A2cConfig(
        preset="a2c-lstm",
        total_frames=40_000_000,
        env=EnvConfig(num_envs=16, life_loss="episodic"),
        net=RolloutNetConfig(init="orthogonal", lstm=256),
        agent=A2cAgentConfig(value_weight=1.0),
        optim=OptimizerConfig(
            name="rmsprop-uncentred", lr=7e-4, lr_final_fraction=0.0, eps=1e-5, decay=0.99,
            max_grad_norm=0.5,
        ),
        run=replace(SAVES, eval_epsilon=0.0),
    )  # fmt: skip


def a3c() -> A3cConfig:
    """A3C with the feed-forward network of its paper (Mnih et al. 2016, 8).

    Losses are means over a rollout, where the paper sums its 5 steps: an eps of a 25th, which is
    added to squared gradients, and a largest norm of a 5th are the same.
    """
    return A3cConfig(
        preset="a3c",
        device="cpu",
        env=EnvConfig(num_envs=16),
        net=RolloutNetConfig(torso="nips", hidden=256),
        rollout=WorkerRolloutConfig(steps=5),
        optim=SharedOptimizerConfig(
            name="rmsprop-uncentred", lr=7e-4, lr_final_fraction=0.0, eps=0.1 / 25, decay=0.99,
            max_grad_norm=40 / 5,
        ),
        run=replace(SAVES, eval_epsilon=0.0),
    )  # fmt: skip


def a3c_lstm() -> A3cConfig:
    """A3C-LSTM, whose scores were published (dgriff777/rl_a3c_pytorch).

    Losses are means over a rollout, where that program sums its 20 steps: with Adam, an eps and a
    largest norm of a 20th are the same.
    """
    return A3cConfig(
        preset="a3c-lstm",
        total_frames=40_000_000,
        device="cpu",
        env=EnvConfig(num_envs=4, crop=True, life_loss="episodic", max_episode_frames=40_000),
        net=RolloutNetConfig(
            torso="pooled", pixels="running", stack=1, hidden=0, lstm=512, init="normalized-columns"
        ),
        agent=A3cAgentConfig(gae_lambda=0.92, evaluation="greedy"),
        optim=SharedOptimizerConfig(lr=1e-4, eps=1e-3 / 20, max_grad_norm=40 / 20),
        run=replace(SAVES, eval_epsilon=0.0),
    )


def ppo() -> PpoConfig:
    """PPO for Atari (Schulman et al. 2017, table 5, as Huang et al. 2022 describe its program)."""
    return PpoConfig(
        preset="ppo",
        total_frames=40_000_000,
        env=EnvConfig(num_envs=8, life_loss="episodic"),
        agent=PpoAgentConfig(normalize_advantages=True),
        optim=OptimizerConfig(lr=2.5e-4, lr_final_fraction=0.0, eps=1e-5, max_grad_norm=0.5),
        run=replace(SAVES, eval_epsilon=0.0),
    )


def ppo_lstm() -> PpoConfig:
    """PPO with an LSTM that sees single frames (Huang et al. 2022, "5 LSTM details")."""
    config = ppo()
    return replace(config, preset="ppo-lstm", net=replace(config.net, stack=1, lstm=128))


def pqn() -> PqnConfig:
    """PQN as published (Gallici et al. 2024, and its program mttga/purejaxql)."""
    return PqnConfig(
        preset="pqn",
        env=EnvConfig(num_envs=128, life_loss="episodic"),
        optim=OptimizerConfig(name="radam", lr=2.5e-4, eps=1e-8, max_grad_norm=10.0),
        run=replace(SAVES, eval_epsilon=0.0),
    )


def pqn_lstm() -> PqnConfig:
    """PQN with an LSTM that sees single frames, as its authors' programs for other games."""
    config = pqn()
    return replace(
        config,
        preset="pqn-lstm",
        net=replace(config.net, stack=1, lstm=512),
        rollout=replace(config.rollout, minibatches=16),
    )
