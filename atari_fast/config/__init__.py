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
from atari_fast.config.ngu import (
    Agent57AgentConfig,
    Agent57Config,
    FamilyAgentConfig,
    FamilyConfig,
    NguAgentConfig,
    NguConfig,
    NoveltyConfig,
)
from atari_fast.config.r2d2 import R2d2AgentConfig, R2d2Config, R2d2ReplayConfig
from atari_fast.config.ranges import FRAMES_PER_STEP, Range
from atari_fast.config.recurrent import (
    BanditConfig,
    RecurrentAgentConfig,
    RecurrentConfig,
    RecurrentNetConfig,
    RecurrentReplayConfig,
    SequenceReplayConfig,
)

CONFIGS: Mapping[str, type[Config]] = {
    **DQN_FAMILY,
    "r2d2": R2d2Config,
    "ngu": NguConfig,
    "agent57": Agent57Config,
}
"""The class of settings of each algorithm; `agent.algorithm` tells which one a stored
configuration has."""

__all__ = [
    "CONFIGS",
    "DQN_FAMILY",
    "FRAMES_PER_STEP",
    "Agent57AgentConfig",
    "Agent57Config",
    "BanditConfig",
    "C51AgentConfig",
    "C51Config",
    "Config",
    "DqnAgentConfig",
    "DqnConfig",
    "DqnFamilyAgentConfig",
    "DqnFamilyConfig",
    "DqnOptimConfig",
    "EnvConfig",
    "FamilyAgentConfig",
    "FamilyConfig",
    "IqnAgentConfig",
    "IqnConfig",
    "LeastSquaresConfig",
    "MunchausenAgentConfig",
    "NetConfig",
    "NguAgentConfig",
    "NguConfig",
    "NoveltyConfig",
    "OptimConfig",
    "QrDqnAgentConfig",
    "QrDqnConfig",
    "R2d2AgentConfig",
    "R2d2Config",
    "R2d2ReplayConfig",
    "Range",
    "RecurrentAgentConfig",
    "RecurrentConfig",
    "RecurrentNetConfig",
    "RecurrentReplayConfig",
    "ReplayConfig",
    "RunConfig",
    "SequenceReplayConfig",
    "TorsoConfig",
    "convert",
    "with_algorithm",
]
