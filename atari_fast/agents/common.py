"""What several agents share."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from atari_fast.agents.parts import Hook, Services
from atari_fast.config import AgentConfig
from atari_fast.ops.action_gap import action_gap, relative_gap
from atari_fast.ops.operators import (
    advantage,
    advantage_learning,
    consistent_bellman,
    lazy,
    persistent,
    persistent_advantage_learning,
)
from atari_fast.ops.targets import munchausen_reward, select_actions
from atari_fast.replay.transition import TransitionBatch

Net = TypeVar("Net", bound=nn.Module)


def with_target(online: Net, period: int, device: torch.device) -> tuple[Net, Net, Hook]:
    """A network on `device`, a frozen copy, and the hook that copies it every `period` frames."""
    online.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    target = copy.deepcopy(online).requires_grad_(False)

    def sync(_: Services) -> None:
        target.load_state_dict(online.state_dict())

    return online, target, Hook(period, sync)


def apply_operator(
    agent: AgentConfig,
    y: torch.Tensor,
    batch: TransitionBatch,
    observations: tuple[torch.Tensor, torch.Tensor],
    target_q: Callable[[torch.Tensor], torch.Tensor],
    q_t: torch.Tensor,
    selector: torch.Tensor,
) -> torch.Tensor:
    """Targets under the agent's operator or Munchausen term.

    Args:
        agent: its settings.
        y: targets of the plain algorithm, or rewards, which are shifted alike. float32[B]
        batch: the transitions.
        observations: first and bootstrap observations, uint8[B, S, H, W] each.
        target_q: the target network's action values float32[B, A] of observations.
        q_t: those of the bootstrap observations.
        selector: the values by which the bootstrap action is chosen, q_t or the online network's.

    Returns:
        float32[B]
    """
    if agent.munchausen:
        return munchausen_reward(
            y,
            target_q(observations[0]),
            batch.actions,
            agent.munchausen_alpha,
            agent.munchausen_temperature,
            agent.munchausen_clip,
        )
    if agent.operator == "none":
        return y
    alpha = agent.operator_alpha
    # Where the selector's action is worth less than the one taken, no operator raises the target.
    advantage_t = advantage(q_t, batch.actions, selector).clamp(max=0) * (batch.discounts > 0)
    factor = batch.discounts if agent.operator_next == "gamma" else alpha
    if agent.operator == "persistent":
        return persistent(y, advantage_t, factor)
    if agent.operator == "consistent":
        same = (observations[0] == observations[1]).flatten(1).all(dim=1)
        return consistent_bellman(y, advantage_t, batch.discounts, same)
    q_tm1 = target_q(observations[0])
    advantage_tm1 = advantage(q_tm1, batch.actions)
    if agent.operator == "al":
        return advantage_learning(y, advantage_tm1, alpha)
    if agent.operator == "pal":
        return persistent_advantage_learning(y, advantage_tm1, advantage_t, alpha, factor)
    return lazy(y, select_actions(q_tm1, batch.actions), advantage_tm1, alpha)


def value_metrics(q_tm1: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
    """Means to log: values float32[B, A] of the online network, targets float32[B], action gaps."""
    q = q_tm1.detach()
    return {
        "q/mean": q.mean(),
        "q/target_mean": y.mean(),
        "gap/mean": action_gap(q).mean(),
        "gap/of_range": relative_gap(q).mean(),
        "gap/of_value": action_gap(q).mean() / q.max(dim=1).values.abs().mean().clamp(min=1e-8),
    }
