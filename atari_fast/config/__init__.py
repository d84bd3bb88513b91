"""Settings: frozen dataclasses, one class for each algorithm, and what they share."""

from __future__ import annotations

from collections.abc import Mapping

from atari_fast.config.base import (
    Config,
    EnvConfig,
    OptimConfig,
    RunConfig,
    TorsoConfig,
)
from atari_fast.config.dqn import (
    DQN_FAMILY,
    C51AgentConfig,
    C51Config,
    DqnAgentConfig,
    DqnConfig,
    DqnFamilyAgentConfig,
    DqnFamilyConfig,
    DqnOptimConfig,
    IqnAgentConfig,
    IqnConfig,
    LeastSquaresConfig,
    MunchausenAgentConfig,
    NetConfig,
    QrDqnAgentConfig,
    QrDqnConfig,
    ReplayConfig,
    convert,
    with_algorithm,
)
from atari_fast.config.r2d2 import (
    R2d2AgentConfig,
    R2d2Config,
    R2d2ReplayConfig,
    RecurrentNetConfig,
    SequenceReplayConfig,
)
from atari_fast.config.ranges import FRAMES_PER_STEP, Range

CONFIGS: Mapping[str, type[Config]] = {**DQN_FAMILY, "r2d2": R2d2Config}
"""The class of settings of each algorithm; `agent.algorithm` tells which one a stored
configuration has."""

__all__ = [
    "CONFIGS",
    "DQN_FAMILY",
    "FRAMES_PER_STEP",
    "C51AgentConfig",
    "C51Config",
    "Config",
    "DqnAgentConfig",
    "DqnConfig",
    "DqnFamilyAgentConfig",
    "DqnFamilyConfig",
    "DqnOptimConfig",
    "EnvConfig",
    "IqnAgentConfig",
    "IqnConfig",
    "LeastSquaresConfig",
    "MunchausenAgentConfig",
    "NetConfig",
    "OptimConfig",
    "QrDqnAgentConfig",
    "QrDqnConfig",
    "R2d2AgentConfig",
    "R2d2Config",
    "R2d2ReplayConfig",
    "Range",
    "RecurrentNetConfig",
    "ReplayConfig",
    "RunConfig",
    "SequenceReplayConfig",
    "TorsoConfig",
    "convert",
    "with_algorithm",
]
