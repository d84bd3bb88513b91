"""Transitions for learners: the C++ replay behind typed, reusable batch buffers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from atari_fast import _core
from atari_fast.config import (
    FRAMES_PER_STEP,
    DqnFamilyAgentConfig,
    EnvConfig,
    NetConfig,
    ReplayConfig,
)
from atari_fast.replay.common import checked_settings, frame_memory, load_snapshot, save_snapshot
from atari_fast.replay.rate_limiter import RateLimiter
from atari_fast.schedules import interpolate
from atari_fast.types import Acted, StepBatch


class TransitionBatch(NamedTuple):
    """B transitions as tensors; S frames in an observation, n steps."""

    frames: torch.Tensor
    """uint8[B, S + n, H, W]: the frames around row s, from s-S+1 to s+n; zeros outside the
    episode."""
    actions: torch.Tensor
    """int64[B], action taken at s."""
    rewards: torch.Tensor
    """float32[B], n-step reward, clipped step by step."""
    discounts: torch.Tensor
    """float32[B], gamma^m, or 0 where nothing may be bootstrapped."""
    steps: torch.Tensor
    """int64[B], m: the bootstrap observation is frames[m : m + S]."""
    weights: torch.Tensor
    """float32[B], importance weights, at most 1."""
    ids: torch.Tensor
    """int64[B], row numbers for `TransitionReplay.update_priorities`; always on the CPU."""

    def slice(self, begin: int, end: int) -> TransitionBatch:
        """Transitions [begin, end), as views."""
        return TransitionBatch._make(field[begin:end] for field in self)


class TransitionReplay:
    """Transitions of E environments, uniform or prioritized (csrc/replay/transition_replay.h)."""

    def __init__(
        self,
        env: EnvConfig,
        net: NetConfig,
        agent: DqnFamilyAgentConfig,
        replay: ReplayConfig,
        frame_shape: tuple[int, int],
        seed: int,
        *,
        update_period: int = FRAMES_PER_STEP,
    ) -> None:
        """Make an empty replay.

        Args:
            env: number of environments, and what a lost life means.
            net: frames of an observation.
            agent: steps, discount and clipping of rewards.
            replay: capacity and draws.
            frame_shape: (height, width) of a frame.
            seed: seed of the draws.
            update_period: emulator frames for each update.
        """
        self._frame_shape = frame_shape
        self._limiter = RateLimiter(replay.min_frames, update_period)
        self._betas = replay.beta_start, replay.beta_end
        self._window = net.stack + agent.n_step
        self.prioritized = replay.prioritized
        self._core = _core.TransitionReplay(
            transition_options(env, net, agent, replay, frame_shape, seed)
        )

    def __len__(self) -> int:
        """Transitions that can be drawn."""
        return self._core.num_valid

    @property
    def bytes_used(self) -> int:
        """Bytes that the replay takes now."""
        return self._core.bytes_used

    def save(self, path: Path, *, split: bool = False, previous: Path | None = None) -> None:
        """Writes the whole state, frames and random numbers included.

        Args:
            path: the file.
            split: write frames that are there to stay into files beside it, `<stem>-*.bin`.
            previous: an earlier split snapshot of this run; what is equal there is linked.

        Raises:
            CheckpointError: a file cannot be written.
        """
        save_snapshot(self._core, path, split=split, previous=str(previous or ""))

    def load(self, path: Path) -> None:
        """Goes to the state of a replay with the same settings; see `load_snapshot`."""
        load_snapshot(self._core, path)

    def append(self, step: StepBatch, acted: Acted, envs: NDArray[np.int64] | None = None) -> None:
        """Stores what arrived in n environments and the actions then chosen.

        Args:
            step: What arrived.
            acted: The actions.
            envs: The environments, distinct and in any order, int64[n]; None for all E in order.

        Raises:
            ValueError: An environment is out of range or comes twice, or an array has another size
                than n; nothing is then stored.
        """
        self._core.append(step.frames, acted.actions, step.rewards, step.flags, envs)

    def due(self, frames: int, updates: int) -> int:
        """Updates to do now, after `frames` emulator frames and `updates` updates."""
        return self._limiter.due(frames, updates)

    def beta(self, progress: float) -> float:
        """Importance exponent after a fraction `progress` of the run's learning."""
        return interpolate(*self._betas, progress)

    def new_batch(self, size: int, pinned: bool) -> TransitionBatch:
        """Allocates a batch of `size` transitions on the CPU, in page-locked memory if `pinned`."""

        def empty(*shape: int, dtype: torch.dtype) -> torch.Tensor:
            return torch.zeros(shape, dtype=dtype, pin_memory=pinned)

        return TransitionBatch(
            frames=empty(size, self._window, *self._frame_shape, dtype=torch.uint8),
            actions=empty(size, dtype=torch.int64),
            rewards=empty(size, dtype=torch.float32),
            discounts=empty(size, dtype=torch.float32),
            steps=empty(size, dtype=torch.int64),
            weights=empty(size, dtype=torch.float32),
            ids=empty(size, dtype=torch.int64),
        )

    def sample_into(self, batch: TransitionBatch, beta: float) -> None:
        """Draws transitions into a batch of `new_batch`, with importance exponent `beta`."""
        self._core.sample_into(beta, *(field.numpy() for field in batch))

    def valid_ids(self) -> torch.Tensor:
        """Ids of all transitions that can be drawn, ascending: int64[len(self)]."""
        return torch.from_numpy(self._core.valid_ids())

    def read_into(self, batch: TransitionBatch, ids: torch.Tensor) -> None:
        """Fills a batch of `new_batch` with given transitions; nothing of the replay changes.

        Args:
            batch: B transitions; `TransitionBatch(*(field[:B] for field in larger))` will do. The
                weights become 1.
            ids: some of `valid_ids()`, in any order. int64[B]

        Raises:
            ValueError: an id is none of `valid_ids()`, or not any more.
        """
        batch.ids.copy_(ids)
        self._core.read_into(*(field.numpy() for field in batch))

    def batches(
        self, ids: torch.Tensor, size: int, device: torch.device
    ) -> Iterator[TransitionBatch]:
        """Given transitions in order, at most `size` at a time, on `device`; see `read_into`.

        On the CPU each batch takes the memory of the one before.
        """
        memory = self.new_batch(min(size, len(ids)), pinned=False)
        for chunk in torch.split(ids, size):
            batch = TransitionBatch._make(field[: len(chunk)] for field in memory)
            self.read_into(batch, chunk)
            yield TransitionBatch._make(field.to(device) for field in batch)

    def update_priorities(self, ids: torch.Tensor, td_abs: torch.Tensor) -> int:
        """Sets the priorities of rows int64[B] to float32[B]; returns how many rows were gone."""
        return self._core.update_priorities(ids.numpy(), td_abs.numpy())

    def state(self) -> dict[str, Any]:
        """Nothing: `save` writes everything."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Nothing to load."""


def transition_options(
    env: EnvConfig,
    net: NetConfig,
    agent: DqnFamilyAgentConfig,
    replay: ReplayConfig,
    frame_shape: tuple[int, int],
    seed: int = 0,
) -> _core.TransitionReplayOptions:
    """Checks the settings; `memory_bytes` of the result is the most that such a replay takes.

    Raises:
        ConfigError: they do not fit each other.
    """
    with checked_settings():
        return _core.TransitionReplayOptions(
            num_envs=env.num_envs,
            capacity=replay.capacity,
            frame_shape=frame_shape,
            stack=net.stack,
            n_step=agent.n_step,
            gamma=agent.discount,
            reward_clip=agent.reward_clip,
            zero_discount_on_life_loss=env.life_loss == "zero_discount",
            prioritized=replay.prioritized,
            alpha=replay.alpha,
            priority_epsilon=replay.priority_epsilon,
            uniform_mix=replay.uniform_mix if replay.prioritized else 0.0,
            stratified=replay.stratified,
            buffer_max_weights=replay.weights_over == "buffer",
            frame_memory=frame_memory(replay.capacity, replay.frame_gb, frame_shape),
            threads=replay.threads,
            seed=seed,
        )
