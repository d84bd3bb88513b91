"""Every agent by the name that `config.agent.algorithm` has for it."""

from __future__ import annotations

from typing import Any

import torch

from atari_fast.agents import c51, dqn, iqn, qr_dqn
from atari_fast.agents.agent import Agent
from atari_fast.config import Config
from atari_fast.types import EnvSpec

_AGENTS = {"dqn": dqn.build, "c51": c51.build, "qr-dqn": qr_dqn.build, "iqn": iqn.build}


def build(config: Config, spec: EnvSpec, device: torch.device) -> Agent[Any]:
    """Builds the agent that the settings name, with its networks on `device`."""
    return _AGENTS[config.agent.algorithm](config, spec, device)
