"""The sequence replay by brute force over rows that are kept for ever, for the tests beside it."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from atari_fast.replay.sequence import RowSpec, SequenceConfig, SequenceReplay, StateSpec
from atari_fast.types import Flag
from draws_reference import SplitMix, draw_place, tree_levels
from machines import END, FRAME, next_frame, random_reward

EVENTS = (Flag.TERMINATED, Flag.TRUNCATED, Flag.TERMINATED | Flag.LIFE_LOST)
COLUMNS = (RowSpec("mu", "float32"), RowSpec("policy", "uint8"), RowSpec("bonus", "float16", 2))
STATES = (StateSpec("h", "float32", 3), StateSpec("c", "float16", 1))


@dataclasses.dataclass(frozen=True)
class Settings:
    """One configuration of the replay."""

    num_envs: int = 2
    spare_rows: int = 9
    """Rows of an environment beyond the frames of a sequence, the most that is too few."""
    odd_capacity: int = 0
    """Capacity that divides into no row of all environments."""
    stack: int = 2
    burn_in: int = 3
    unroll: int = 5
    period: int = 2
    bootstrap_steps: int = 2
    tail: Literal["shift", "mask"] = "shift"
    unroll_states: bool = False
    places: int = 0
    """Sequences of an environment, or 0 for the default."""
    prioritized: bool = True
    alpha: float = 0.9
    mix: float = 0.0
    buffer_max_weights: bool = False
    stratified: bool = True
    threads: int = 1
    seed: int = 1

    @property
    def rows(self) -> int:
        return self.stack - 1 + self.burn_in + self.unroll + self.bootstrap_steps + self.spare_rows

    @property
    def sequences_per_env(self) -> int:
        return self.places or self.rows // self.period + self.rows // (4 * self.period) + 2

    def config(self) -> SequenceConfig:
        return SequenceConfig(
            capacity=self.num_envs * self.rows + min(self.odd_capacity, self.num_envs - 1),
            stack=self.stack,
            burn_in=self.burn_in,
            unroll=self.unroll,
            period=self.period,
            bootstrap_steps=self.bootstrap_steps,
            tail=self.tail,
            unroll_states=self.unroll_states,
            max_sequences=self.num_envs * self.places,
            prioritized=self.prioritized,
            alpha=self.alpha,
            uniform_mix=self.mix,
            buffer_max_weights=self.buffer_max_weights,
            stratified=self.stratified,
            threads=self.threads,
        )

    def build(self) -> SequenceReplay:
        return SequenceReplay(self.config(), self.num_envs, FRAME, COLUMNS, STATES, self.seed)


class Row(NamedTuple):
    """A row, never overwritten."""

    frame: NDArray[np.uint8]
    action: int
    reward: np.float32
    flags: int
    columns: list[NDArray[np.generic]]
    states: list[NDArray[np.generic]]


def values(rng: np.random.Generator, spec: RowSpec | StateSpec) -> NDArray[np.generic]:
    return rng.integers(1, 200, spec.width).astype(spec.dtype)


class Streams:
    """Environments that play episodes of all lengths; some are cut off, some begin unflagged."""

    def __init__(self, num_envs: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.end_rate = float(self.rng.choice([0.02, 0.1, 0.3]))
        self.first = [True] * num_envs
        self.frames = [np.ones(FRAME, np.uint8)] * num_envs

    def row(self, env: int) -> Row:
        rng = self.rng
        flags = 0
        if rng.random() < (0.97 if self.first[env] else 0.01):
            flags = int(Flag.FIRST)
        if rng.random() < (self.end_rate if not flags else 0.02):
            flags |= int(rng.choice(EVENTS))
        elif rng.random() < 0.1:
            flags |= int(Flag.LIFE_LOST)
        self.first[env] = bool(flags & END)
        self.frames[env] = next_frame(rng, self.frames[env])
        return Row(
            self.frames[env],
            int(rng.integers(256)),
            random_reward(rng),
            flags,
            [values(rng, spec) for spec in COLUMNS],
            [values(rng, spec) for spec in STATES],
        )

    def step(self, envs: Iterable[int]) -> list[Row]:
        return [self.row(env) for env in envs]


class Span(NamedTuple):
    """A sequence: the episode's first row, the first unroll row, valid unroll rows, rows after."""

    begin: int
    start: int
    valid_length: int
    bootstrap_length: int


class EnvReference:
    """All rows of one environment, and all sequences there have ever been in it."""

    def __init__(self, settings: Settings) -> None:
        self.s = settings
        self.rows: list[Row] = []
        self.begin = 0
        self.ended = True
        self.closed: list[Span] = []
        """Sequences of the episodes before the one that begins with row `begin`."""
        self.spans: list[Span] = []
        self.weights: dict[int, float] = {}
        """Of the sequences alive, by number."""
        self.dropped = 0

    def episode(self, end: int, over: bool) -> list[Span]:
        """Sequences of the episode with the rows begin to end - 1: docs of sequence_table.h."""
        s, rows = self.s, end - self.begin
        steps = rows - 1
        found = []
        for start in range(0, steps, s.period):
            complete = start + s.unroll + s.bootstrap_steps <= rows
            if complete or (over and start + s.unroll <= steps):
                found.append((start, s.unroll, min(s.bootstrap_steps, rows - start - s.unroll)))
            elif over and s.tail == "mask":
                found.append((start, steps - start, 1))
        last = max(0, steps - s.unroll)
        if over and s.tail == "shift" and steps > 0 and last not in [f[0] for f in found]:
            found.append((last, min(s.unroll, steps), 1))
        return [
            Span(self.begin, self.begin + a, valid_length, bootstrap_length)
            for a, valid_length, bootstrap_length in found
        ]

    def append(self, row: Row, weight: float) -> list[int]:
        """Returns the numbers of the sequences that this makes."""
        s = self.s
        self.rows.append(row)
        head = len(self.rows)
        if self.ended or row.flags & Flag.FIRST:
            if head > 1 and not self.ended:
                self.closed += self.episode(head - 1, over=True)
            self.begin = head - 1
        self.ended = bool(row.flags & END)
        before, self.spans = len(self.spans), self.closed + self.episode(head, over=self.ended)
        if self.ended:
            self.closed = self.spans
        for number in list(self.weights):
            if self.oldest_frame(number) < head - s.rows:
                del self.weights[number]
        made = list(range(before, len(self.spans)))
        self.weights.update(dict.fromkeys(made, weight))
        for number in sorted(self.weights)[: -s.sequences_per_env]:
            del self.weights[number]
            self.dropped += 1
        return [number for number in made if number in self.weights]

    def oldest_frame(self, number: int) -> int:
        span = self.spans[number]
        return max(span.begin, span.start - self.s.burn_in - self.s.stack + 1)


class Reference:
    """What csrc/replay/sequence_replay.h promises, by brute force over all rows ever stored."""

    def __init__(self, settings: Settings) -> None:
        self.s = settings
        self.envs = [EnvReference(settings) for _ in range(settings.num_envs)]
        self.max_weight = self.weight_of(1.0)
        self.rng = SplitMix(settings.seed)

    def weight_of(self, priority: float) -> float:
        return max(math.pow(priority + 1e-6, self.s.alpha), sys.float_info.min)

    @property
    def size(self) -> int:
        return sum(len(env.weights) for env in self.envs)

    @property
    def next_id(self) -> int:
        return len(self.envs[0].spans) * self.s.num_envs

    def append(self, rows: list[Row], envs: Iterable[int]) -> list[tuple[int, ...]]:
        """Returns id, environment and span, without the episode, of what this makes."""
        weight = self.max_weight if self.s.prioritized else 1.0
        made = []
        for env, row in zip(envs, rows, strict=True):
            for number in self.envs[env].append(row, weight):
                made.append(
                    (number * self.s.num_envs + env, env, *self.envs[env].spans[number][1:])
                )
        return made

    def levels(self) -> list[NDArray[np.float64]]:
        places = self.s.sequences_per_env
        weights = np.zeros(self.s.num_envs * places)
        for env, state in enumerate(self.envs):
            for number, weight in state.weights.items():
                weights[env * places + number % places] = weight
        return tree_levels(weights)

    def draw(self, levels: list[NDArray[np.float64]], lower: float, upper: float) -> int:
        places = self.s.sequences_per_env
        slots = self.s.num_envs * places
        node = draw_place(self.rng, levels, slots, self.s.mix, lower, upper)
        env = self.envs[node // places]
        [number] = [n for n in env.weights if n % places == node % places]
        return number * self.s.num_envs + node // places

    def item(self, row_id: int) -> dict[str, object]:
        """One sequence, without the axis of the batch."""
        s, env = self.s, self.envs[row_id % self.s.num_envs]
        span = env.spans[row_id // s.num_envs]
        end = span.start + span.valid_length + span.bootstrap_length
        first = max(span.begin, span.start - s.burn_in)
        t_rows = range(span.start - s.burn_in, span.start + s.unroll + s.bootstrap_steps)
        rows = [env.rows[r] if first <= r < end else None for r in t_rows]
        frames = [
            env.rows[r].frame if span.begin <= r < end else np.zeros(FRAME, np.uint8)
            for r in range(t_rows.start - s.stack + 1, t_rows.stop)
        ]
        previous = [
            env.rows[r - 1].action if row and r > span.begin else -1
            for r, row in zip(t_rows, rows, strict=True)
        ]
        return {
            "frames": np.stack(frames),
            "actions": np.array([row.action if row else 0 for row in rows], np.int64),
            "prev_actions": np.array(previous, np.int64),
            "rewards": np.array([row.reward if row else 0 for row in rows], np.float32),
            "flags": np.array([row.flags if row else 0 for row in rows], np.uint8),
            "columns": [
                np.stack([row.columns[i] if row else np.zeros(c.width, c.dtype) for row in rows])
                for i, c in enumerate(COLUMNS)
            ],
            "states": [
                state if row > span.begin else np.zeros_like(state)
                for row in ([first, span.start] if s.unroll_states else [first])
                for state in env.rows[row].states
            ],
            "burn_in": np.int64(span.start - first),
            "valid_length": np.int64(span.valid_length),
            "bootstrap_length": np.int64(span.bootstrap_length),
            "ids": np.int64(row_id),
        }

    def sample(self, size: int, beta: float) -> dict[str, object]:
        levels = self.levels()
        uniform = self.s.mix * (float(levels[-1][0]) / self.size)
        segments = [(i / size, (i + 1) / size) for i in range(size)]
        if not (self.s.prioritized and self.s.stratified):
            segments = [(0.0, 1.0)] * size
        ids = [self.draw(levels, *segment) for segment in segments]
        all_weights = [w for env in self.envs for w in env.weights.values()]
        drawn = [self.envs[i % self.s.num_envs].weights[i // self.s.num_envs] for i in ids]
        densities = [(1.0 - self.s.mix) * weight + uniform for weight in drawn]
        rarest = min(densities)
        if self.s.buffer_max_weights:
            rarest = (1.0 - self.s.mix) * min(all_weights) + uniform
        items = [self.item(row_id) for row_id in ids]
        batch: dict[str, object] = {
            "weights": np.array([math.pow(rarest / d, beta) for d in densities], np.float32)
        }
        for name, value in items[0].items():
            if isinstance(value, list):
                axis = 1 if name == "columns" else 0
                parts = zip(*(item[name] for item in items), strict=True)  # type: ignore[misc]
                batch[name] = [np.stack(part, axis) for part in parts]
            else:
                axis = 1 if np.ndim(value) else 0
                batch[name] = np.stack([item[name] for item in items], axis)  # type: ignore[misc]
        return batch

    def set(self, ids: NDArray[np.int64], priorities: list[float]) -> int:
        dropped = 0
        for row_id, priority in zip(ids.tolist(), priorities, strict=True):
            weights = self.envs[row_id % self.s.num_envs].weights
            number = row_id // self.s.num_envs
            if number in weights:
                weights[number] = self.weight_of(priority)
                self.max_weight = max(self.max_weight, weights[number])
            else:
                dropped += 1
        return dropped
