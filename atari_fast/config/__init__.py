"""Settings: frozen dataclasses, one class for each family of algorithms, and what they share."""

from __future__ import annotations

from atari_fast.config.base import (
    Config,
    EnvConfig,
    OptimConfig,
    RunConfig,
    TorsoConfig,
)
from atari_fast.config.dqn import (
    AgentConfig,
    DqnConfig,
    DqnOptimConfig,
    LeastSquaresConfig,
    NetConfig,
    ReplayConfig,
)
from atari_fast.config.r2d2 import (
    R2d2AgentConfig,
    R2d2Config,
    R2d2ReplayConfig,
    RecurrentNetConfig,
    SequenceReplayConfig,
)
from atari_fast.config.ranges import FRAMES_PER_STEP, Range

CONFIGS: tuple[type[Config], ...] = (DqnConfig, R2d2Config)
"""Every class of settings; `agent.algorithm` tells which one a stored configuration has."""

__all__ = [
    "CONFIGS",
    "FRAMES_PER_STEP",
    "AgentConfig",
    "Config",
    "DqnConfig",
    "DqnOptimConfig",
    "EnvConfig",
    "LeastSquaresConfig",
    "NetConfig",
    "OptimConfig",
    "R2d2AgentConfig",
    "R2d2Config",
    "R2d2ReplayConfig",
    "Range",
    "RecurrentNetConfig",
    "ReplayConfig",
    "RunConfig",
    "SequenceReplayConfig",
    "TorsoConfig",
]
