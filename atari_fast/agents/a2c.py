"""A3C (Mnih et al. 2016), and A2C, which has environments in step instead of workers."""

from __future__ import annotations

import torch

from atari_fast.agents.agent import Agent
from atari_fast.agents.rollouts import actor_critic, policy_terms
from atari_fast.config import A2cConfig, A3cConfig
from atari_fast.replay.rollouts import RolloutBatch
from atari_fast.types import EnvSpec


def build(
    config: A2cConfig | A3cConfig, spec: EnvSpec, device: torch.device
) -> Agent[RolloutBatch]:
    """Build the agent with its network on `device`."""
    agent = config.agent

    def loss(
        outputs: torch.Tensor, batch: RolloutBatch
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """-log pi(a | x) A + c (G - V(x))^2 / 2 - beta H(pi), (A3C, algorithm S3)."""
        advantages, returns = batch.targets
        log_probability, entropy, value = policy_terms(outputs, batch.actions)
        squared = 0.5 * (returns - value).square()
        losses = -log_probability * advantages + agent.value_weight * squared
        metrics = {"policy/entropy": entropy, "value/mean": value, "value/squared_error": squared}
        return losses - agent.entropy_weight * entropy, metrics

    return actor_critic(config, spec, device, loss, return_lambda=1.0)
