"""Agents with an intrinsic reward come to places where they would not come without."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from atari_fast.agents.agent import Agent
from atari_fast.agents.registry import build
from atari_fast.config import (
    Agent57AgentConfig,
    Agent57Config,
    Config,
    EnvConfig,
    NguAgentConfig,
    NguConfig,
    NoveltyConfig,
    OptimConfig,
    R2d2AgentConfig,
    R2d2Config,
    R2d2ReplayConfig,
    RecurrentNetConfig,
    RecurrentReplayConfig,
)
from atari_fast.config_io import validate
from atari_fast.envs.atari_env import Env, make_env
from atari_fast.envs.exploration_toys import NoisyCorridor
from atari_fast.envs.vector_env import VectorEnv
from atari_fast.nets.novelty import EmbeddingNetwork
from atari_fast.seeding import stream
from run_parts import CPU, make_driver

pytestmark = pytest.mark.slow

CORRIDOR = NguConfig(
    game="noisy_corridor",
    precision="fp32",
    total_frames=100_000,
    env=EnvConfig(num_envs=8),
    net=RecurrentNetConfig(torso="mlp", stack=1, hidden=64, lstm=64, reward_input="rescaled"),
    agent=NguAgentConfig(
        policies=4,
        discount=0.9,
        discount_min=0.88,
        intrinsic_scale=0.02,
        target_period=40,
        epsilon_alpha=3.0,
    ),
    novelty=NoveltyConfig(embedding=16, embedding_period=20, memory=200, lr=3e-3),
    replay=RecurrentReplayConfig(
        capacity=20_000, burn_in=5, unroll=10, period=5, min_frames=4_000, replay_ratio=16.0, beta=0
    ),
    optim=OptimConfig(lr=2e-3, eps=1e-5, batch_size=8, max_grad_norm=40.0),
)


class Learned(NamedTuple):
    rooms: float
    """Mean number of rooms of a game in the last quarter of the run."""
    wins: float
    """Fraction of those games that came to the reward."""
    agent: Agent[Any]


def learn(config: Config, make: Callable[..., Env] = make_env) -> Learned:
    validate(config)
    torch.manual_seed(config.seed)
    rooms, wins = [], []
    with VectorEnv(config.game, config.env, stream(config.seed, "envs"), make=make) as envs:
        agent = build(config, envs.spec, CPU)
        games = envs._runner._envs
        for result in make_driver(config, agent, envs):
            for episode in result.episodes:
                if result.frames > 0.75 * config.total_frames:
                    rooms.append(1 + games[episode.env].room)
                    wins.append(episode.score)
    return Learned(float(np.mean(rooms)), float(np.mean(wins)), agent)


def distance_between(embedding: EmbeddingNetwork, seed: int) -> tuple[float, float]:
    """Mean distances of embeddings with equal rooms and other noise, and with other rooms."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (2, NoisyCorridor.ROOMS, 3, NoisyCorridor.ROOMS), np.uint8)
    frames[:, :, 0] = 255 * np.eye(NoisyCorridor.ROOMS, dtype=np.uint8)
    with torch.no_grad():
        one, other = (embedding(torch.from_numpy(part)) for part in frames)
    apart = torch.cdist(one, other)[:8, :8]  # rooms that random play comes to
    same = apart.diagonal()
    return float(same.mean()), float((apart.sum() - same.sum()) / (64 - 8))


@pytest.mark.parametrize("seed", [1, 2])
def test_ngu_covers_a_corridor_and_does_not_watch_the_noise(seed: int) -> None:
    """At least 1.5 times the rooms of the same agent whose policies all have beta = 0."""
    config = dataclasses.replace(CORRIDOR, seed=seed)
    without = dataclasses.replace(config.agent, intrinsic_scale=0.0)
    curious = learn(config)
    plain = learn(dataclasses.replace(config, agent=without))
    assert curious.rooms >= 1.5 * plain.rooms
    embedding = curious.agent.nets["online"].novelty.embedding
    noise, rooms = distance_between(embedding, seed)
    assert noise < 0.5 * rooms


def make_short(game: str, config: EnvConfig, seed: np.random.SeedSequence) -> Env:
    """A corridor of 22 rooms: random actions come to its end in one of 5,700 games."""
    return NoisyCorridor(seed, rooms=22)


def same_for(kind: type[Config], agent: Any, frames: int, seed: int) -> Config:
    """The settings of the corridor for another algorithm, with a horizon of 30 steps."""
    replay_kind = R2d2ReplayConfig if kind is R2d2Config else RecurrentReplayConfig
    replay = {f.name: getattr(CORRIDOR.replay, f.name) for f in dataclasses.fields(CORRIDOR.replay)}
    common = {
        f.name: getattr(CORRIDOR, f.name)
        for f in dataclasses.fields(kind)
        if hasattr(CORRIDOR, f.name)
    }
    common |= {"agent": agent, "replay": replay_kind(**replay), "total_frames": frames}
    return kind(**(common | {"seed": seed}))


R2D2 = R2d2AgentConfig(discount=0.97, n_step=5, target_period=40, epsilon_alpha=3.0)
AGENT57 = Agent57AgentConfig(
    policies=4,
    discount=0.97,
    discount_middle=0.9,
    discount_min=0.88,
    intrinsic_scale=0.02,
    target_period=40,
    epsilon_alpha=3.0,
    bandit_groups=1,
    bandit_window=40,
)


@pytest.mark.parametrize("seed", [1, 2])
def test_ngu_finds_a_distant_reward_that_r2d2_does_not(seed: int) -> None:
    frames = 160_000
    far = dataclasses.replace(CORRIDOR.agent, discount=0.97)
    ngu = learn(same_for(NguConfig, far, frames, seed), make_short)
    r2d2 = learn(same_for(R2d2Config, R2D2, frames, seed), make_short)
    assert ngu.wins >= 0.4
    assert r2d2.wins <= 0.05


def test_agent57_finds_a_distant_reward_that_r2d2_does_not() -> None:
    """It plays longer, since its bandit tries all policies."""
    frames = 320_000
    agent57 = learn(same_for(Agent57Config, AGENT57, frames, 1), make_short)
    r2d2 = learn(same_for(R2d2Config, R2D2, frames, 1), make_short)
    assert agent57.wins >= 0.2
    assert r2d2.wins <= 0.05
