"""DQN learns games whose answers are known, in seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from atari_fast.agents import dqn
from atari_fast.agents.parts import AgentParts
from atari_fast.config import (
    AgentConfig,
    Config,
    EnvConfig,
    NetConfig,
    OptimConfig,
    ReplayConfig,
)
from atari_fast.envs.lane import Lane, make_lane
from atari_fast.envs.pool import LanePool
from atari_fast.envs.toy import Chain
from atari_fast.runtime.evaluation import evaluate
from atari_fast.runtime.loop import Loop
from atari_fast.seeding import stream
from run_parts import CPU, FP32, make_actor, make_learner, make_replay

TOY = Config(
    game="catch",
    precision="fp32",
    total_frames=4 * 12_000,
    env=EnvConfig(lanes=4),
    net=NetConfig(torso="mlp", stack=1, hidden=64),
    agent=AgentConfig(target_period=800, epsilon_end=0.1, epsilon_frames=8_000),
    replay=ReplayConfig(capacity=5_000, min_frames=800),
    optim=OptimConfig(lr=1e-3, eps=1e-8, update_period=16),
)


def learn(config: Config, make: Callable[..., Lane] = make_lane) -> tuple[AgentParts, LanePool]:
    torch.manual_seed(config.seed)
    with LanePool(config.game, config.env, stream(config.seed, "lanes"), make=make) as pool:
        parts = dqn.build(config, pool.spec, CPU)
        replay = make_replay(config, pool.spec.frame_shape, seed=1)
        learner = make_learner(parts, replay, config.optim)
        lanes, stack = config.env.lanes, config.net.stack
        actor = make_actor(parts.q_values, pool.spec, lanes, stack, config.seed)
        for _ in Loop(config, parts, pool, replay, actor, learner):
            pass
    return parts, pool


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"double": True, "n_step": 3},
        {"dueling": True},
        {"double": True, "dueling": True, "n_step": 3, "prioritized": True},
    ],
    ids=["plain", "double-3step", "dueling", "all"],
)
def test_dqn_solves_catch(changes: dict[str, object]) -> None:
    changes = dict(changes)
    prioritized = bool(changes.pop("prioritized", False))
    config = replace(
        TOY,
        agent=replace(TOY.agent, **changes),
        replay=replace(TOY.replay, prioritized=prioritized),
    )
    parts, pool = learn(config)
    result = evaluate(
        parts.q_values, config, pool.spec, CPU, FP32, episodes=100, epsilon=0.0, seed=5
    )
    assert result.mean >= 0.95


def chain_values(parts: AgentParts, length: int) -> np.ndarray:
    states = torch.zeros(length, 1, 1, length, dtype=torch.uint8)
    states[range(length), 0, 0, range(length)] = 255
    with torch.no_grad():
        return parts.q_values(states).numpy()


def make_chain(
    game: str, config: EnvConfig, seed: np.random.SeedSequence, **options: object
) -> Lane:
    return Chain(5, **options)


CHAIN = replace(
    TOY,
    game="chain",
    total_frames=4 * 20_000,
    agent=AgentConfig(
        discount=0.9,
        reward_clip=0.0,
        target_period=400,
        epsilon_start=1.0,
        epsilon_end=1.0,
        epsilon_frames=4,
    ),
    optim=OptimConfig(lr=1e-3, eps=1e-8, update_period=16),
)


@pytest.mark.parametrize("double", [False, True])
def test_dqn_finds_the_analytic_values_of_a_chain(double: bool) -> None:
    config = replace(CHAIN, agent=replace(CHAIN.agent, double=double))
    parts, _ = learn(config, make_chain)
    values = chain_values(parts, 5)[:4]
    gamma = 0.9
    right = [gamma ** (3 - s) for s in range(4)]
    left = [gamma * max(right[max(s - 1, 0)], 0) for s in range(4)]
    np.testing.assert_allclose(values, np.stack([left, right], axis=1), atol=0.03)


@pytest.mark.parametrize("n_step", [1, 3])
def test_truncation_is_bootstrapped_through(n_step: int) -> None:
    """Reward 1 a step for ever is worth 1 / (1 - gamma) = 10, whatever the cap of 7 steps."""
    config = replace(CHAIN, agent=replace(CHAIN.agent, n_step=n_step))
    make = partial(make_chain, step_reward=1.0, endless=True, max_steps=7)
    parts, _ = learn(config, make)
    np.testing.assert_allclose(chain_values(parts, 5), 10.0, atol=0.4)
