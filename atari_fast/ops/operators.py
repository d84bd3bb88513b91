"""Operators that widen the action gap, around any target (Bellemare et al. 2016, Increasing ...).

Each lowers a target y = r_t + discount_t V(x_t) where another action looked better than the one
taken, by advantages Q(x, a) - V(x) of the target network, which are at most 0. All but `lazy` add
something that does not depend on y: given a reward instead of y they shift a whole distribution of
returns.
"""

from __future__ import annotations

import torch

from atari_fast.ops.targets import select_actions


def advantage(
    q: torch.Tensor, actions: torch.Tensor, selector: torch.Tensor | None = None
) -> torch.Tensor:
    """q(a) - q(b), the advantage of `actions` over the greedy action b.

    Args:
        q: action values. float32[B, A]
        actions: a. int64[B]
        selector: the values for which b is greedy, of double Q-learning; default: q. float32[B, A]

    Returns:
        float32[B], at most 0 without a selector.
    """
    best = (q if selector is None else selector).argmax(dim=1)
    return select_actions(q, actions) - select_actions(q, best)


def advantage_learning(y: torch.Tensor, advantage_tm1: torch.Tensor, alpha: float) -> torch.Tensor:
    """T_AL = T + alpha (Q(x_tm1, a) - V(x_tm1)) (eq. 7).

    Args:
        y: any target T of Q(x_tm1, a). float32[B]
        advantage_tm1: `advantage` at x_tm1. float32[B]
        alpha: from 0 to below 1.

    Returns:
        float32[B]
    """
    return y + alpha * advantage_tm1


def persistent(
    y: torch.Tensor, advantage_t: torch.Tensor, factor: float | torch.Tensor
) -> torch.Tensor:
    """T + factor (Q(x_t, a) - V(x_t)): the action is taken again in the next state.

    Args:
        y: any target T. float32[B]
        advantage_t: `advantage` of the same action at x_t, beside the action whose value T has,
            and 0 where x_t is terminal. float32[B]
        factor: the discounts float32[B] (r + gamma Q(x_t, a)), or alpha.

    Returns:
        float32[B]
    """
    return y + factor * advantage_t


def persistent_advantage_learning(
    y: torch.Tensor,
    advantage_tm1: torch.Tensor,
    advantage_t: torch.Tensor,
    alpha: float,
    factor: float | torch.Tensor,
) -> torch.Tensor:
    """T_PAL = max(T_AL, T + factor (Q(x_t, a) - V(x_t))) (eq. 8), with the arguments of both."""
    return torch.maximum(
        advantage_learning(y, advantage_tm1, alpha), persistent(y, advantage_t, factor)
    )


def consistent_bellman(
    y: torch.Tensor, advantage_t: torch.Tensor, discount_t: torch.Tensor, same: torch.Tensor
) -> torch.Tensor:
    """T_C: where the state did not change, r_t + discount_t Q(x_t, a) instead of V (eq. 4).

    Args:
        y: any one-step target T. float32[B]
        advantage_t: `advantage` of the same action at x_t, as in `persistent`. float32[B]
        discount_t: gamma, or 0 after a terminal. float32[B]
        same: x_t equals x_tm1. bool[B]

    Returns:
        float32[B]
    """
    return y + torch.where(same, discount_t * advantage_t, 0.0)


def lazy(
    y: torch.Tensor, q_tm1_a: torch.Tensor, advantage_tm1: torch.Tensor, alpha: float
) -> torch.Tensor:
    """The alpha-lazy operator: Q(x_tm1, a) where Q <= T <= alpha V + (1 - alpha) Q, else T (3.4).

    Args:
        y: any target T. float32[B]
        q_tm1_a: the target network's Q(x_tm1, a). float32[B]
        advantage_tm1: `advantage` at x_tm1. float32[B]
        alpha: from 0 to below 1.

    Returns:
        float32[B]
    """
    stays = (q_tm1_a <= y) & (y <= q_tm1_a - alpha * advantage_tm1)
    return torch.where(stays, q_tm1_a, y)
