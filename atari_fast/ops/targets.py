"""Bootstrap targets. Terminals, truncation and short n-step tails are all in `discount_t`."""

from __future__ import annotations

import torch


def select_actions(values: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
    """Selects the values of one action in each row.

    Args:
        values: float32[B, A] or float32[T, B, A], or float32[B, A, N] for distributions.
        actions: a. int64[B] or int64[T, B]

    Returns:
        values[b, a_b], of the shape of `actions`, or float32[B, N] for distributions.
    """
    if values.dim() == actions.dim() + 1:
        return values.gather(-1, actions[..., None]).squeeze(-1)
    return values[torch.arange(len(actions), device=values.device), actions]


def q_learning(reward_t: torch.Tensor, discount_t: torch.Tensor, q_t: torch.Tensor) -> torch.Tensor:
    """Q-learning: y = r_t + discount_t max_b q_t(b) (Mnih et al. 2015, Methods).

    Args:
        reward_t: n-step reward. float32[B]
        discount_t: gamma^m, or 0 after a terminal. float32[B]
        q_t: target network's values of the bootstrap observation. float32[B, A]

    Returns:
        float32[B]
    """
    return reward_t + discount_t * q_t.max(dim=1).values


def double_q_learning(
    reward_t: torch.Tensor, discount_t: torch.Tensor, q_t: torch.Tensor, q_t_selector: torch.Tensor
) -> torch.Tensor:
    """Double Q: y = r_t + discount_t q_t(argmax_b selector(b)) (van Hasselt et al. 2016, eq. 4).

    Args:
        reward_t: n-step reward. float32[B]
        discount_t: gamma^m, or 0 after a terminal. float32[B]
        q_t: target network's values of the bootstrap observation. float32[B, A]
        q_t_selector: online network's values of the same observation. float32[B, A]

    Returns:
        float32[B]
    """
    return reward_t + discount_t * select_actions(q_t, q_t_selector.argmax(dim=1))


def soft_value(q: torch.Tensor, temperature: float) -> torch.Tensor:
    """V(x) = tau logsumexp(q / tau), the entropy-regularised value (Vieillard et al. 2020, 3).

    Args:
        q: action values. float32[B, A]
        temperature: tau, above 0.

    Returns:
        float32[B]
    """
    return temperature * torch.logsumexp(q / temperature, dim=1)


def munchausen_reward(
    reward_t: torch.Tensor,
    q_tm1: torch.Tensor,
    actions: torch.Tensor,
    alpha: float,
    temperature: float,
    lowest: float,
) -> torch.Tensor:
    """r_t + alpha clip(tau log pi(a | x_tm1), l0, 0) (Vieillard et al. 2020, eq. 1).

    With n-step rewards the term is that of the first step alone.

    Args:
        reward_t: n-step reward. float32[B]
        q_tm1: target network's values of the first observation. float32[B, A]
        actions: int64[B]
        alpha: scale of the term.
        temperature: tau of the softmax policy pi.
        lowest: l0, at most 0.

    Returns:
        float32[B]
    """
    log_policy = select_actions(q_tm1, actions) - soft_value(q_tm1, temperature)
    return reward_t + alpha * log_policy.clamp(lowest, 0.0)


def soft_q_learning(
    reward_t: torch.Tensor, discount_t: torch.Tensor, q_t: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Soft Q-learning: y = r_t + discount_t V(x_t) (Vieillard et al. 2020, eq. 1).

    The soft value V equals sum_b pi(b) (q_t(b) - tau log pi(b)).

    Args:
        reward_t: reward, the Munchausen term included. float32[B]
        discount_t: gamma^m, or 0 after a terminal. float32[B]
        q_t: target network's values of the bootstrap observation. float32[B, A]
        temperature: tau, above 0.

    Returns:
        float32[B]
    """
    return reward_t + discount_t * soft_value(q_t, temperature)
