"""Heads: feature vectors to action values, and the networks made of a torso and a head."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from atari_fast.config import NetConfig
from atari_fast.nets.torsos import make_torso


def _float32_linear(layer: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    """A layer in float32 even under autocast: action gaps are finer than bfloat16 resolves."""
    return F.linear(x.float(), layer.weight, layer.bias)


class QHead(nn.Module):
    """One hidden layer and one value for each action (Mnih et al. 2015): [B, D] -> [B, A]."""

    def __init__(self, features: int, hidden: int, num_actions: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(features, hidden)
        self.out = nn.Linear(hidden, num_actions)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Maps features [B, D] to action values float32[B, A]."""
        hidden = F.relu(self.hidden(features))
        with torch.autocast(features.device.type, enabled=False):
            return _float32_linear(self.out, hidden)


class DuelingHead(nn.Module):
    """Q = V + A - mean_b A, a hidden layer for each stream (Wang et al. 2016, eq. 9)."""

    def __init__(self, features: int, hidden: int, num_actions: int) -> None:
        super().__init__()
        self.value_hidden = nn.Linear(features, hidden)
        self.value = nn.Linear(hidden, 1)
        self.advantage_hidden = nn.Linear(features, hidden)
        self.advantage = nn.Linear(hidden, num_actions)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Maps features [B, D] to action values float32[B, A]."""
        value_hidden = F.relu(self.value_hidden(features))
        advantage_hidden = F.relu(self.advantage_hidden(features))
        with torch.autocast(features.device.type, enabled=False):
            value = _float32_linear(self.value, value_hidden)
            advantage = _float32_linear(self.advantage, advantage_hidden)
            return value + advantage - advantage.mean(dim=1, keepdim=True)


class QNetwork(nn.Module):
    """A torso and a head: frames uint8[B, S, H, W] -> action values float32[B, A]."""

    def __init__(
        self, config: NetConfig, frame_shape: tuple[int, int], num_actions: int, *, dueling: bool
    ) -> None:
        super().__init__()
        self.torso = make_torso(config, frame_shape)
        head = DuelingHead if dueling else QHead
        self.head = head(self.torso.features, config.hidden, num_actions)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Maps observations uint8[B, S, H, W] to action values float32[B, A]."""
        q: torch.Tensor = self.head(self.torso(frames))
        return q
