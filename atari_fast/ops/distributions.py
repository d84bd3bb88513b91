"""Distributions of returns: projection, losses, and the policies that choose among them."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def categorical_projection(
    atoms: torch.Tensor, probabilities: torch.Tensor, support: torch.Tensor
) -> torch.Tensor:
    """Projects distributions on a fixed support, conserving their mass (Bellemare 2017, eq. 7).

    Every atom z, clipped to the support, gives its mass to the two points beside it, to each in
    proportion to its nearness: max(0, 1 - |z - z_i| / dz). An atom on a point gives it all.

    Args:
        atoms: where the mass is. float32[B, N]
        probabilities: how much is there. float32[B, N]
        support: points of equal distance, ascending. float32[M]

    Returns:
        float32[B, M]
    """
    low, high = support[0], support[-1]
    position = (atoms.clamp(low, high) - low) / (high - low) * (len(support) - 1)
    lower = position.floor()
    upper_share = position - lower
    index = lower.to(torch.int64).clamp(0, len(support) - 1)  # NaN has an index out of bounds
    projected = torch.zeros(len(atoms), len(support), dtype=atoms.dtype, device=atoms.device)
    projected.scatter_add_(1, index, probabilities * (1.0 - upper_share))
    above = (index + 1).clamp(max=len(support) - 1)
    return projected.scatter_add_(1, above, probabilities * upper_share)


def categorical_loss(logits: torch.Tensor, probabilities: torch.Tensor) -> torch.Tensor:
    """Cross entropy -sum_i p_i log softmax(logits)_i (Bellemare 2017, algorithm 1).

    Args:
        logits: of the online network. float32[B, M]
        probabilities: the projected target. float32[B, M]

    Returns:
        float32[B]
    """
    return -(probabilities * F.log_softmax(logits, dim=1)).sum(dim=1)


def quantile_midpoints(number: int, device: torch.device) -> torch.Tensor:
    """tau_i = (2 i + 1) / (2 N) for i from 0 to N - 1 (Dabney 2018a, lemma 2): float32[N]."""
    return (torch.arange(number, device=device, dtype=torch.float32) + 0.5) / number


def quantile_huber_loss(
    quantiles: torch.Tensor, taus: torch.Tensor, targets: torch.Tensor, kappa: float = 1.0
) -> torch.Tensor:
    """sum_i mean_j |tau_i - 1{u_ij < 0}| Huber_kappa(u_ij) / kappa, u_ij = y_j - theta_i.

    (Dabney 2018a, eq. 10; Dabney 2018b, eq. 3.)

    Args:
        quantiles: theta of the online network. float32[B, N]
        taus: their levels. float32[B, N] or float32[N]
        targets: y, without gradient. float32[B, M]
        kappa: bound of the gradient, above 0.

    Returns:
        float32[B]
    """
    with torch.no_grad():  # value and slope at once: a third of autograd's passes over [B, N, M]
        errors = targets[:, None, :] - quantiles[:, :, None]
        clipped = errors.clamp(-kappa, kappa)
        pulls = torch.where(errors < 0, 1 - taus[..., None], taus[..., None]).mul_(clipped)
        slopes = pulls.mean(dim=2) / -kappa
        values = pulls.mul_(errors.sub_(clipped, alpha=0.5)).mean(dim=2).sum(dim=1) / kappa
    return values + (slopes * (quantiles - quantiles.detach())).sum(dim=1)


def soft_quantiles(quantiles: torch.Tensor, q: torch.Tensor, temperature: float) -> torch.Tensor:
    """sum_b pi(b) (z_j(b) - tau log pi(b)), pi = softmax(q / tau) (Vieillard et al. 2020, 4).

    Args:
        quantiles: z of the target network. float32[B, A, N]
        q: their means. float32[B, A]
        temperature: tau, above 0.

    Returns:
        float32[B, N]
    """
    log_policy = F.log_softmax(q / temperature, dim=1)
    entropic = quantiles - (temperature * log_policy)[:, :, None]
    return (log_policy.exp()[:, :, None] * entropic).sum(dim=1)
