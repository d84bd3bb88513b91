"""The record of an agent: all that the runtime knows of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import nn

from atari_fast.replay.transition import TransitionBatch, TransitionReplay

QValues = Callable[[torch.Tensor], torch.Tensor]
"""Observations uint8[E, S, H, W] -> action values float32[E, A]."""


class LossOutput(NamedTuple):
    """What a loss says of a batch of B items."""

    losses: torch.Tensor
    """float32[B], differentiable; the learner weights and averages them."""
    priorities: torch.Tensor
    """float32[B], detached, at least 0: absolute TD errors, or the losses of a distribution."""
    metrics: Mapping[str, torch.Tensor]
    """Detached scalars to log, on the device."""


class Interrupted(Exception):
    """The run is to end: a hook that meets this leaves all as it was, and is called again later."""


class Services(Protocol):
    """What the runtime does for a periodic part of an algorithm."""

    @property
    def replay(self) -> TransitionReplay:
        """The replay, to be read."""

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer of the trained network."""

    @property
    def frames(self) -> int:
        """Emulator frames of the run so far."""

    def play(self, games: int, epsilon: float, seed: str) -> Sequence[float]:
        """Scores of full games with `q_values` as they are, on the seeds that `seed` names.

        Raises:
            Interrupted: a signal came.
        """

    def show(self, text: str) -> None:
        """Says what is being done, while it takes long; raises as `play`."""

    def log(self, values: Mapping[str, float], note: str) -> None:
        """Logs values at the present frame and shows a line."""


class Hook(NamedTuple):
    """Something that happens every so often between updates."""

    period: int
    """Emulator frames between calls."""
    call: Callable[[Services], None]


@dataclass(frozen=True)
class AgentParts:
    """One agent, as its `build` function makes it."""

    nets: Mapping[str, nn.Module]
    """Every network by name; all of them go into checkpoints."""
    trained: nn.Module
    """The one of `nets` whose parameters the optimizer updates."""
    q_values: QValues
    """Values by which a trained agent acts."""
    behaviour: QValues
    """Values by which it acts in training, noise included."""
    epsilon: Callable[[int], float]
    """Probability of a random action, given the frames since learning began."""
    loss: Callable[[TransitionBatch], LossOutput]
    """The algorithm's mathematics: a pure function of the networks and the batch."""
    hooks: Sequence[Hook]
    """Periodic parts of the algorithm, in the order in which they are called."""
