"""Families of policies: an epsilon for each environment; a discount and a beta for each policy."""

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


def agent57_discounts(
    size: int, largest: float = 0.9999, middle: float = 0.997, smallest: float = 0.99
) -> NDArray[np.float64]:
    """Discounts of Agent57 (Badia et al. 2020b, G.1).

    gamma_0 = gamma_max. Policies 1 to 6 have gamma_mid + (gamma_max - gamma_mid) sigmoid(10 (2 i -
    6) / 6) with i = 7 - j, so that discounts fall as beta rises, where the paper prints i = j.
    Policy 7 has gamma_mid, and from policy 8 on horizons fall evenly in their logarithm to
    gamma_min. A family of up to 8 policies is the beginning of that.

    Args:
        size: N.
        largest: gamma_max, below 1.
        middle: gamma_mid, below 1.
        smallest: gamma_min.

    Returns:
        float64[N], falling.
    """
    i = 7 - np.arange(1, 7)
    near = middle + (largest - middle) * _sigmoid(10 * (2 * i - 6) / 6)
    far = discount_family(max(0, size - 8), middle, smallest)
    return np.concatenate(([largest], near, [middle], far))[:size]


def intrinsic_scales(size: int, largest: float = 0.3) -> NDArray[np.float64]:
    """beta_j, weight of the intrinsic reward of each policy (NGU, Badia et al. 2020, A).

    beta_0 = 0, beta_{N-1} = beta, and beta sigmoid(10 (2 j - (N - 2)) / (N - 2)) between them.

    Args:
        size: N; with one policy it is beta.
        largest: beta.

    Returns:
        float64[N], rising.
    """
    if size == 1:
        return np.array([largest])
    j = np.arange(size)
    scales: NDArray[np.float64] = largest * _sigmoid(10 * (2 * j - (size - 2)) / max(1, size - 2))
    scales[0], scales[-1] = 0.0, largest
    return scales


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    y: NDArray[np.float64] = 1 / (1 + np.exp(-x))
    return y
