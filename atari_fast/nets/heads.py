"""Heads: feature vectors to action values, and the networks made of a torso and a head."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from atari_fast.config import NetConfig
from atari_fast.nets.torsos import make_torso


class QHead(nn.Module):
    """One hidden layer and one value for each action (Mnih et al. 2015): [B, D] -> [B, A]."""

    def __init__(self, features: int, hidden: int, num_actions: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(features, hidden)
        self.out = nn.Linear(hidden, num_actions)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Maps features [B, D] to action values [B, A]."""
        q: torch.Tensor = self.out(F.relu(self.hidden(features)))
        return q


class DuelingHead(nn.Module):
    """Q = V + A - mean_b A, a hidden layer for each stream (Wang et al. 2016, eq. 9)."""

    def __init__(self, features: int, hidden: int, num_actions: int) -> None:
        super().__init__()
        self.value_hidden = nn.Linear(features, hidden)
        self.value = nn.Linear(hidden, 1)
        self.advantage_hidden = nn.Linear(features, hidden)
        self.advantage = nn.Linear(hidden, num_actions)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Maps features [B, D] to action values [B, A]."""
        value: torch.Tensor = self.value(F.relu(self.value_hidden(features)))
        advantage: torch.Tensor = self.advantage(F.relu(self.advantage_hidden(features)))
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
        return q.float()
