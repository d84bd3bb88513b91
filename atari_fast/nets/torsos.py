"""Torsos: stacks of frames to feature vectors."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from atari_fast.config import NetConfig
from atari_fast.errors import ConfigError


class NatureTorso(nn.Module):
    """The three convolutions of Mnih et al. 2015 (Methods) on uint8[B, S, 84, 84] -> [B, 49 * c3].

    Pixels are divided by 255 as there, or each observation is standardised over its own S * 84 * 84
    gray levels: (x - mean) / sqrt(var + 1). Most of a frame is background; where that is not near 0
    it drowns what moves, and the first updates go into learning to subtract it.
    """

    def __init__(self, stack: int, channels: tuple[int, int, int], *, standardize: bool) -> None:
        super().__init__()
        self.standardize = standardize
        self.conv1 = nn.Conv2d(stack, channels[0], 8, stride=4)
        self.conv2 = nn.Conv2d(channels[0], channels[1], 4, stride=2)
        self.conv3 = nn.Conv2d(channels[1], channels[2], 3, stride=1)
        self.features = 49 * channels[2]

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Maps frames uint8[B, S, 84, 84] to features [B, D]."""
        pixels = frames.to(_compute_dtype(frames))  # bfloat16 holds whole numbers up to 256
        if self.standardize:
            x = F.relu(self.conv1(F.layer_norm(pixels, pixels.shape[1:], eps=1.0)))
        else:
            x = F.relu(F.conv2d(pixels, self.conv1.weight / 255, self.conv1.bias, stride=4))
        x = F.relu(self.conv2(x))
        x = F.relu(self.conv3(x))
        return x.flatten(1)


class MlpTorso(nn.Module):
    """Flattened frames uint8[B, S, H, W], divided by 255, for the toy games; no weights."""

    def __init__(self, stack: int, frame_shape: tuple[int, int]) -> None:
        super().__init__()
        self.features = stack * frame_shape[0] * frame_shape[1]

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Maps frames uint8[B, S, H, W] to features [B, S * H * W]."""
        return frames.flatten(1).to(torch.float32) / 255


def _compute_dtype(frames: torch.Tensor) -> torch.dtype:
    kind = frames.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32


def make_torso(config: NetConfig, frame_shape: tuple[int, int]) -> NatureTorso | MlpTorso:
    """Builds the torso that `config.torso` names.

    Raises:
        ConfigError: that torso cannot take frames of this shape (H, W).
    """
    if config.torso == "nature":
        if frame_shape != (84, 84):
            raise ConfigError(
                f"net.torso: nature takes frames of 84x84, this game has {frame_shape[0]}x"
                f"{frame_shape[1]}; use --net.torso mlp"
            )
        standardize = config.pixels == "standardize"
        return NatureTorso(config.stack, config.channels, standardize=standardize)
    return MlpTorso(config.stack, frame_shape)
