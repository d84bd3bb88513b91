"""Every agent learns games whose answers are known, in seconds."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from atari_fast.agents.agent import Agent
from atari_fast.agents.registry import build
from atari_fast.config import (
    A2cAgentConfig,
    A3cConfig,
    DqnAgentConfig,
    DqnConfig,
    DqnFamilyConfig,
    DqnOptimConfig,
    EnvConfig,
    NetConfig,
    PqnAgentConfig,
    ReplayConfig,
    convert,
)
from atari_fast.config_io import validate
from atari_fast.envs.atari_env import Env, make_env
from atari_fast.envs.toy import Chain
from atari_fast.presets import PRESETS
from atari_fast.runtime.evaluation import evaluate
from atari_fast.runtime.hogwild import HogwildDriver
from atari_fast.seeding import stream
from run_parts import CPU, FP32, with_agent
from toy_training import learn, score

TOY = DqnConfig(
    game="catch",
    precision="fp32",
    total_frames=4 * 12_000,
    env=EnvConfig(num_envs=4),
    net=NetConfig(torso="mlp", stack=1, hidden=64),
    agent=DqnAgentConfig(target_period=800, epsilon_end=0.1, epsilon_frames=8_000),
    replay=ReplayConfig(capacity=5_000, min_frames=800),
    optim=DqnOptimConfig(lr=1e-3, eps=1e-8, update_period=16),
)


SIZES = {
    "atoms": 21,
    "v_max": 2.0,
    "quantiles": 16,
    "taus": 16,
    "taus_acting": 32,
    "cosines": 16,
}


def on_catch(preset: DqnFamilyConfig) -> DqnFamilyConfig:
    """A preset's algorithm with a tiny network and the periods of a game of seconds."""
    agent = preset.agent
    slow = agent.algorithm == "iqn"  # whose quantiles are drawn anew in every update
    by_noise = agent.epsilon_end == 0.0  # after the warm-up
    config = replace(
        convert(TOY, type(preset)),
        total_frames=32_000 if slow else 20_000,
        env=replace(TOY.env, num_envs=8),
        optim=replace(TOY.optim, lr=2e-3 if slow else 3e-3),
        agent=replace(
            agent,
            target_period=TOY.agent.target_period,
            epsilon_end=0.0 if by_noise else 0.1,
            epsilon_frames=agent.epsilon_frames if by_noise else 12_000 if slow else 8_000,
            noisy_sigma=0.5,
            **{name: size for name, size in SIZES.items() if hasattr(agent, name)},
        ),
        replay=replace(
            preset.replay, capacity=TOY.replay.capacity, min_frames=TOY.replay.min_frames
        ),
    )
    if isinstance(preset, DqnConfig):
        return replace(config, ls=replace(preset.ls, period=6_000, games=4))
    return config


FAMILY = [name for name, make in PRESETS.items() if isinstance(make(), DqnFamilyConfig)]


@pytest.mark.parametrize("preset", FAMILY)
def test_every_preset_s_algorithm_solves_catch(preset: str) -> None:
    config = on_catch(PRESETS[preset]())
    assert score(config) >= 0.95


@pytest.mark.parametrize(
    "changes",
    [
        {"operator": "persistent"},
        {"operator": "consistent", "double": True},
        {"operator": "lazy"},
        {"operator": "pal", "operator_next": "gamma", "double": True, "n_step": 3},
        {"operator": "pal", "algorithm": "c51", "dueling": True},
        {"munchausen": True, "algorithm": "qr-dqn", "n_step": 3},
        {"noisy": True, "dueling": True, "algorithm": "qr-dqn"},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_combinations_solve_catch(changes: dict[str, Any]) -> None:
    config = on_catch(with_agent(TOY, **changes))
    assert score(config) >= 0.95


ROLLOUTS = {"a2c-lstm": 400_000, "ppo": 120_000, "ppo-lstm": 160_000, "pqn": 80_000}


@pytest.mark.parametrize("preset", ROLLOUTS)
def test_agents_that_learn_from_rollouts_solve_catch(preset: str) -> None:
    config = PRESETS[preset]()
    frames, agent = ROLLOUTS[preset], config.agent
    if isinstance(agent, PqnAgentConfig):
        agent = replace(agent, epsilon_frames=frames // 2)
    if isinstance(agent, A2cAgentConfig):
        agent = replace(agent, gae_lambda=0.95)
    config = replace(
        config,
        game="catch",
        precision="fp32",
        total_frames=frames,
        env=EnvConfig(num_envs=16),
        net=replace(config.net, torso="mlp", stack=1, hidden=64, lstm=32 if config.net.lstm else 0),
        agent=agent,
        rollout=replace(
            config.rollout,
            steps=8 if preset == "a2c-lstm" else 16,
            minibatches=min(4, config.rollout.minibatches),
        ),
        optim=replace(config.optim, name="adam", lr=5e-3, eps=1e-5),
    )
    assert score(config) >= 0.8


def test_a3c_solves_catch() -> None:
    """With two workers, whose order is that of the machine."""
    config = PRESETS["a3c-lstm"]()
    assert isinstance(config, A3cConfig)
    config = replace(
        config,
        game="catch",
        precision="fp32",
        total_frames=400_000,
        env=EnvConfig(num_envs=8, num_workers=2),
        net=replace(config.net, torso="mlp", pixels="scale", hidden=64, lstm=32),
        agent=replace(config.agent, gae_lambda=0.95),
        rollout=replace(config.rollout, steps=8),
        optim=replace(config.optim, lr=5e-3, eps=1e-5),
    )
    validate(config)
    torch.manual_seed(1)
    spec = make_env("catch", config.env, stream(0, "spec")).spec
    agent = build(config, spec, CPU)
    driver: HogwildDriver[Any] = HogwildDriver(config, agent, note=print)
    with contextlib.closing(driver):
        for _ in driver:
            pass
        driver.rest()
    assert evaluate(agent, config, spec, CPU, FP32, episodes=100, epsilon=0.0, seed=5).mean >= 0.8


def chain_values(agent: Agent, length: int) -> np.ndarray:
    states = torch.zeros(length, 1, 1, length, dtype=torch.uint8)
    states[range(length), 0, 0, range(length)] = 255
    with torch.no_grad():
        return agent.q_values(states).numpy()


def make_chain(
    game: str, config: EnvConfig, seed: np.random.SeedSequence, **options: object
) -> Env:
    return Chain(5, **options)


CHAIN = replace(
    TOY,
    game="chain",
    total_frames=4 * 20_000,
    agent=DqnAgentConfig(
        discount=0.9,
        reward_clip=0.0,
        target_period=400,
        epsilon_start=1.0,
        epsilon_end=1.0,
        epsilon_frames=4,
    ),
    optim=DqnOptimConfig(lr=1e-3, eps=1e-8, update_period=16),
)


@pytest.mark.parametrize("double", [False, True])
def test_dqn_finds_the_analytic_values_of_a_chain(double: bool) -> None:
    config = replace(CHAIN, agent=replace(CHAIN.agent, double=double))
    agent, *_ = learn(config, make_chain)
    values = chain_values(agent, 5)[:4]
    gamma = 0.9
    right = [gamma ** (3 - s) for s in range(4)]
    left = [gamma * max(right[max(s - 1, 0)], 0) for s in range(4)]
    np.testing.assert_allclose(values, np.stack([left, right], axis=1), atol=0.03)


@pytest.mark.parametrize("n_step", [1, 3])
def test_truncation_is_bootstrapped_through(n_step: int) -> None:
    """Reward 1 a step for ever is worth 1 / (1 - gamma) = 10, whatever the cap of 7 steps."""
    config = replace(CHAIN, agent=replace(CHAIN.agent, n_step=n_step))
    make = partial(make_chain, step_reward=1.0, endless=True, max_steps=7)
    agent, *_ = learn(config, make)
    np.testing.assert_allclose(chain_values(agent, 5), 10.0, atol=0.4)
