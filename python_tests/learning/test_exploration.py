"""Agents with noisy networks explore before they have learned anything."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from atari_fast.agents.registry import build
from atari_fast.config import DqnFamilyConfig
from atari_fast.envs.vector_env import VectorEnv
from atari_fast.presets import PRESETS
from atari_fast.seeding import stream
from run_parts import CPU, make_actor

NUM_ENVS, SEEDS = 8, (1, 2, 3, 4)


def warm_up(config: DqnFamilyConfig, steps: int) -> tuple[float, float]:
    """Entropy of the actions over its maximum, and the sum of the scores' absolute changes."""
    config = replace(config, env=replace(config.env, num_envs=NUM_ENVS, num_workers=0))
    torch.manual_seed(config.seed)
    with VectorEnv(config.game, config.env, stream(config.seed, "lanes")) as envs:
        agent = build(config, envs.spec, CPU)
        actor = make_actor(agent, envs.spec, NUM_ENVS, seed=config.seed, mode="train")
        counts, scored = np.zeros(envs.spec.num_actions), 0.0
        step = envs.step(np.zeros(NUM_ENVS, np.int64))
        for _ in range(steps):
            actions = actor.act(step).actions
            counts += np.bincount(actions, minlength=len(counts))
            step = envs.step(actions)
            scored += float(np.abs(step.rewards).sum())
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum() / np.log(len(counts))), scored


def by_noise(preset: str) -> DqnFamilyConfig:
    config = PRESETS[preset]()
    agent = replace(config.agent, noisy=True, epsilon_start=0.0, epsilon_end=0.0)
    return replace(config, agent=agent)


@pytest.mark.parametrize("game", ["pong", "breakout"])
def test_rainbow_explores_in_its_warm_up(game: str) -> None:
    """By noise of sigma 0.1 beside the last layers' biases the mean entropy was 0.07 on Pong."""
    played = [warm_up(replace(PRESETS["rainbow"](), game=game, seed=s), 150) for s in SEEDS]
    assert np.mean([entropy for entropy, _ in played]) >= 0.35
    if game == "breakout":  # where nothing moves until FIRE is pressed
        assert all(scored > 0 for _, scored in played)


@pytest.mark.parametrize("preset", ["dqn-nature", "dueling", "c51", "qr-dqn", "iqn", "rainbow"])
def test_noise_alone_explores_with_every_algorithm(preset: str) -> None:
    config = replace(by_noise(preset), game="breakout")
    assert np.mean([warm_up(replace(config, seed=s), 40)[0] for s in SEEDS]) >= 0.35


def test_rainbow_dopamine_explores_by_chance_in_its_warm_up() -> None:
    assert warm_up(replace(PRESETS["rainbow-dopamine"](), game="breakout"), 40)[0] > 0.95
