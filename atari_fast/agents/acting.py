"""Parts that actors share, and the actor of agents whose network sees one observation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from atari_fast.agents.agent import ActorSpec, PerEnvRandom, QValues, Random
from atari_fast.types import Acted, Episode, StepBatch

_BATCH = 16
"""Rows that a network sees at a time where batches are of one size."""


class EpsilonGreedyActor:
    """Takes the action of the highest value, or with probability epsilon a random one."""

    def __init__(
        self,
        spec: ActorSpec,
        num_actions: int,
        q_values: QValues,
        epsilon: Callable[[int], float],
    ) -> None:
        """Make an actor.

        Args:
            spec: what it is made for.
            num_actions: A.
            q_values: values by which it acts.
            epsilon: probability of a random action, from the emulator frames of the run so far.
        """
        self._spec = spec
        self._num_actions = num_actions
        self._q_values = fixed_batches(q_values) if spec.fixed_batches else q_values
        self._schedule = epsilon
        self._epsilon = 0.0

    def act(self, observations: torch.Tensor, step: StepBatch, frames: int) -> Acted:
        """Choose actions; see `Actor.act`."""
        self._epsilon = self._schedule(frames)
        explore, actions = explorations(
            self._spec.rng, len(step.flags), self._num_actions, self._epsilon
        )
        if not explore.all():
            with torch.inference_mode(), self._spec.autocast():
                greedy = self._q_values(observations).argmax(dim=1)
            actions = np.where(explore, actions, greedy.cpu().numpy())
        return Acted(actions)

    def episodes_finished(self, episodes: Sequence[Episode]) -> None:
        """Nothing depends on finished games."""

    def metrics(self) -> Mapping[str, float]:
        """`epsilon` of the last step."""
        return {"epsilon": self._epsilon}

    def state(self) -> dict[str, Any]:
        """State of the random numbers; see `random_state`."""
        return {"rng": random_state(self._spec.rng)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue with the random numbers of `state`."""
        load_random_state(self._spec.rng, state["rng"])


def explorations(
    rng: Random, num_envs: int, num_actions: int, epsilon: float | NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Where E environments explore, bool[E], and the random actions they would take, int64[E]."""
    explore = rng.random(num_envs) < epsilon
    return explore, rng.integers(num_actions, size=num_envs)


def random_state(rng: Random) -> Any:
    """State of an actor's random numbers; None where each environment has its own generator.

    An evaluation, which has those, is never resumed.
    """
    return None if isinstance(rng, PerEnvRandom) else rng.bit_generator.state


def load_random_state(rng: Random, state: Any) -> None:
    """Continue from what `random_state` returned."""
    if not isinstance(rng, PerEnvRandom):
        rng.bit_generator.state = state


def to_host(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Copies of float32[E, n] tensors on the CPU, by one transfer; those that are there, as is."""
    if not tensors[0].is_cuda:
        return tensors
    joined = torch.cat(tensors, dim=1).cpu()
    parts = torch.split(joined, [tensor.shape[1] for tensor in tensors], dim=1)
    return tuple(part.contiguous() for part in parts)


def fixed_batches(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """The same function of tensors [E, ...], computed in batches of 16 rows, padded with zeros.

    Kernels round differently for batches of other sizes.
    """

    def compute(*tensors: torch.Tensor) -> torch.Tensor:
        rows = len(tensors[0])
        padded = [
            torch.cat((tensor, tensor.new_zeros(-rows % _BATCH, *tensor.shape[1:])))
            for tensor in tensors
        ]
        parts = zip(*(torch.split(tensor, _BATCH) for tensor in padded), strict=True)
        return torch.cat([function(*part) for part in parts])[:rows]

    return compute
