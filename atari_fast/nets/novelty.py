"""Networks of the intrinsic reward: embedding, random network distillation, running statistics."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import nn

from atari_fast.config import NoveltyConfig, TorsoConfig
from atari_fast.errors import ConfigError
from atari_fast.types import EnvSpec


class RunningMoments(nn.Module):
    """Mean and variance of a stream of vectors, of equal shape.

    Plain ones of the first 1 / rate vectors, then exponential ones; with a rate of 0, plain ones
    throughout.
    """

    mean: torch.Tensor
    variance: torch.Tensor
    count: torch.Tensor

    def __init__(self, shape: tuple[int, ...], rate: float, floor: float) -> None:
        """Make statistics of nothing yet.

        Args:
            shape: shape of a vector.
            rate: exponential rate for each vector.
            floor: least standard deviation by which `normalize` divides.
        """
        super().__init__()
        self._rate = rate
        self._floor = floor
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("variance", torch.ones(shape))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def add(self, values: torch.Tensor) -> None:
        """Take in vectors float32[n, *shape]."""
        self.count += len(values)
        weight = (len(values) / self.count).clamp(min=1 - (1 - self._rate) ** len(values))
        apart = values - self.mean
        shift = apart.mean(dim=0)
        spread = apart.square().mean(dim=0) - weight * shift.square()
        self.variance.lerp_(spread.clamp(min=0), weight)
        self.mean.add_(weight * shift)

    def normalize(self, values: torch.Tensor) -> torch.Tensor:
        """(values - mean) / standard deviation; before the first vector, the values."""
        return (values - self.mean) / self.variance.sqrt().clamp(min=self._floor)


class EmbeddingNetwork(nn.Module):
    """Controllable states f(x), trained by the action between two of them (NGU, 2).

    Frame -> convolutions -> linear -> ReLU; the action from two embeddings by a hidden layer.
    Pixels are over 255 or standardised as those of the action values' network (`net.pixels`).
    """

    def __init__(self, torso: TorsoConfig, config: NoveltyConfig, spec: EnvSpec) -> None:
        """Build the network for single frames."""
        super().__init__()
        self.torso, features = _frame_features(torso, spec.frame_shape)
        self._standardize = torso.pixels == "standardize" and torso.torso != "mlp"
        self.linear = nn.Linear(features, config.embedding)
        self.hidden = nn.Linear(2 * config.embedding, config.embedding_hidden)
        self.actions = nn.Linear(config.embedding_hidden, spec.num_actions)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Maps frames uint8[N, H, W] to embeddings float32[N, D]."""
        pixels = frames[:, None].float()
        x = F.layer_norm(pixels, pixels.shape[1:], eps=1.0) if self._standardize else pixels / 255
        return F.relu(self.linear(self.torso(x))).float()

    def predict(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        """Logits float[N, A] of the actions between embeddings float32[N, D]."""
        logits: torch.Tensor = self.actions(F.relu(self.hidden(torch.cat((before, after), dim=-1))))
        return logits


class RandomDistillation(nn.Module):
    """Random network distillation (Burda et al. 2018): a predictor of a random network's outputs.

    Pixels are standardised by running statistics and clipped to [-5, 5].
    """

    def __init__(self, torso: TorsoConfig, config: NoveltyConfig, spec: EnvSpec) -> None:
        """Build both networks for single frames."""
        super().__init__()
        self.pixels = RunningMoments(spec.frame_shape, 0.0, 1e-2)
        self.errors = RunningMoments((), config.statistics_rate, 1e-6)
        (target, features), (predictor, _) = (
            _frame_features(torso, spec.frame_shape) for _ in range(2)
        )
        outputs = config.life_long_features
        self.target = nn.Sequential(target, nn.Linear(features, outputs)).requires_grad_(False)
        self.predictor = nn.Sequential(predictor, nn.Linear(features, outputs))

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Prediction errors float32[N], means over outputs, of frames uint8[N, H, W]."""
        with torch.autocast(frames.device.type, enabled=False):  # errors of learner and actor agree
            x = self.pixels.normalize(frames.float()).clamp(-5, 5)[:, None]
            with torch.no_grad():
                target = self.target(x)
            errors: torch.Tensor = (self.predictor(x) - target).square().mean(dim=-1)
        return errors

    def factor(self, errors: torch.Tensor, largest: float) -> torch.Tensor:
        """min(max(alpha, 1), L), alpha = 1 + (error - mean) / deviation (NGU, 2, eq. 1).

        Args:
            errors: prediction errors. float32[N]
            largest: L.

        Returns:
            float32[N]
        """
        return (1 + self.errors.normalize(errors)).clamp(1.0, largest)


class NoveltyNetworks(nn.Module):
    """All networks of the intrinsic reward, and what its running statistics are."""

    distance: torch.Tensor
    distance_updates: torch.Tensor

    def __init__(self, torso: TorsoConfig, config: NoveltyConfig, spec: EnvSpec) -> None:
        """Build the networks that the settings ask for."""
        super().__init__()
        self.embedding = EmbeddingNetwork(torso, config, spec)
        self.distillation = RandomDistillation(torso, config, spec) if config.life_long else None
        self.register_buffer("distance", torch.zeros((), dtype=torch.float64))
        self.register_buffer("distance_updates", torch.zeros((), dtype=torch.int64))


class ActingNetworks(nn.Module):
    """All that an agent with an intrinsic reward acts by."""

    def __init__(self, values: Iterable[nn.Module], novelty: NoveltyNetworks) -> None:
        """Hold the networks of action values, and those of the intrinsic reward."""
        super().__init__()
        self.values = nn.ModuleList(values)
        self.novelty = novelty


def _frame_features(torso: TorsoConfig, frame_shape: tuple[int, int]) -> tuple[nn.Module, int]:
    """Features of a frame float32[N, 1, H, W], by Mnih's convolutions or, in toys, a hidden layer.

    Returns:
        the module, and the number of features.

    Raises:
        ConfigError: the frame is too small for the convolutions.
    """
    height, width = frame_shape
    if torso.torso == "mlp":
        layers = (nn.Flatten(), nn.Linear(height * width, 128), nn.ReLU())
        return nn.Sequential(*layers), 128
    rows, columns = (((side - 4) // 4 - 2) // 2 - 2 for side in frame_shape)
    if min(rows, columns) < 1:
        raise ConfigError(
            f"net.torso: got {torso.torso}, and the networks of the intrinsic reward need frames "
            f"of 36 x 36 or more, got {height} x {width}; expected mlp"
        )
    first, second, third = torso.channels
    convolutions = (
        nn.Conv2d(1, first, 8, stride=4),
        nn.ReLU(),
        nn.Conv2d(first, second, 4, stride=2),
        nn.ReLU(),
        nn.Conv2d(second, third, 3),
        nn.ReLU(),
        nn.Flatten(),
    )
    return nn.Sequential(*convolutions), rows * columns * third
