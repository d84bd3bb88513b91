"""PQN (Gallici et al. 2024): Q-learning in many environments, without replay or target network."""

from __future__ import annotations

import numpy as np
import torch

from atari_fast.agents.acting import explorations
from atari_fast.agents.agent import ActorSpec, Agent
from atari_fast.agents.rollouts import Decision, make_network, rollout_agent
from atari_fast.config import PqnConfig
from atari_fast.ops.returns import q_lambda
from atari_fast.ops.targets import select_actions
from atari_fast.replay.rollouts import Rollout, RolloutBatch
from atari_fast.schedules import linear
from atari_fast.types import EnvSpec


def build(config: PqnConfig, spec: EnvSpec, device: torch.device) -> Agent[RolloutBatch]:
    """Build the agent with its network on `device`."""
    agent = config.agent
    net = make_network(config, spec, device, {"q": spec.num_actions}, {"q": 1.0})
    schedule = linear(agent.epsilon_start, agent.epsilon_end, agent.epsilon_frames)

    def decide(acting: ActorSpec, outputs: torch.Tensor, frames: int) -> Decision:
        epsilon = acting.epsilon if acting.mode == "evaluate" else schedule(frames)
        explore, actions = explorations(acting.rng, len(outputs), spec.num_actions, epsilon)
        best, greedy = outputs.max(dim=1)
        return Decision(np.where(explore, actions, greedy.numpy()), (best,), epsilon)

    def targets(
        rewards: torch.Tensor, discounts: torch.Tensor, rollout: Rollout
    ) -> tuple[torch.Tensor, ...]:
        (values,) = rollout.estimates
        return (q_lambda(rewards, discounts, rollout.valid, values, agent.q_lambda),)

    def loss(
        outputs: torch.Tensor, batch: RolloutBatch
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """(G - Q(x, a))^2 / 2 (PQN, algorithm 1)."""
        (returns,) = batch.targets
        q = select_actions(outputs, batch.actions)
        return 0.5 * (returns - q).square(), {"q/mean": q, "q/target_mean": returns}

    def q_values(observations: torch.Tensor) -> torch.Tensor:
        first = torch.zeros(1, len(observations), dtype=torch.bool, device=observations.device)
        values: torch.Tensor = net(observations[None], first, ())[0][0]
        return values

    return rollout_agent(
        config,
        spec,
        net,
        decide=decide,
        num_estimates=1,
        targets=targets,
        num_targets=1,
        loss=loss,
        name="td",
        q_values=None if config.net.lstm else q_values,
    )
