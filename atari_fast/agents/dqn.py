"""DQN (Mnih et al. 2015); double, dueling, n-step, noisy, operators, Munchausen are options."""

from __future__ import annotations

import torch

from atari_fast.agents.agent import Agent, LossOutput
from atari_fast.agents.common import (
    apply_operator,
    least_squares_needs,
    value_agent,
    value_metrics,
    with_target,
)
from atari_fast.agents.ls_dqn import Observations, least_squares_hooks
from atari_fast.config import DqnConfig
from atari_fast.nets.networks import QNetwork
from atari_fast.ops.losses import huber, squared
from atari_fast.ops.stacks import cut_stacks
from atari_fast.ops.targets import double_q_learning, q_learning, select_actions, soft_q_learning
from atari_fast.replay.transition import TransitionBatch
from atari_fast.types import EnvSpec


def build(config: DqnConfig, spec: EnvSpec, device: torch.device) -> Agent[TransitionBatch]:
    """Build the agent with its networks on `device`."""
    agent = config.agent
    online, target, sync = with_target(QNetwork(config, spec), agent.target_period, device)

    def element_loss(td: torch.Tensor, batch: TransitionBatch) -> torch.Tensor:
        if agent.loss == "squared":
            return squared(td)
        return huber(td, 1 / batch.weights if agent.loss == "clipped" else 1.0)

    def targets(
        batch: TransitionBatch, observations: Observations, bootstrap: QNetwork, noise: int = 0
    ) -> torch.Tensor:
        obs_t = observations[1]
        q_t = bootstrap(obs_t, noise)
        selector = online(obs_t, noise) if agent.double else q_t
        if agent.munchausen:
            temperature = agent.munchausen_temperature
            y = soft_q_learning(batch.rewards, batch.discounts, q_t, temperature)
        elif agent.double:
            y = double_q_learning(batch.rewards, batch.discounts, q_t, selector)
        else:
            y = q_learning(batch.rewards, batch.discounts, q_t)
        return apply_operator(
            agent, y, batch, observations, lambda o: bootstrap(o, noise), q_t, selector
        )

    def loss(batch: TransitionBatch) -> LossOutput:
        observations = cut_stacks(batch.frames, batch.steps, config.net.stack)
        with torch.no_grad():
            y = targets(batch, observations, target, noise=1)
        q_tm1 = online(observations[0], noise=1)
        td = y - select_actions(q_tm1, batch.actions)
        return LossOutput(element_loss(td, batch), td.detach().abs(), value_metrics(q_tm1, y))

    return value_agent(
        config,
        spec,
        online,
        target,
        q_values=online,
        behaviour=lambda obs: online(obs, noise=len(obs)),
        loss=loss,
        hooks=(*least_squares_hooks(config, online, target, targets), sync),
        memory_needs=least_squares_needs(config, spec.num_actions),
    )
