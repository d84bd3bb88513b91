"""Acting in E environments at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from atari_fast.infra.weights import checked_like
from atari_fast.runtime.device import Autocast
from atari_fast.types import EnvSpec, Flag, StepBatch


class PerEnvRandom:
    """Stands for a random generator where each environment draws from one of its own."""

    def __init__(self, rngs: list[np.random.Generator]) -> None:
        self.rngs = rngs

    def random(self, size: int) -> NDArray[np.float64]:
        """A number in [0, 1) for each of `size` environments."""
        return np.array([rng.random() for rng in self.rngs[:size]])

    def integers(self, high: int, *, size: int) -> NDArray[np.int64]:
        """A whole number below `high` for each of `size` environments."""
        return np.array([rng.integers(high) for rng in self.rngs[:size]])


class Actor:
    """Keeps each environment's stack of frames on the device and acts epsilon-greedily."""

    def __init__(
        self,
        q_values: Callable[[torch.Tensor], torch.Tensor],
        spec: EnvSpec,
        num_envs: int,
        stack: int,
        device: torch.device,
        autocast: Autocast,
        rng: np.random.Generator | PerEnvRandom,
    ) -> None:
        self._q_values = q_values
        self._num_actions = spec.num_actions
        self._autocast = autocast
        self._rng = rng
        self._observations = torch.zeros(
            (num_envs, stack, *spec.frame_shape), dtype=torch.uint8, device=device
        )

    def act(self, step: StepBatch, epsilon: float) -> NDArray[np.int64]:
        """Takes in the frames of a step and chooses the actions int64[E] that follow it."""
        observations = self._push(step)
        num_envs = len(step.flags)
        explore = self._rng.random(num_envs) < epsilon
        actions = self._rng.integers(self._num_actions, size=num_envs)
        if not explore.all():
            with torch.inference_mode(), self._autocast():
                greedy = self._q_values(observations).argmax(dim=1)
            actions = np.where(explore, actions, greedy.cpu().numpy())
        return actions

    def state(self) -> dict[str, Any]:
        """The stacks of frames, and the random numbers of an actor that trains."""
        rng = None if isinstance(self._rng, PerEnvRandom) else self._rng.bit_generator.state
        return {"observations": self._observations, "rng": rng}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes on with the stacks and random numbers of `state`."""
        self._observations = checked_like(state["observations"], self._observations)
        if not isinstance(self._rng, PerEnvRandom):
            self._rng.bit_generator.state = state["rng"]

    def _push(self, step: StepBatch) -> torch.Tensor:
        """Appends the frames; an episode's first stack is zero but for its newest frame."""
        frames = torch.from_numpy(step.frames).to(self._observations.device)
        stacks = torch.cat((self._observations[:, 1:], frames[:, None]), dim=1)
        first = np.flatnonzero(step.flags & Flag.FIRST)
        if len(first):
            stacks[torch.from_numpy(first).to(stacks.device), :-1] = 0
        self._observations = stacks
        return stacks
