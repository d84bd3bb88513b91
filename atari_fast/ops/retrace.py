"""Retrace targets of sequences, time-major (Munos et al. 2016; NGU, Badia et al. 2020, E)."""

from __future__ import annotations

from typing import NamedTuple

import torch

from atari_fast.ops.targets import select_actions


class TargetPolicy(NamedTuple):
    """An epsilon-greedy policy pi, by its greedy actions."""

    greedy: torch.Tensor
    """int64[..., ]"""
    epsilon: float
    """Probability of a uniformly random action."""

    def expectation(self, values: torch.Tensor) -> torch.Tensor:
        """sum_b pi(b) v(b) of values float32[..., A]: float32[...]."""
        best = select_actions(values, self.greedy)
        return (1 - self.epsilon) * best + self.epsilon * values.mean(dim=-1)

    def probability(self, actions: torch.Tensor, num_actions: int) -> torch.Tensor:
        """pi(a) of actions int64[...] out of A: float32[...]."""
        chance = self.epsilon / num_actions
        return chance + (1 - self.epsilon) * (actions == self.greedy).float()


def traces(target: torch.Tensor, behaviour: torch.Tensor, retrace_lambda: float) -> torch.Tensor:
    """c_t = lambda min(1, pi(a_t | x_t) / mu(a_t | x_t)) (NGU, E).

    Args:
        target: pi(a_t | x_t), at least 0. float32[T, B]
        behaviour: mu(a_t | x_t), recorded when the action was chosen. Rows that do not exist have
            0, and their trace means nothing. float32[T, B]
        retrace_lambda: lambda, from 0 to 1.

    Returns:
        float32[T, B], finite.
    """
    return retrace_lambda * (target / behaviour.clamp(min=1e-8)).clamp(max=1.0)


def retrace(
    rewards: torch.Tensor,
    discounts: torch.Tensor,
    expected: torch.Tensor,
    taken: torch.Tensor,
    c: torch.Tensor,
    last: torch.Tensor,
    rows: int,
) -> torch.Tensor:
    """G_t = r_{t+1} + gamma_{t+1} (E_pi v(x_{t+1}) + c_{t+1} (G_{t+1} - v(x_{t+1}, a_{t+1}))).

    At the last row that exists, of which only the observation counts, the trace ends: G_t = r_{t+1}
    + gamma_{t+1} E_pi v(x_{t+1}). Unrolled, this is the sum over traces of NGU, E. With the
    transformed operator, v = h^-1(Q) and targets are h(G).

    Args:
        rewards: reward that arrived with each row. float32[T, B]
        discounts: gamma_t as `ops.sequences.row_discounts` gives them. float32[T, B]
        expected: E_pi v of each row. float32[T, B]
        taken: v of each row and its action. float32[T, B]
        c: traces of each row. float32[T, B]
        last: index of the last row that exists, at least 1. int64[B]
        rows: L, rows that get a target; T is at least L + 1.

    Returns:
        float32[L, B]. Rows from `last` on have no target: their numbers mean nothing.
    """
    index = torch.arange(len(rewards), device=rewards.device)[:, None]
    follow = torch.where(index < last, c * discounts, 0.0)
    base = rewards + discounts * expected - follow * taken
    total = torch.zeros_like(rewards[0])
    targets = []
    for row in range(len(rewards) - 1, 0, -1):
        total = torch.addcmul(base[row], follow[row], total)
        targets.append(total)
    return torch.stack(targets[::-1])[:rows]
