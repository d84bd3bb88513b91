"""QR-DQN (Dabney et al. 2018a): fixed quantiles of the return, fitted by quantile regression."""

from __future__ import annotations

import torch

from atari_fast.agents.agent import Agent, LossOutput
from atari_fast.agents.common import apply_operator, value_agent, value_metrics, with_target
from atari_fast.config import QrDqnConfig
from atari_fast.nets.networks import QNetwork
from atari_fast.ops.distributions import (
    quantile_huber_loss,
    quantile_midpoints,
    soft_quantiles,
)
from atari_fast.ops.stacks import cut_stacks
from atari_fast.ops.targets import select_actions
from atari_fast.replay.transition import TransitionBatch
from atari_fast.types import EnvSpec


def build(config: QrDqnConfig, spec: EnvSpec, device: torch.device) -> Agent[TransitionBatch]:
    """Build the agent with its networks on `device`."""
    agent = config.agent
    network = QNetwork(config, spec, outputs=agent.quantiles)
    online, target, sync = with_target(network, agent.target_period, device)
    taus = quantile_midpoints(agent.quantiles, device)

    def mean(obs: torch.Tensor, noise: int) -> torch.Tensor:
        quantiles: torch.Tensor = online(obs, noise)
        return quantiles.mean(dim=2)

    def loss(batch: TransitionBatch) -> LossOutput:
        obs_tm1, obs_t = cut_stacks(batch.frames, batch.steps, config.net.stack)
        with torch.no_grad():
            quantiles_t = target(obs_t, noise=1)
            q_t = quantiles_t.mean(dim=2)
            selector = mean(obs_t, noise=1) if agent.double else q_t
            if agent.munchausen:
                chosen = soft_quantiles(quantiles_t, q_t, agent.munchausen_temperature)
            else:
                chosen = select_actions(quantiles_t, selector.argmax(dim=1))
            observations = obs_tm1, obs_t
            rewards = apply_operator(
                agent,
                batch.rewards,
                batch,
                observations,
                lambda obs: target(obs, noise=1).mean(dim=2),
                q_t,
                selector,
            )
            y = rewards[:, None] + batch.discounts[:, None] * chosen
        quantiles_tm1 = online(obs_tm1, noise=1)
        losses = quantile_huber_loss(select_actions(quantiles_tm1, batch.actions), taus, y)
        metrics = value_metrics(quantiles_tm1.detach().mean(dim=2), y.mean(dim=1))
        return LossOutput(losses, losses.detach(), metrics)

    return value_agent(
        config,
        spec,
        online,
        target,
        q_values=lambda obs: mean(obs, 0),
        behaviour=lambda obs: mean(obs, len(obs)),
        loss=loss,
        hooks=(sync,),
    )
