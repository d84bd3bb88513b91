"""IQN (Dabney et al. 2018b): any quantile of the return, its level an input; also M-IQN."""

from __future__ import annotations

import torch

from atari_fast.agents.agent import Agent, LossOutput
from atari_fast.agents.common import apply_operator, value_agent, value_metrics, with_target
from atari_fast.config import IqnConfig
from atari_fast.nets.networks import ImplicitQuantileNetwork
from atari_fast.nets.noise import uniform
from atari_fast.ops.distributions import quantile_huber_loss, soft_quantiles
from atari_fast.ops.stacks import cut_stacks
from atari_fast.ops.targets import select_actions
from atari_fast.replay.transition import TransitionBatch
from atari_fast.types import EnvSpec


def build(config: IqnConfig, spec: EnvSpec, device: torch.device) -> Agent[TransitionBatch]:
    """Build the agent with its networks on `device`."""
    agent = config.agent
    network = ImplicitQuantileNetwork(config, spec)
    online, target, sync = with_target(network, agent.target_period, device)

    def draw(obs: torch.Tensor, number: int) -> torch.Tensor:
        return uniform(len(obs), number, device=obs.device)

    def mean(net: ImplicitQuantileNetwork, obs: torch.Tensor, noise: int) -> torch.Tensor:
        quantiles: torch.Tensor = net(obs, draw(obs, agent.taus_acting), noise)
        return quantiles.mean(dim=2)

    def loss(batch: TransitionBatch) -> LossOutput:
        obs_tm1, obs_t = cut_stacks(batch.frames, batch.steps, config.net.stack)
        with torch.no_grad():
            quantiles_t = target(obs_t, draw(obs_t, agent.taus), noise=1)
            q_t = quantiles_t.mean(dim=2)
            selector = q_t
            if agent.munchausen:
                chosen = soft_quantiles(quantiles_t, q_t, agent.munchausen_temperature)
            else:
                selector = mean(online if agent.double else target, obs_t, noise=1)
                chosen = select_actions(quantiles_t, selector.argmax(dim=1))
            observations = obs_tm1, obs_t
            rewards = apply_operator(
                agent,
                batch.rewards,
                batch,
                observations,
                lambda obs: mean(target, obs, noise=1),
                q_t,
                selector,
            )
            y = rewards[:, None] + batch.discounts[:, None] * chosen
        taus = draw(obs_tm1, agent.taus)
        quantiles_tm1 = online(obs_tm1, taus, noise=1)
        losses = quantile_huber_loss(select_actions(quantiles_tm1, batch.actions), taus, y)
        metrics = value_metrics(quantiles_tm1.detach().mean(dim=2), y.mean(dim=1))
        return LossOutput(losses, losses.detach(), metrics)

    return value_agent(
        config,
        spec,
        online,
        target,
        q_values=lambda obs: mean(online, obs, 0),
        behaviour=lambda obs: mean(online, obs, len(obs)),
        loss=loss,
        hooks=(sync,),
    )
