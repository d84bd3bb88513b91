"""Networks made of a torso and a head."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from atari_fast.config import DqnFamilyConfig, IqnConfig
from atari_fast.nets.heads import make_head
from atari_fast.nets.noisy import NoisyLinear
from atari_fast.nets.torsos import SpectralConv2d, make_torso
from atari_fast.types import EnvSpec


class QNetwork(nn.Module):
    """Frames uint8[B, S, H, W] to action values float32[B, A], or to N numbers for each action."""

    def __init__(self, config: DqnFamilyConfig, spec: EnvSpec, outputs: int = 1) -> None:
        """Makes the network that `config.net` and `config.agent` ask for, with N = `outputs`."""
        super().__init__()
        self.torso = make_torso(config.net, spec.frame_shape)
        self.head = make_head(config, self.torso.features, spec.num_actions, outputs)
        self._gradient = config.agent.dueling_gradient if config.agent.dueling else 1.0
        self._outputs = outputs
        initialize(self, config.net.init)

    def features(self, frames: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The inputs [B, hidden] of the last layers of the head, without noise."""
        return self.head.features(self.torso(frames))

    def forward(self, frames: torch.Tensor, noise: int = 0) -> torch.Tensor:
        """Maps observations uint8[B, S, H, W] to float32[B, A], or [B, A, N] where N is not 1.

        `noise`: samples of the weights' noise, 0, 1 or B; without effect if there is none.
        """
        x = _scale_gradient(self.torso(frames), self._gradient)
        values: torch.Tensor = self.head(x, noise)
        return values.squeeze(-1) if self._outputs == 1 else values


class ImplicitQuantileNetwork(nn.Module):
    """Frames and levels tau to quantiles of the return (Dabney 2018b, 3.1)."""

    def __init__(self, config: IqnConfig, spec: EnvSpec) -> None:
        super().__init__()
        self.torso = make_torso(config.net, spec.frame_shape)
        self.embedding = nn.Linear(config.agent.cosines, self.torso.features)
        self.head = make_head(config, self.torso.features, spec.num_actions, 1)
        self._gradient = config.agent.dueling_gradient if config.agent.dueling else 1.0
        initialize(self, config.net.init)

    def forward(self, frames: torch.Tensor, taus: torch.Tensor, noise: int = 0) -> torch.Tensor:
        """Maps observations and levels to quantiles.

        The levels enter as phi_j = ReLU(sum_i cos(pi i tau) w_ij + b_j), i from 1 on, times the
        features (eq. 4, where i begins at 0, whose cosine is a second bias).

        Args:
            frames: uint8[B, S, H, W]
            taus: levels from 0 to 1. float32[B, N]
            noise: as in `QNetwork.forward`.

        Returns:
            float32[B, A, N]
        """
        orders = torch.arange(1, self.embedding.in_features + 1, device=taus.device)
        cosines = torch.cos(torch.pi * orders * taus[..., None])
        x = _scale_gradient(self.torso(frames), self._gradient)
        merged = x[:, None] * F.relu(self.embedding(cosines))
        quantiles: torch.Tensor = self.head(merged, noise)
        return quantiles.squeeze(-1).transpose(1, 2)


@torch.no_grad()
def initialize(net: nn.Module, init: str) -> None:
    """Draws the first weights of convolutions and linear layers as `net.init` says.

    Layers begin as `uniform` says, which is torch's own way; noisy layers stay as they are.
    """
    if init == "uniform":
        return
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and not isinstance(layer, NoisyLinear):
            if init == "xavier":
                nn.init.xavier_uniform_(layer.weight)
            elif init == "orthogonal":
                nn.init.orthogonal_(layer.weight, 2**0.5)
            elif init == "normalized-columns":
                bound = (2 / layer.weight[0].numel()) ** 0.5
                nn.init.uniform_(layer.weight, -bound, bound)
            else:  # a variance of 1 / sqrt(3) over the number of inputs
                bound = 3**0.25 * layer.weight[0].numel() ** -0.5
                nn.init.uniform_(layer.weight, -bound, bound)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        if isinstance(layer, SpectralConv2d):
            layer.begin()


def _scale_gradient(x: torch.Tensor, scale: float) -> torch.Tensor:
    """X itself, of which the gradient arrives multiplied by `scale`."""
    return x if scale == 1.0 else x.detach() + (x - x.detach()) * scale
