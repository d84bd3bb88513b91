"""Bootstrap targets. Terminals, truncation and short n-step tails are all in `discount_t`."""

from __future__ import annotations

import torch


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
    choice = q_t_selector.argmax(dim=1, keepdim=True)
    return reward_t + discount_t * q_t.gather(1, choice).squeeze(1)
