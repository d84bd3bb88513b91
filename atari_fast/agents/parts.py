"""The record of an agent: all that the runtime knows of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from atari_fast.replay.transition import TransitionBatch


class LossOutput(NamedTuple):
    """What a loss says of a batch of B items."""

    losses: torch.Tensor
    """float32[B], differentiable; the learner weights and averages them."""
    td_abs: torch.Tensor
    """float32[B], detached: the new priorities."""
    metrics: Mapping[str, torch.Tensor]
    """Detached scalars to log, on the device."""


class Hook(NamedTuple):
    """Something that happens every so often between updates."""

    period: int
    """Emulator frames between calls."""
    call: Callable[[], None]


@dataclass(frozen=True)
class AgentParts:
    """One agent, as its recipe builds it."""

    nets: Mapping[str, nn.Module]
    """Every network by name; all of them go into checkpoints."""
    trained: nn.Module
    """The one of `nets` whose parameters the optimizer updates."""
    q_values: Callable[[torch.Tensor], torch.Tensor]
    """Acting: observations uint8[E, S, H, W] -> action values float32[E, A]."""
    epsilon: Callable[[int], float]
    """Probability of a random action, given the frames since learning began."""
    loss: Callable[[TransitionBatch], LossOutput]
    """The algorithm's mathematics: a pure function of the networks and the batch."""
    hooks: Sequence[Hook]
    """Periodic parts of the algorithm, in the order in which they are called."""
