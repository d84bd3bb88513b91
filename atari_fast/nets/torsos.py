"""Torsos: stacks of frames to feature vectors."""

from __future__ import annotations

from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import nn

from atari_fast.config import TorsoConfig
from atari_fast.errors import ConfigError


class NatureTorso(nn.Module):
    """The three convolutions of Mnih et al. 2015 (Methods) on uint8[B, S, 84, 84] -> [B, 49 * c3].

    With `same`, zeros around each input leave maps of 21x21, 11x11 and 11x11, [B, 121 * c3]; where
    their number is odd, the one more is at the bottom and at the right, as in TensorFlow.

    Pixels are divided by 255 as there, or each observation is standardised over its own S * 84 * 84
    gray levels: (x - mean) / sqrt(var + 1). Most of a frame is background; where that is not near 0
    it drowns what moves, and the first updates go into learning to subtract it.

    With `layer_norm` the output of each convolution is normalised over all its values before the
    ReLU (PQN, Gallici et al. 2024).
    """

    def __init__(
        self,
        stack: int,
        channels: tuple[int, int, int],
        *,
        standardize: bool,
        same: bool = False,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        self.standardize, self.same = standardize, same
        self.conv1 = nn.Conv2d(stack, channels[0], 8, stride=4, padding=2 if same else 0)
        self.conv2 = nn.Conv2d(channels[0], channels[1], 4, stride=2)
        self.conv3 = nn.Conv2d(channels[1], channels[2], 3, stride=1, padding=1 if same else 0)
        self.features = (121 if same else 49) * channels[2]
        sides = (21, 11, 11) if same else (20, 9, 7)
        self.norms = nn.ModuleList(
            nn.LayerNorm((maps, side, side)) if layer_norm else nn.Identity()
            for maps, side in zip(channels, sides, strict=True)
        )

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Maps frames uint8[B, S, 84, 84] to features [B, D]."""
        norm1, norm2, norm3 = self.norms
        x = F.relu(norm1(_first_layer(self.conv1, frames, self.standardize)))
        x = F.relu(norm2(self.conv2(F.pad(x, (1, 2, 1, 2)) if self.same else x)))
        x = F.relu(norm3(self.conv3(x)))
        return x.flatten(1)


class SpectralConv2d(nn.Conv2d):
    """A convolution by W / sigma, sigma the largest singular value of W as a matrix [C_out, rest].

    sigma = u' W v with v = W' u / |W' u|, where u follows the largest left singular vector by one
    power iteration before each update (Miyato et al. 2018, algorithm 1), which the learner asks for
    with `iterate_spectral_norms`. A forward pass changes nothing.
    """

    u: torch.Tensor

    def __init__(self, channels_in: int, channels_out: int) -> None:
        """A 3x3 convolution with padding 1."""
        super().__init__(channels_in, channels_out, 3, padding=1)
        self.register_buffer("u", F.normalize(torch.randn(channels_out), dim=0))
        self.begin()

    def begin(self) -> None:
        """Finds the singular vector of new weights, as torch's own layer does."""
        for _ in range(15):
            self.iterate()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [B, C_in, H, W] to [B, C_out, H, W]."""
        with torch.autocast(x.device.type, enabled=False):
            matrix, u = self.weight.flatten(1), self.u.clone()
            v = F.normalize(u @ matrix.detach(), dim=0)
            weight = self.weight / (u @ matrix @ v)
        y: torch.Tensor = self._conv_forward(x, weight, self.bias)
        return y

    @torch.no_grad()
    def iterate(self) -> None:
        """Takes one power iteration."""
        with torch.autocast(self.weight.device.type, enabled=False):
            matrix = self.weight.flatten(1)
            v = F.normalize(self.u @ matrix, dim=0)
            self.u.copy_(F.normalize(matrix @ v, dim=0))


def iterate_spectral_norms(net: nn.Module) -> None:
    """Takes one power iteration in each spectrally normalized convolution of a network."""
    for module in net.modules():
        if isinstance(module, SpectralConv2d):
            module.iterate()


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(relu(x)))), convolutions 3x3 that keep the shape [B, C, H, W]."""

    def __init__(self, channels: int, *, spectral_norm: bool) -> None:
        super().__init__()
        self.conv1 = _conv3x3(channels, channels, spectral_norm)
        self.conv2 = _conv3x3(channels, channels, spectral_norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [B, C, H, W] to [B, C, H, W]."""
        y: torch.Tensor = self.conv2(F.relu(self.conv1(F.relu(x))))
        return x + y


class ImpalaSection(nn.Module):
    """Convolution 3x3, max-pool 3x3 of stride 2, two residual blocks, layer normalization."""

    def __init__(
        self, config: TorsoConfig, channels_in: int, channels: int, maps: tuple[int, int]
    ) -> None:
        """A section whose output has `channels` maps of (height, width) `maps`."""
        super().__init__()
        self.conv = _conv3x3(channels_in, channels, False)
        self.rest = nn.Sequential(
            nn.MaxPool2d(3, stride=2, padding=1),
            ResidualBlock(channels, spectral_norm=config.spectral_norm),
            ResidualBlock(channels, spectral_norm=config.spectral_norm),
        )
        if config.layer_norm:
            self.rest.append(nn.LayerNorm((channels, *maps)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [B, C_in, H, W] to [B, C, H / 2, W / 2], sizes rounded up."""
        y: torch.Tensor = self.rest(self.conv(x))
        return y


class ImpalaTorso(nn.Module):
    """The large network of Espeholt et al. 2018 (fig. 3, right) on uint8[B, S, H, W] -> [B, D].

    Three sections of w times 16, 32 and 32 filters, at the end a ReLU. Pixels are taken as
    `NatureTorso` takes them. The options follow Clark et al. 2024 (Beyond The Rainbow): spectral
    normalization of the blocks' convolutions, adaptive max-pooling at the end, and layer
    normalization, here of a section's output over all its values.
    """

    def __init__(self, config: TorsoConfig, frame_shape: tuple[int, int]) -> None:
        super().__init__()
        self.standardize = config.pixels == "standardize"
        self.pool = config.pool
        narrow, wide = 16 * config.width, 32 * config.width
        half, quarter, eighth = (
            (-(-frame_shape[0] // by), -(-frame_shape[1] // by)) for by in (2, 4, 8)
        )
        self.section1 = ImpalaSection(config, config.stack, narrow, half)
        self.section2 = ImpalaSection(config, narrow, wide, quarter)
        self.section3 = ImpalaSection(config, wide, wide, eighth)
        self.features = wide * (self.pool**2 if self.pool else eighth[0] * eighth[1])

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Maps frames uint8[B, S, H, W] to features [B, D]."""
        x = _first_layer(self.section1.conv, frames, self.standardize)
        x = self.section3(self.section2(self.section1.rest(x)))
        if self.pool:
            x = F.adaptive_max_pool2d(x, self.pool)
        return F.relu(x).flatten(1)


class NipsTorso(nn.Module):
    """The two convolutions of Mnih et al. 2013 (section 5), which A3C has, to [B, 2592].

    Takes uint8[B, S, 84, 84], pixels as `NatureTorso` takes them.
    """

    def __init__(self, stack: int, *, standardize: bool) -> None:
        super().__init__()
        self.standardize = standardize
        self.conv1 = nn.Conv2d(stack, 16, 8, stride=4)
        self.conv2 = nn.Conv2d(16, 32, 4, stride=2)
        self.features = 32 * 9 * 9

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Maps frames uint8[B, S, 84, 84] to features [B, D]."""
        x = F.relu(_first_layer(self.conv1, frames, self.standardize))
        return F.relu(self.conv2(x)).flatten(1)


class RunningPixels(nn.Module):
    """Gray levels, shifted and scaled by moving averages over all frames (A3C-LSTM).

    (x - m) / (s + 1e-8), where m and s are exponential averages of the frames' means and standard
    deviations, without the bias of their beginning at 0. Before the first frame: x / 255.
    """

    averages: torch.Tensor
    """float32[3]: of means, of deviations, and of ones, by which the others are divided."""
    DECAY = 0.9999

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("averages", torch.zeros(3))

    @torch.no_grad()
    def add(self, frames: torch.Tensor) -> None:
        """Take in frames uint8[E, H, W] that arrived together."""
        keep = self.DECAY ** len(frames)
        deviations, means = torch.std_mean(frames.flatten(1).float(), dim=1, correction=0)
        values = torch.stack((means.mean(), deviations.mean(), torch.ones_like(means[0])))
        self.averages.mul_(keep).add_(values, alpha=1 - keep)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Maps uint8[B, S, H, W] to float32[B, S, H, W]."""
        mean, deviation, weight = self.averages / self.averages[2].clamp(min=1e-12)
        pixels = frames.float()
        return torch.where(weight > 0, (pixels - mean) / (deviation + 1e-8), pixels / 255)


class PooledTorso(nn.Module):
    """The four pooled convolutions of A3C-LSTM (dgriff777/rl_a3c_pytorch), [B, 1024] of 80x80.

    Each convolution is followed by a max-pool of 2x2 and a ReLU. Takes uint8[B, S, H, W].
    """

    _LAYERS = ((32, 5, 2), (32, 5, 1), (64, 4, 1), (64, 3, 1))  # filters, kernel, padding

    def __init__(self, config: TorsoConfig, frame_shape: tuple[int, int]) -> None:
        super().__init__()
        self.standardize = config.pixels == "standardize"
        self.running = RunningPixels() if config.pixels == "running" else None
        self.convs = nn.ModuleList()
        channels, sides = config.stack, list(frame_shape)
        for filters, kernel, padding in self._LAYERS:
            self.convs.append(nn.Conv2d(channels, filters, kernel, padding=padding))
            channels, sides = filters, [(side + 2 * padding - kernel + 1) // 2 for side in sides]
        self.features = channels * sides[0] * sides[1]

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Maps frames uint8[B, S, H, W] to features [B, D]."""
        first, *others = self.convs
        assert isinstance(first, nn.Conv2d)
        if self.running is not None:
            x = first(self.running(frames))
        else:
            x = _first_layer(first, frames, self.standardize)
        x = F.relu(F.max_pool2d(x, 2))
        for conv in others:
            x = F.relu(F.max_pool2d(conv(x), 2))
        return x.flatten(1)


class MlpTorso(nn.Module):
    """Flattened frames uint8[B, S, H, W], divided by 255, for the toy games; no weights."""

    def __init__(self, stack: int, frame_shape: tuple[int, int]) -> None:
        super().__init__()
        self.features = stack * frame_shape[0] * frame_shape[1]

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Maps frames uint8[B, S, H, W] to features [B, S * H * W]."""
        return frames.flatten(1).to(torch.float32) / 255


def _conv3x3(channels_in: int, channels_out: int, spectral_norm: bool) -> nn.Conv2d:
    if spectral_norm:
        return SpectralConv2d(channels_in, channels_out)
    return nn.Conv2d(channels_in, channels_out, 3, padding=1)


def _first_layer(conv: nn.Conv2d, frames: torch.Tensor, standardize: bool) -> torch.Tensor:
    """A convolution of frames uint8[B, S, H, W], over 255 or standardised; see `NatureTorso`."""
    pixels = frames.to(_compute_dtype(frames))  # bfloat16 holds whole numbers up to 256
    if standardize:
        x: torch.Tensor = conv(F.layer_norm(pixels, pixels.shape[1:], eps=1.0))
        return x
    return F.conv2d(pixels, conv.weight / 255, conv.bias, conv.stride, conv.padding)


def _compute_dtype(frames: torch.Tensor) -> torch.dtype:
    kind = frames.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32


Torso: TypeAlias = NatureTorso | NipsTorso | ImpalaTorso | PooledTorso | MlpTorso


def make_torso(config: TorsoConfig, frame_shape: tuple[int, int]) -> Torso:
    """Builds the torso that `config.torso` names.

    Raises:
        ConfigError: that torso cannot take frames of this shape (H, W).
    """
    height, width = frame_shape
    standardize = config.pixels == "standardize"
    if config.torso in ("nature", "nips") and frame_shape != (84, 84):
        remedy = "--env.no-crop" if frame_shape == (80, 80) else "--net.torso mlp"
        raise ConfigError(
            f"net.torso: {config.torso} takes frames of 84x84, this game has {height}x{width}; use "
            f"{remedy}"
        )
    if config.torso == "pooled" and min(frame_shape) < 40:
        pixels = " --net.pixels scale" if config.pixels == "running" else ""
        raise ConfigError(
            f"net.torso: pooled takes frames of at least 40x40, this game has {height}x{width}; "
            f"use --net.torso mlp{pixels}"
        )
    if config.torso == "nips":
        return NipsTorso(config.stack, standardize=standardize)
    if config.torso == "pooled":
        return PooledTorso(config, frame_shape)
    if config.torso == "nature":
        same = config.padding == "same"
        return NatureTorso(
            config.stack,
            config.channels,
            standardize=standardize,
            same=same,
            layer_norm=config.layer_norm,
        )
    if config.torso == "impala":
        return ImpalaTorso(config, frame_shape)
    return MlpTorso(config.stack, frame_shape)
