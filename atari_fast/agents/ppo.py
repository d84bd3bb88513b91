"""PPO (Schulman et al. 2017), with the details of Huang et al. 2022 for Atari."""

from __future__ import annotations

import torch

from atari_fast.agents.agent import Agent
from atari_fast.agents.rollouts import actor_critic, policy_terms
from atari_fast.config import PpoConfig
from atari_fast.replay.rollouts import RolloutBatch
from atari_fast.types import EnvSpec


def build(config: PpoConfig, spec: EnvSpec, device: torch.device) -> Agent[RolloutBatch]:
    """Build the agent with its network on `device`."""
    agent = config.agent

    def loss(
        outputs: torch.Tensor, batch: RolloutBatch
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """-min(rho A, clip(rho, 1 - eps, 1 + eps) A) + c L_V - beta H(pi) (PPO, eq. 7 and 9)."""
        advantages, returns = batch.targets
        old_log_probability, old_value = batch.estimates
        log_probability, entropy, value = policy_terms(outputs, batch.actions)
        difference = log_probability - old_log_probability
        ratio = difference.exp()
        clipped = ratio.clamp(1 - agent.clip, 1 + agent.clip)
        surrogate = torch.minimum(ratio * advantages, clipped * advantages)
        squared = (returns - value).square()
        if agent.clip_value:
            near = old_value + (value - old_value).clamp(-agent.clip, agent.clip)
            squared = torch.maximum(squared, (returns - near).square())
        losses = -surrogate + agent.value_weight * 0.5 * squared - agent.entropy_weight * entropy
        metrics = {
            "policy/entropy": entropy,
            "policy/kl": ratio - 1 - difference,  # an estimate that is never negative
            "policy/clipped": (ratio != clipped).float(),
            "value/mean": value,
            "value/squared_error": 0.5 * (returns - value).square(),
        }
        return losses, metrics

    return actor_critic(config, spec, device, loss, return_lambda=agent.gae_lambda)
