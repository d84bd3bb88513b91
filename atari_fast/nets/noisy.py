"""Linear layers whose weights have learned noise (Fortunato et al. 2018)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from atari_fast.nets.noise import normal


class NoisyLinear(nn.Linear):
    """W = mu + sigma (f(e_out) f(e_in)^T), b = mu_b + sigma_b f(e_out), f(e) = sign(e) sqrt|e|.

    Factorised Gaussian noise (3.1, eqs. 10 and 11). The weights are never put together: the noise
    is applied to inputs and outputs, so that every row of a batch can have a sample of its own.
    """

    def __init__(self, inputs: int, outputs: int, sigma: float, *, bias: bool = True) -> None:
        """Begins with mu uniform in +-1 / sqrt(inputs), sigma at `sigma` / sqrt(inputs) (3.2).

        Without `bias` there is no mu_b; the noise has its sigma_b all the same.
        """
        super().__init__(inputs, outputs, bias=bias)
        self.weight_sigma = nn.Parameter(torch.full_like(self.weight, sigma * inputs**-0.5))
        self.bias_sigma = nn.Parameter(torch.full((outputs,), sigma * inputs**-0.5))

    def forward(self, x: torch.Tensor, samples: int = 0) -> torch.Tensor:
        """Maps [B, ..., inputs] to [B, ..., outputs].

        Args:
            x: inputs.
            samples: 0 for the means alone, 1 for one sample of the noise, B for one in each row.
        """
        mean = F.linear(x, self.weight, self.bias)
        if samples == 0:
            return mean
        shape = (samples, *(1,) * (x.dim() - 2))
        noise_in = _factor(normal(*shape, self.in_features, device=x.device))
        noise_out = _factor(normal(*shape, self.out_features, device=x.device))
        return mean + F.linear(x * noise_in, self.weight_sigma, self.bias_sigma) * noise_out


def _factor(noise: torch.Tensor) -> torch.Tensor:
    return noise.sign() * noise.abs().sqrt()
