"""The settings of R2D2; `config.recurrent` has those that it shares with other algorithms."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from atari_fast.config.ranges import Range
from atari_fast.config.recurrent import (
    BanditConfig,
    RecurrentAgentConfig,
    RecurrentConfig,
    RecurrentReplayConfig,
)


@dataclass(frozen=True)
class R2d2AgentConfig(BanditConfig, RecurrentAgentConfig):
    """The algorithm and its options. With several policies, a bandit chooses among them."""

    algorithm: Literal["r2d2"] = "r2d2"
    """Recurrent replay distributed DQN (Kapturowski 2019)."""
    n_step: Annotated[int, Range(1, 1_024)] = 5
    """Steps of reward before the bootstrap."""


@dataclass(frozen=True)
class R2d2ReplayConfig(RecurrentReplayConfig):
    """The sequence replay, and how its states are watched."""

    state_drift: bool = False
    """Log how far action values from burned-in states are from those of the actor's states (section
    3); doubles the memory of states and unrolls once more. Changes no other number."""


@dataclass(frozen=True)
class R2d2Config(RecurrentConfig):
    """All settings of a run of R2D2."""

    agent: R2d2AgentConfig = field(default_factory=R2d2AgentConfig)
    replay: R2d2ReplayConfig = field(default_factory=R2d2ReplayConfig)

    @property
    def bootstrap_steps(self) -> int:
        """See `RecurrentConfig.bootstrap_steps`."""
        return self.agent.n_step

    @property
    def unroll_states(self) -> bool:
        """See `RecurrentConfig.unroll_states`."""
        return self.replay.state_drift
