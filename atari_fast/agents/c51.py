"""C51 (Bellemare et al. 2017): probabilities of fixed returns; with all options it is Rainbow."""

from __future__ import annotations

import torch

from atari_fast.agents.agent import Agent, LossOutput
from atari_fast.agents.common import apply_operator, value_agent, value_metrics, with_target
from atari_fast.config import C51Config
from atari_fast.nets.networks import QNetwork
from atari_fast.ops.distributions import categorical_loss, categorical_projection
from atari_fast.ops.stacks import cut_stacks
from atari_fast.ops.targets import select_actions
from atari_fast.replay.transition import TransitionBatch
from atari_fast.types import EnvSpec


def build(config: C51Config, spec: EnvSpec, device: torch.device) -> Agent[TransitionBatch]:
    """Build the agent with its networks on `device`."""
    agent = config.agent
    network = QNetwork(config, spec, outputs=agent.atoms)
    online, target, sync = with_target(network, agent.target_period, device)
    support = torch.linspace(-agent.v_max, agent.v_max, agent.atoms, device=device)

    def mean(logits: torch.Tensor) -> torch.Tensor:
        return (logits.softmax(dim=2) * support).sum(dim=2)

    def loss(batch: TransitionBatch) -> LossOutput:
        obs_tm1, obs_t = cut_stacks(batch.frames, batch.steps, config.net.stack)
        with torch.no_grad():
            logits_t = target(obs_t, noise=1)
            q_t = mean(logits_t)
            selector = mean(online(obs_t, noise=1)) if agent.double else q_t
            p_t = select_actions(logits_t, selector.argmax(dim=1)).softmax(dim=1)
            observations = obs_tm1, obs_t
            rewards = apply_operator(
                agent,
                batch.rewards,
                batch,
                observations,
                lambda obs: mean(target(obs, noise=1)),
                q_t,
                selector,
            )
            atoms = rewards[:, None] + batch.discounts[:, None] * support
            p = categorical_projection(atoms, p_t, support)
        logits_tm1 = online(obs_tm1, noise=1)
        losses = categorical_loss(select_actions(logits_tm1, batch.actions), p)
        metrics = value_metrics(mean(logits_tm1.detach()), (p * support).sum(dim=1))
        return LossOutput(losses, losses.detach(), metrics)

    return value_agent(
        config,
        spec,
        online,
        target,
        q_values=lambda obs: mean(online(obs)),
        behaviour=lambda obs: mean(online(obs, noise=len(obs))),
        loss=loss,
        hooks=(sync,),
    )
