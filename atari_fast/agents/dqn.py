"""DQN (Mnih et al. 2015); double, dueling, n-step, noisy, operators, Munchausen are options."""

from __future__ import annotations

import torch

from atari_fast.agents.common import shaped, value_metrics, with_target
from atari_fast.agents.parts import AgentParts, LossOutput
from atari_fast.config import Config
from atari_fast.nets.networks import QNetwork
from atari_fast.ops.losses import huber, squared
from atari_fast.ops.stacks import cut_stacks
from atari_fast.ops.targets import double_q_learning, q_learning, soft_q_learning
from atari_fast.replay.transition import TransitionBatch
from atari_fast.schedules import linear
from atari_fast.types import EnvSpec


def build(config: Config, spec: EnvSpec, device: torch.device) -> AgentParts:
    """Builds the agent's networks on `device` and its loss."""
    agent = config.agent
    online, target, sync = with_target(QNetwork(config, spec), agent.target_period, device)
    element_loss = huber if agent.loss == "huber" else squared

    def loss(batch: TransitionBatch) -> LossOutput:
        obs_tm1, obs_t = cut_stacks(batch.frames, batch.steps, config.net.stack)
        with torch.no_grad():
            q_t = target(obs_t, noise=1)
            if agent.munchausen:
                tau = agent.munchausen_temperature
                y = soft_q_learning(batch.rewards, batch.discounts, q_t, tau)
            elif agent.double:
                selector = online(obs_t, noise=1)
                y = double_q_learning(batch.rewards, batch.discounts, q_t, selector)
            else:
                y = q_learning(batch.rewards, batch.discounts, q_t)
            y = shaped(agent, y, batch, (obs_tm1, obs_t), lambda obs: target(obs, noise=1), q_t)
        q_tm1 = online(obs_tm1, noise=1)
        td = y - q_tm1.gather(1, batch.actions[:, None]).squeeze(1)
        return LossOutput(element_loss(td), td.detach().abs(), value_metrics(q_tm1, y))

    return AgentParts(
        nets={"online": online, "target": target},
        trained=online,
        q_values=online,
        behaviour=lambda obs: online(obs, noise=len(obs)),
        epsilon=linear(agent.epsilon_start, agent.epsilon_end, agent.epsilon_frames),
        loss=loss,
        hooks=(sync,),
    )
