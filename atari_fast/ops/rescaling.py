"""Value rescaling: the invertible function h that lets a network learn returns of any size."""

from __future__ import annotations

import torch

EPSILON = 1e-3
"""The paper's eps for R2D2, NGU and Agent57."""


def rescale(values: torch.Tensor, epsilon: float = EPSILON) -> torch.Tensor:
    """h(z) = sign(z) (sqrt(|z| + 1) - 1) + eps z (Pohlen et al. 2018, 3.2; R2D2, 2.3).

    Written without a difference of nearly equal numbers, so that small values keep their digits:
    sqrt(|z| + 1) - 1 = |z| / (sqrt(|z| + 1) + 1).

    Args:
        values: z, of any shape, float32.
        epsilon: eps > 0.

    Returns:
        h(z), of the same shape, float32.
    """
    return values * (1 / (torch.sqrt(values.abs() + 1) + 1) + epsilon)


def inverse_rescale(values: torch.Tensor, epsilon: float = EPSILON) -> torch.Tensor:
    """h^-1(z) = sign(z) (((sqrt(1 + 4 eps (|z| + 1 + eps)) - 1) / (2 eps))^2 - 1).

    With s = sqrt(1 + 4 eps (|z| + 1 + eps)) and
    w = 2 |z| (1 - 2 eps / (s + 1 + 2 eps)) / (1 + s) this is sign(z) w (w + 2), which subtracts no
    nearly equal numbers (NGU and Agent57 print the formula without its square).

    Args:
        values: z, of any shape, float32.
        epsilon: eps > 0.

    Returns:
        h^-1(z), of the same shape, float32.
    """
    size = values.abs()
    s = torch.sqrt(1 + 4 * epsilon * (size + 1 + epsilon))
    w = 2 * size * (1 - 2 * epsilon / (s + 1 + 2 * epsilon)) / (1 + s)
    return values.sign() * w * (w + 2)
