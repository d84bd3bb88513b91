"""Every agent by the class of its settings."""

from __future__ import annotations

from typing import Any

import torch

from atari_fast.agents import a2c, agent57, c51, dqn, iqn, ngu, ppo, pqn, qr_dqn, r2d2
from atari_fast.agents.agent import Agent
from atari_fast.config import (
    A2cConfig,
    A3cConfig,
    Agent57Config,
    C51Config,
    Config,
    DqnConfig,
    IqnConfig,
    NguConfig,
    PpoConfig,
    PqnConfig,
    QrDqnConfig,
    R2d2Config,
)
from atari_fast.types import EnvSpec


def build(config: Config, spec: EnvSpec, device: torch.device) -> Agent[Any]:
    """Build the agent that the settings are of, with its networks on `device`."""
    match config:
        case DqnConfig():
            return dqn.build(config, spec, device)
        case C51Config():
            return c51.build(config, spec, device)
        case QrDqnConfig():
            return qr_dqn.build(config, spec, device)
        case IqnConfig():
            return iqn.build(config, spec, device)
        case R2d2Config():
            return r2d2.build(config, spec, device)
        case NguConfig():
            return ngu.build(config, spec, device)
        case Agent57Config():
            return agent57.build(config, spec, device)
        case A2cConfig() | A3cConfig():
            return a2c.build(config, spec, device)
        case PpoConfig():
            return ppo.build(config, spec, device)
        case PqnConfig():
            return pqn.build(config, spec, device)
    raise TypeError(f"no agent has settings of the class {type(config).__name__}")
