"""DQN (Mnih et al. 2015); double, dueling, n-step and prioritized replay are options."""

from __future__ import annotations

import copy

import torch

from atari_fast.agents.parts import AgentParts, Hook, LossOutput
from atari_fast.config import Config
from atari_fast.nets.heads import QNetwork
from atari_fast.ops.losses import huber
from atari_fast.ops.stacks import cut_stacks
from atari_fast.ops.targets import double_q_learning, q_learning
from atari_fast.replay.transition import TransitionBatch
from atari_fast.schedules import linear
from atari_fast.types import EnvSpec


def build(config: Config, spec: EnvSpec, device: torch.device) -> AgentParts:
    """Builds the agent's networks on `device` and its loss."""
    agent = config.agent
    online = QNetwork(config.net, spec.frame_shape, spec.num_actions, dueling=agent.dueling)
    online.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    target = copy.deepcopy(online).requires_grad_(False)

    def loss(batch: TransitionBatch) -> LossOutput:
        obs_tm1, obs_t = cut_stacks(batch.frames, batch.steps, config.net.stack)
        with torch.no_grad():
            q_t = target(obs_t)
            if agent.double:
                y = double_q_learning(batch.rewards, batch.discounts, q_t, online(obs_t))
            else:
                y = q_learning(batch.rewards, batch.discounts, q_t)
        q_tm1 = online(obs_tm1)
        td = y - q_tm1.gather(1, batch.actions[:, None]).squeeze(1)
        metrics = {"q/mean": q_tm1.detach().mean(), "q/target_mean": y.mean()}
        return LossOutput(huber(td), td.detach().abs(), metrics)

    def sync_target() -> None:
        target.load_state_dict(online.state_dict())

    return AgentParts(
        nets={"online": online, "target": target},
        trained=online,
        q_values=online,
        epsilon=linear(agent.epsilon_start, agent.epsilon_end, agent.epsilon_frames),
        loss=loss,
        hooks=(Hook(agent.target_period, sync_target),),
    )
