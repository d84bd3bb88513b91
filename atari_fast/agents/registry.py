"""Every agent by the class of its settings and the name of its algorithm."""

from __future__ import annotations

from typing import Any

import torch

from atari_fast.agents import c51, dqn, iqn, qr_dqn, r2d2
from atari_fast.agents.agent import Agent
from atari_fast.config import Config, DqnConfig, R2d2Config
from atari_fast.types import EnvSpec

_DQN_FAMILY = {"dqn": dqn.build, "c51": c51.build, "qr-dqn": qr_dqn.build, "iqn": iqn.build}


def build(config: Config, spec: EnvSpec, device: torch.device) -> Agent[Any]:
    """Build the agent that the settings name, with its networks on `device`."""
    if isinstance(config, R2d2Config):
        return r2d2.build(config, spec, device)
    assert isinstance(config, DqnConfig)
    return _DQN_FAMILY[config.agent.algorithm](config, spec, device)
