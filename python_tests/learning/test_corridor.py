"""Agents with an intrinsic reward come to places where they would not come without."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
import pytest
import torch

from atari_fast.agents.registry import build
from atari_fast.config import (
    EnvConfig,
    NguAgentConfig,
    NguConfig,
    NoveltyConfig,
    OptimConfig,
    RecurrentNetConfig,
    RecurrentReplayConfig,
)
from atari_fast.config_io import validate
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
    embedding: EmbeddingNetwork


def learn(config: NguConfig) -> Learned:
    validate(config)
    torch.manual_seed(config.seed)
    rooms = []
    with VectorEnv(config.game, config.env, stream(config.seed, "envs")) as envs:
        agent = build(config, envs.spec, CPU)
        games = envs._runner._envs
        for result in make_driver(config, agent, envs):
            for episode in result.episodes:
                if result.frames > 0.75 * config.total_frames:
                    rooms.append(1 + games[episode.env].room)
    return Learned(float(np.mean(rooms)), agent.nets["online"].novelty.embedding)


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
    noise, rooms = distance_between(curious.embedding, seed)
    assert noise < 0.5 * rooms
