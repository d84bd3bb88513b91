"""Targets of rollouts, time-major: one equation per function.

Transition t goes from row t to row t + 1, and its reward and discount are those that arrived with
row t + 1. Where row t ends an episode, row t + 1 begins another one, and the transition between
them is not `valid`: nothing is learned from it. A return that reaches row t ends there, and
bootstraps from its value unless its discount is 0.
"""

from __future__ import annotations

import torch


def generalized_advantages(
    rewards: torch.Tensor,
    discounts: torch.Tensor,
    valid: torch.Tensor,
    values: torch.Tensor,
    gae_lambda: float,
) -> torch.Tensor:
    """A_t = delta_t + gamma_t lambda A_{t+1}, delta_t = r_t + gamma_t V_{t+1} - V_t (GAE, eq. 16).

    Schulman et al. 2016, High-dimensional continuous control using generalized advantage
    estimation. A_t + V_t is the TD(lambda) return.

    Args:
        rewards: r_t. float32[T, B]
        discounts: gamma_t, 0 where the episode ends. float32[T, B]
        valid: which transitions are real. bool[T, B]
        values: V of each row, that of the last observation too. float32[T + 1, B]
        gae_lambda: lambda, from 0 to 1.

    Returns:
        float32[T, B], 0 where a transition is not valid.
    """
    deltas = rewards + discounts * values[1:] - values[:-1]
    advantages = torch.zeros_like(deltas)
    following = torch.zeros_like(deltas[0])
    for t in reversed(range(len(rewards))):
        following = torch.where(valid[t], deltas[t] + gae_lambda * discounts[t] * following, 0.0)
        advantages[t] = following
    return advantages


def q_lambda(
    rewards: torch.Tensor,
    discounts: torch.Tensor,
    valid: torch.Tensor,
    values: torch.Tensor,
    trace: float,
) -> torch.Tensor:
    """G_t = r_t + gamma_t ((1 - lambda) V_{t+1} + lambda G_{t+1}), V = max_a Q (PQN, 4).

    Gallici et al. 2024, Simplifying deep temporal difference learning. At the last row, and where
    an episode ends, G_{t+1} is V_{t+1}.

    Args:
        rewards: r_t. float32[T, B]
        discounts: gamma_t, 0 where the episode ends. float32[T, B]
        valid: which transitions are real. bool[T, B]
        values: V of each row, that of the last observation too. float32[T + 1, B]
        trace: lambda, from 0 to 1.

    Returns:
        float32[T, B]; where a transition is not valid, V_t, so that the one before bootstraps.
    """
    returns = torch.empty_like(rewards)
    following = values[-1]
    for t in reversed(range(len(rewards))):
        target = rewards[t] + discounts[t] * torch.lerp(values[t + 1], following, trace)
        returns[t] = following = torch.where(valid[t], target, values[t])
    return returns
