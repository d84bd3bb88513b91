"""The actor and the tracker of episodes: what arrives with a step and what is done with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch

from atari_fast.config import (
    DqnAgentConfig,
    DqnConfig,
    EnvConfig,
    NetConfig,
    ReplayConfig,
)
from atari_fast.runtime.acting import StackedActor
from atari_fast.runtime.episodes import EpisodeTracker
from atari_fast.types import EnvSpec, Flag, StepBatch
from run_parts import TINY_PONG, make_actor, make_agent, make_replay


def step_batch(flags: list[int], rewards: list[float] | None = None, value: int = 0) -> StepBatch:
    num_envs = len(flags)
    return StepBatch(
        np.full((num_envs, 2, 3), value, np.uint8),
        np.array(rewards or [0.0] * num_envs, np.float32),
        np.array(flags, np.uint8),
    )


def actor_of(
    q_values: Callable, actions: str, num_envs: int, stack: int, epsilon: float = 0.0
) -> StackedActor:
    spec = EnvSpec((2, 3), tuple(actions))
    config = dataclasses.replace(TINY_PONG, net=NetConfig(stack=stack))
    return make_actor(make_agent(config, spec, q_values), spec, num_envs, epsilon)


def test_episode_tracker_sums_raw_rewards_until_the_game_ends() -> None:
    tracker = EpisodeTracker(2)
    assert tracker.add(step_batch([Flag.FIRST, Flag.FIRST])) == []
    assert tracker.add(step_batch([0, Flag.LIFE_LOST | Flag.TERMINATED], [10.0, 5.0])) == []
    assert tracker.add(step_batch([Flag.TERMINATED, Flag.FIRST], [-3.0, 1.0])) == [
        (0, 7.0, 2, False)
    ]
    assert tracker.add(step_batch([Flag.FIRST, Flag.TRUNCATED], [0.0, 2.0])) == [(1, 8.0, 2, True)]


def test_actor_stacks_frames_with_zeros_before_an_episode() -> None:
    seen: list[torch.Tensor] = []

    def q_values(observations: torch.Tensor) -> torch.Tensor:
        seen.append(observations.clone())
        return torch.tensor([[0.0, 1.0], [2.0, 1.0]])

    actor = actor_of(q_values, "AB", num_envs=2, stack=3)
    first = step_batch([Flag.FIRST, Flag.FIRST], value=1)
    assert actor.act(first).actions.tolist() == [1, 0]
    actor.act(step_batch([0, Flag.TERMINATED], value=2))
    actor.act(step_batch([0, Flag.FIRST], value=3))
    assert seen[1][:, :, 0, 0].tolist() == [[0, 1, 2], [0, 1, 2]]
    assert seen[2][:, :, 0, 0].tolist() == [[1, 2, 3], [0, 0, 3]]


def test_actor_explores_with_probability_epsilon() -> None:
    def q_values(observations: torch.Tensor) -> torch.Tensor:
        return torch.tensor([[0.0, 1.0]]).repeat(len(observations), 1)

    actor = actor_of(q_values, "AB", num_envs=50, stack=1, epsilon=0.3)
    actions = np.concatenate([actor.act(step_batch([0] * 50)).actions for _ in range(200)])
    assert np.mean(actions == 0) == pytest.approx(0.15, abs=0.015)  # half of the random ones


def test_actor_sees_the_observations_that_the_replay_stores() -> None:
    """What the policy acted on and what the learner is given are the same pixels."""
    config = DqnConfig(
        env=EnvConfig(num_envs=2),
        net=NetConfig(stack=3),
        agent=DqnAgentConfig(n_step=2),
        replay=ReplayConfig(capacity=400),
    )
    replay = make_replay(config, (2, 3))
    seen: dict[int, torch.Tensor] = {}
    row = 0

    def q_values(observations: torch.Tensor) -> torch.Tensor:
        for env in range(2):
            seen[2 * row + env] = observations[env].clone()
        return torch.zeros(2, 4)

    actor = actor_of(q_values, "ABCD", num_envs=2, stack=3)
    rng = np.random.default_rng(1)
    flags = np.full(2, Flag.FIRST, np.uint8)
    for row in range(120):  # noqa: B007 (q_values above reads it)
        frames = rng.integers(0, 256, (2, 2, 3), dtype=np.uint8)
        step = StepBatch(frames, np.zeros(2, np.float32), flags)
        replay.append(step, actor.act(step))
        over = (flags & (Flag.TERMINATED | Flag.TRUNCATED)) != 0
        ends = np.where(rng.random(2) < 0.15, Flag.TRUNCATED, 0)
        flags = np.where(over, Flag.FIRST, ends).astype(np.uint8)
    batch = replay.new_batch(64, pinned=False)
    for _ in range(20):
        replay.sample_into(batch, 1.0)
        for b, number in enumerate(batch.ids.tolist()):
            m = int(batch.steps[b])
            assert torch.equal(batch.frames[b, :3], seen[number])
            assert torch.equal(batch.frames[b, m : m + 3], seen[number + 2 * m])
