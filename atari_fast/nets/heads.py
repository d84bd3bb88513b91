"""Heads: feature vectors to action values, or to N numbers for each action."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from atari_fast.config import DqnConfig, DqnFamilyConfig
from atari_fast.nets.noisy import NoisyLinear

MakeLinear = Callable[[int, int], nn.Linear]
"""(inputs, outputs) -> layer."""


class SharedBias(nn.Linear):
    """A last layer of A * N outputs whose A actions share N biases (van Hasselt et al. 2016)."""

    def __init__(self, inputs: int, num_actions: int, outputs: int) -> None:
        super().__init__(inputs, num_actions * outputs)
        self.bias = nn.Parameter(self.bias.detach()[:outputs].clone())
        self._num_actions = num_actions

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [..., inputs] to [..., A * N]."""
        return F.linear(x, self.weight, self.bias.repeat(self._num_actions))


class QHead(nn.Module):
    """One hidden layer and N numbers for each action (Mnih 2015): [..., D] -> [..., A, N]."""

    def __init__(
        self,
        inputs: int,
        hidden: int,
        num_actions: int,
        outputs: int,
        linear: MakeLinear,
        last: MakeLinear | None = None,
    ) -> None:
        """Makes the hidden layers with `linear` and the last ones with `last`, else `linear`."""
        super().__init__()
        last = last or linear
        self.hidden = linear(inputs, hidden)
        self.out = last(hidden, num_actions * outputs)
        self._shape = (num_actions, outputs)

    @property
    def last_layers(self) -> tuple[nn.Linear, ...]:
        """The last layer, whose inputs `features` gives."""
        return (self.out,)

    def features(self, x: torch.Tensor, noise: int = 0) -> tuple[torch.Tensor, ...]:
        """The inputs [..., hidden] of the last layer."""
        return (F.relu(_apply(self.hidden, x, noise)),)

    def forward(self, x: torch.Tensor, noise: int = 0) -> torch.Tensor:
        """Maps [B, ..., D] to float32[B, ..., A, N]; `noise` as in `NoisyLinear.forward`."""
        return self.last(self.features(x, noise), noise)

    def last(self, features: tuple[torch.Tensor, ...], noise: int = 0) -> torch.Tensor:
        """Maps `features` to float32[B, ..., A, N]."""
        (hidden,) = features
        with torch.autocast(hidden.device.type, enabled=False):
            values = _apply(self.out, hidden.float(), noise)
        return values.view(*values.shape[:-1], *self._shape)


class DuelingHead(nn.Module):
    """Q = V + A - mean_b A, a hidden layer for each stream (Wang et al. 2016, eq. 9)."""

    def __init__(
        self,
        inputs: int,
        hidden: int,
        num_actions: int,
        outputs: int,
        linear: MakeLinear,
        last: MakeLinear | None = None,
    ) -> None:
        """Makes the hidden layers with `linear` and the last ones with `last`, else `linear`."""
        super().__init__()
        last = last or linear
        self.value_hidden = linear(inputs, hidden)
        self.value = last(hidden, outputs)
        self.advantage_hidden = linear(inputs, hidden)
        self.advantage = last(hidden, num_actions * outputs)
        self._shape = (num_actions, outputs)

    @property
    def last_layers(self) -> tuple[nn.Linear, ...]:
        """The last layers of the value and advantage streams, whose inputs `features` gives."""
        return self.value, self.advantage

    def features(self, x: torch.Tensor, noise: int = 0) -> tuple[torch.Tensor, ...]:
        """The inputs [..., hidden] of the last layers of the value and advantage streams."""
        value = F.relu(_apply(self.value_hidden, x, noise))
        return value, F.relu(_apply(self.advantage_hidden, x, noise))

    def forward(self, x: torch.Tensor, noise: int = 0) -> torch.Tensor:
        """Maps [B, ..., D] to float32[B, ..., A, N]; `noise` as in `NoisyLinear.forward`."""
        return self.last(self.features(x, noise), noise)

    def last(self, features: tuple[torch.Tensor, ...], noise: int = 0) -> torch.Tensor:
        """Maps `features` to float32[B, ..., A, N]."""
        value_hidden, advantage_hidden = features
        with torch.autocast(value_hidden.device.type, enabled=False):
            value = _apply(self.value, value_hidden.float(), noise).unsqueeze(-2)
            advantage = _apply(self.advantage, advantage_hidden.float(), noise)
            advantage = advantage.view(*advantage.shape[:-1], *self._shape)
            centred: torch.Tensor = advantage - advantage.mean(dim=-2, keepdim=True)
            return value + centred


def _apply(layer: nn.Linear, x: torch.Tensor, noise: int) -> torch.Tensor:
    y: torch.Tensor = layer(x, noise) if isinstance(layer, NoisyLinear) else layer(x)
    return y


def make_head(
    config: DqnFamilyConfig, inputs: int, num_actions: int, outputs: int
) -> QHead | DuelingHead:
    """The head that `config.agent` asks for (dueling, noisy), of float32 last layers.

    The last layers stay float32 under autocast: action gaps are finer than bfloat16 resolves.
    """
    agent, bias_of = config.agent, config.net.last_bias
    least_squares = isinstance(config, DqnConfig) and config.ls.method != "none"
    if bias_of == "shared" and (agent.dueling or agent.noisy or least_squares):
        bias_of = "each"

    def linear(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
        if agent.noisy:
            return NoisyLinear(inputs, outputs, agent.noisy_sigma, bias=bias)
        return nn.Linear(inputs, outputs, bias=bias)

    def last(inputs: int, outputs: int) -> nn.Linear:
        if bias_of == "shared":
            return SharedBias(inputs, num_actions, outputs // num_actions)
        return linear(inputs, outputs, bias=bias_of == "each")

    head = DuelingHead if agent.dueling else QHead
    return head(inputs, config.net.hidden, num_actions, outputs, linear, last)
