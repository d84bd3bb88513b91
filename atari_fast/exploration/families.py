"""Families of policies: an exploration rate for each environment, a discount for each policy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def epsilon_ladder(num_envs: int, base: float = 0.4, alpha: float = 7.0) -> NDArray[np.float64]:
    """epsilon_i = base^(1 + alpha i / (E - 1)) (Ape-X, Horgan et al. 2018, 4; R2D2, 2.3).

    Args:
        num_envs: E; a single environment has epsilon `base`.
        base: probability of a random action in the first environment, in (0, 1).
        alpha: exponent's range, at least 0.

    Returns:
        float64[E], falling.
    """
    place = np.arange(num_envs) / max(1, num_envs - 1)
    ladder: NDArray[np.float64] = base ** (1 + alpha * place)
    return ladder


def discount_family(
    size: int, largest: float = 0.997, smallest: float = 0.99
) -> NDArray[np.float64]:
    """Discounts whose horizons 1 / (1 - gamma) are evenly spaced in their logarithm (NGU, A).

    gamma_j = 1 - exp(((N - 1 - j) log(1 - gamma_max) + j log(1 - gamma_min)) / (N - 1)).

    Args:
        size: N; a single policy has gamma_max.
        largest: gamma_max, below 1, of policy 0, which exploits.
        smallest: gamma_min, of policy N - 1.

    Returns:
        float64[N], falling.
    """
    place = np.arange(size) / max(1, size - 1)
    family: NDArray[np.float64] = 1 - np.exp(
        (1 - place) * np.log(1 - largest) + place * np.log(1 - smallest)
    )
    return family
