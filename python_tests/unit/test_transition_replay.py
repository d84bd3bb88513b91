"""The replay beside a numpy reference that keeps full copies and predicts all draws exactly."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule
from numpy.typing import NDArray

from atari_fast.config import DqnAgentConfig, EnvConfig, NetConfig, ReplayConfig
from atari_fast.replay.transition import TransitionBatch, TransitionReplay
from atari_fast.types import Flag
from draws_reference import SplitMix, draw_place, tree_levels
from machines import (
    END,
    FRAME,
    Pair,
    PairMachine,
    arrived,
    machine_tests,
    next_frame,
    random_reward,
)

EVENTS = (Flag.TERMINATED, Flag.TRUNCATED, Flag.LIFE_LOST, Flag.TERMINATED | Flag.LIFE_LOST)


@dataclasses.dataclass(frozen=True)
class Settings:
    """One configuration of the replay."""

    num_envs: int = 2
    spare_rows: int = 9
    """Rows of an environment beyond the stack + n_step that are the least."""
    odd_capacity: int = 0
    """Capacity that divides into no row of all environments."""
    stack: int = 3
    n_step: int = 3
    gamma: float = 0.9
    clip: float = 0.0
    zero_discount: bool = False
    prioritized: bool = True
    alpha: float = 0.6
    epsilon: float = 1e-6
    mix: float = 0.0
    stratified: bool = True
    seed: int = 1

    @property
    def rows(self) -> int:
        return self.stack + self.n_step + self.spare_rows

    def build(self) -> TransitionReplay:
        return TransitionReplay(
            EnvConfig(
                num_envs=self.num_envs, life_loss="zero_discount" if self.zero_discount else "none"
            ),
            NetConfig(stack=self.stack),
            DqnAgentConfig(n_step=self.n_step, discount=self.gamma, reward_clip=self.clip),
            ReplayConfig(
                capacity=self.num_envs * self.rows + min(self.odd_capacity, self.num_envs - 1),
                prioritized=self.prioritized,
                alpha=self.alpha,
                priority_epsilon=self.epsilon,
                uniform_mix=self.mix,
                stratified=self.stratified,
            ),
            FRAME,
            self.seed,
        )


class Row(NamedTuple):
    """A row, never overwritten."""

    frame: NDArray[np.uint8]
    action: int
    reward: np.float32
    flags: int


class Streams:
    """Environments that play random episodes: FIRST after an end, and now and then without one."""

    def __init__(self, num_envs: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.first = [True] * num_envs
        self.frames = [np.ones(FRAME, np.uint8)] * num_envs

    def row(self, env: int) -> Row:
        rng = self.rng
        flags = 0
        if self.first[env] or rng.random() < 0.03:
            flags = int(Flag.FIRST)
        elif rng.random() < 0.3:
            flags = int(rng.choice(EVENTS))
        self.first[env] = bool(flags & END)
        self.frames[env] = next_frame(rng, self.frames[env])
        return Row(
            self.frames[env],
            int(rng.integers(256)),
            random_reward(rng),
            flags,
        )

    def step(self, envs: Iterable[int]) -> list[Row]:
        return [self.row(env) for env in envs]


class Reference:
    """What csrc/replay/transition_replay.h promises, by brute force over all rows ever stored."""

    def __init__(self, settings: Settings) -> None:
        self.s = settings
        self.streams: list[list[Row]] = [[] for _ in range(settings.num_envs)]
        self.weights: dict[tuple[int, int], float] = {}  # of the valid starts, by (env, row)
        self.max_weight = self.weight_of(1.0)
        self.rng = SplitMix(settings.seed)

    @property
    def size(self) -> int:
        return len(self.weights)

    @property
    def next_id(self) -> int:
        return len(self.streams[0]) * self.s.num_envs

    def weight_of(self, priority: float) -> float:
        weight = math.pow(priority + self.s.epsilon, self.s.alpha)
        return max(weight, sys.float_info.min)

    def terminal(self, row: Row) -> bool:
        lost = self.s.zero_discount and row.flags & Flag.LIFE_LOST
        return bool(row.flags & Flag.TERMINATED or lost)

    def window(self, env: int, start: int) -> int:
        """Steps m of the window of `start`, or 0 where it is no complete one."""
        stream = self.streams[env]
        if stream[start].flags & END:
            return 0
        for m in range(1, self.s.n_step + 1):
            if start + m >= len(stream) or stream[start + m].flags & Flag.FIRST:
                return 0
            last = stream[start + m]
            if m == self.s.n_step or self.terminal(last) or last.flags & Flag.TRUNCATED:
                return m
        raise AssertionError

    def append(self, rows: list[Row], envs: Iterable[int]) -> None:
        for env, row in zip(envs, rows, strict=True):
            self.streams[env].append(row)
        fresh = self.max_weight if self.s.prioritized else 1.0
        self.weights = {
            (env, start): self.weights.get((env, start), fresh)
            for env, stream in enumerate(self.streams)
            for start in range(self.oldest_start(env), len(stream))
            if self.window(env, start)
        }

    def oldest_start(self, env: int) -> int:
        gone = len(self.streams[env]) - self.s.rows  # rows that the ring holds no more
        return gone + self.s.stack - 1 if gone > 0 else 0

    def levels(self) -> list[NDArray[np.float64]]:
        weights = np.zeros(self.s.num_envs * self.s.rows)
        for (env, row), weight in self.weights.items():
            weights[env * self.s.rows + row % self.s.rows] = weight
        return tree_levels(weights)

    def draw(self, levels: list[NDArray[np.float64]], lower: float, upper: float) -> int:
        mix = self.s.mix if self.s.prioritized else 0.0
        return draw_place(self.rng, levels, self.s.num_envs * self.s.rows, mix, lower, upper)

    def item(self, env: int, start: int) -> tuple[NDArray[np.uint8], int, float, float, int]:
        stream = self.streams[env]
        m = self.window(env, start)
        frames = np.zeros((self.s.stack + self.s.n_step, *FRAME), np.uint8)
        row = start
        while row > start - self.s.stack + 1 and row > 0 and not stream[row].flags & Flag.FIRST:
            row -= 1
        for r in range(row, start + m + 1):
            frames[r - start + self.s.stack - 1] = stream[r].frame
        total, discount = 0.0, 1.0
        for k in range(1, m + 1):
            reward = stream[start + k].reward
            if self.s.clip > 0:
                reward = np.clip(reward, np.float32(-self.s.clip), np.float32(self.s.clip))
            total += discount * float(reward)
            discount *= self.s.gamma
        if self.terminal(stream[start + m]):
            discount = 0.0
        return frames, stream[start].action, total, discount, m

    def sample(self, size: int, beta: float) -> dict[str, NDArray[np.generic]]:
        starts = {env * self.s.rows + row % self.s.rows: (env, row) for env, row in self.weights}
        assert len(starts) == len(self.weights)
        levels = self.levels()
        mix = self.s.mix if self.s.prioritized else 0.0
        uniform = mix * (float(levels[-1][0]) / len(starts))
        keys, densities = [], []
        for i in range(size):
            stratified = self.s.prioritized and self.s.stratified
            segment = (i / size, (i + 1) / size) if stratified else (0.0, 1.0)
            env, row = starts[self.draw(levels, *segment)]
            keys.append((env, row))
            densities.append((1.0 - mix) * self.weights[env, row] + uniform)
        rarest = min(densities)
        return self.batch(keys, [math.pow(rarest / d, beta) for d in densities])

    def valid_ids(self) -> list[int]:
        return sorted(row * self.s.num_envs + env for env, row in self.weights)

    def batch(
        self, keys: list[tuple[int, int]], weights: list[float]
    ) -> dict[str, NDArray[np.generic]]:
        items = [self.item(env, row) for env, row in keys]
        frames, actions, rewards, discounts, steps = zip(*items, strict=True)
        return {
            "frames": np.stack(frames),
            "actions": np.array(actions, np.int64),
            "rewards": np.array(rewards, np.float32),
            "discounts": np.array(discounts, np.float32),
            "steps": np.array(steps, np.int64),
            "weights": np.array(weights, np.float32),
            "ids": np.array([row * self.s.num_envs + env for env, row in keys], np.int64),
        }

    def set(self, ids: NDArray[np.int64], priorities: list[float]) -> int:
        dropped = 0
        for row_id, priority in zip(ids.tolist(), priorities, strict=True):
            key = (row_id % self.s.num_envs, row_id // self.s.num_envs)
            if key in self.weights:
                self.weights[key] = self.weight_of(priority)
                self.max_weight = max(self.max_weight, self.weights[key])
            else:
                dropped += 1
        return dropped


class TransitionPair(Pair):
    def __init__(self, settings: Settings, stream_seed: int) -> None:
        super().__init__(settings, Reference(settings))
        self.streams = Streams(settings.num_envs, stream_seed)

    def append(self, envs: list[int] | None = None) -> None:
        chosen = list(range(self.settings.num_envs)) if envs is None else envs
        rows = self.streams.step(chosen)
        self.replay.append(*arrived(rows), None if envs is None else np.array(envs))
        self.reference.append(rows, chosen)
        assert len(self.replay) == self.reference.size

    def read(self, seed: int, size: int) -> None:
        """Reads some starts in any order; that it changed nothing shows in all later draws."""
        starts = self.replay.valid_ids()
        assert starts.tolist() == self.reference.valid_ids()
        if not len(starts):
            return
        ids = torch.from_numpy(np.random.default_rng(seed).choice(starts.numpy(), size))
        larger = self.replay.new_batch(size + 1, pinned=False)
        batch = TransitionBatch(*(field[:size] for field in larger))
        self.replay.read_into(batch, ids)
        num_envs = self.settings.num_envs
        expected = self.reference.batch(
            [(i % num_envs, i // num_envs) for i in ids.tolist()], [1.0] * size
        )
        for name, values in expected.items():
            actual = getattr(batch, name).numpy()
            np.testing.assert_array_equal(actual, values, err_msg=name, strict=True)
        parts = [
            [field.clone() for field in part]
            for part in self.replay.batches(ids, 1 + size // 3, torch.device("cpu"))
        ]
        for field, whole in zip(zip(*parts, strict=True), batch, strict=True):
            assert torch.equal(torch.cat(field), whole)
        # The newest row of the last environment, whose window is open, or -1 where there is none.
        ids[-1] = len(self.reference.streams[-1]) * num_envs - 1
        with pytest.raises(ValueError, match=rf"^ids\[{size - 1}\]"):
            self.replay.read_into(batch, ids)

    def replay_priorities(self, ids: NDArray[np.int64], priorities: NDArray[np.float32]) -> int:
        dropped: int = self.replay.update_priorities(
            torch.from_numpy(ids), torch.from_numpy(priorities)
        )
        return dropped


SETTINGS = st.builds(
    Settings,
    num_envs=st.integers(1, 3),
    spare_rows=st.integers(1, 12),
    odd_capacity=st.integers(0, 2),
    stack=st.integers(1, 4),
    n_step=st.integers(1, 5),
    gamma=st.sampled_from([0.0, 0.9, 0.997, 1.0]),
    clip=st.sampled_from([0.0, 1.0, 0.1]),
    zero_discount=st.booleans(),
    prioritized=st.booleans(),
    alpha=st.sampled_from([0.0, 0.6, 1.0]),
    mix=st.sampled_from([0.0, 0.2, 1.0]),
    stratified=st.booleans(),
    seed=st.integers(0, 2**64 - 1),
)


class ReplayMachine(PairMachine):
    pair: TransitionPair

    @initialize(settings=SETTINGS, stream_seed=st.integers(0, 1000))
    def build(self, settings: Settings, stream_seed: int) -> None:
        self.pair = TransitionPair(settings, stream_seed)

    @rule(seed=st.integers(0, 1000), size=st.integers(1, 9))
    def read(self, seed: int, size: int) -> None:
        self.pair.read(seed, size)


TestReplayMachine, TestManyReplaysMachine = machine_tests(ReplayMachine, examples=150, steps=40)

LONG_RUNS = (
    Settings(mix=0.2, zero_discount=True, clip=1.0),
    Settings(num_envs=1, stack=4, n_step=5, spare_rows=40, stratified=False, gamma=0.997),
    Settings(num_envs=3, stack=4, n_step=1, spare_rows=1, odd_capacity=2, alpha=0.9, mix=1e-3),
    Settings(num_envs=2, stack=1, n_step=2, spare_rows=3, prioritized=False, zero_discount=True),
)


def run_long(settings: Settings, operations: int) -> None:
    rng = np.random.default_rng(operations)
    pair = TransitionPair(settings, stream_seed=3)
    for _ in range(operations):
        kind = rng.choice(5, p=[0.35, 0.2, 0.15, 0.1, 0.2])
        if kind == 0:
            pair.append()
        elif kind == 1:
            pair.sample(int(rng.integers(1, 6)), float(rng.choice([0.0, 0.4, 1.0])))
        elif kind == 2:
            pair.read(int(rng.integers(1000)), int(rng.integers(1, 6)))
        elif kind == 4:
            pair.append_some(rng)
        elif settings.prioritized and len(pair.ids):
            count = int(rng.integers(1, 8))
            pair.set(rng.choice(pair.ids, count), rng.exponential(1, count).astype(np.float32))


@pytest.mark.parametrize("settings", LONG_RUNS)
def test_long_random_run(settings: Settings) -> None:
    run_long(settings, 2_500)


def test_uniform_draws_from_few_starts() -> None:
    pair = TransitionPair(Settings(spare_rows=1_000, mix=0.8), stream_seed=7)
    for _ in range(30):
        pair.append()
        pair.sample(20, 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("settings", LONG_RUNS)
def test_very_long_random_run(settings: Settings) -> None:
    run_long(settings, 100_000)
