"""R2D2 (Kapturowski et al. 2019): a recurrent double DQN on stored, overlapping sequences.

With several policies, a bandit chooses one for each episode of each environment, by its discount
alone (the meta-controller of Agent57, Badia et al. 2020b, section 4, without intrinsic rewards).
"""

from __future__ import annotations

import numpy as np
import torch

from atari_fast.agents.agent import ActorSpec, Agent, LossOutput, Objective
from atari_fast.agents.common import with_target
from atari_fast.agents.recurrent import (
    Choice,
    RecurrentActor,
    bandits,
    burned_in,
    episode_record,
    make_network,
    sequence_agent,
    state_drift,
    unroll,
)
from atari_fast.config import R2d2Config
from atari_fast.exploration.bandit import PolicyChoice
from atari_fast.exploration.families import discount_family, epsilon_ladder
from atari_fast.ops.rescaling import inverse_rescale, rescale
from atari_fast.ops.sequences import mixed_priority, n_step_bootstrap, row_discounts
from atari_fast.ops.stacks import cut_sequence_stacks
from atari_fast.ops.targets import select_actions
from atari_fast.replay.recent_rows import RecentRows
from atari_fast.replay.sequence import RowSpec, SequenceBatch
from atari_fast.types import Acted, EnvSpec


def targets(
    config: R2d2Config,
    rewards: torch.Tensor,
    flags: torch.Tensor,
    values: torch.Tensor,
    gamma: torch.Tensor,
    last: torch.Tensor,
) -> torch.Tensor:
    """y_t = h(sum_{k<m} gamma^k r_{t+k+1} + gamma^m h^-1(V_{t+m})) (R2D2, 2.3).

    Args:
        config: steps n, rows L, and epsilon of h.
        rewards: raw reward that arrived with each row. float32[T, B]
        flags: flags that arrived with it. uint8[T, B]
        values: rescaled value V of each row. float32[T, B]
        gamma: discount of each sequence's policy. float32[B]
        last: index of the last row that exists. int64[B]

    Returns:
        float32[L, B]
    """
    agent = config.agent
    y = n_step_bootstrap(
        rewards,
        row_discounts(flags, gamma, config.env.life_loss == "zero_discount"),
        inverse_rescale(values, agent.rescaling),
        last,
        agent.n_step,
        config.replay.unroll,
    )
    return rescale(y, agent.rescaling)


def build(config: R2d2Config, spec: EnvSpec, device: torch.device) -> Agent[SequenceBatch]:
    """Build the agent with its networks on `device`."""
    agent, replay = config.agent, config.replay
    online, target, sync = with_target(make_network(config, spec), agent.target_period, device)
    family = discount_family(agent.policies, agent.discount, agent.discount_min)
    gammas = torch.tensor(family, dtype=torch.float32, device=device)
    episodes = episode_record(agent.policies)

    def loss(batch: SequenceBatch) -> LossOutput:
        learn = slice(replay.burn_in, None)
        observations = cut_sequence_stacks(batch.frames, config.net.stack)
        inputs, state = burned_in(online, observations, batch, replay.burn_in)
        q = online.q_values(online.unroll(inputs, state))
        with torch.no_grad():
            q_target = unroll(target, observations, batch, replay.burn_in)
            values = select_actions(q_target, q.argmax(dim=-1))
            arms = batch.columns[0][replay.burn_in, :, 0].long() if batch.columns else 0
            gamma = gammas[arms]
            last = batch.valid_length + batch.bootstrap_length - 1
            y = targets(config, batch.rewards[learn], batch.flags[learn], values, gamma, last)
        taken = select_actions(q, batch.actions[learn])[: replay.unroll]
        valid = torch.arange(replay.unroll, device=y.device)[:, None] < batch.valid_length
        errors = torch.where(valid, y - taken, 0.0)
        losses = 0.5 * errors.square().sum(dim=0)
        mean_q = (taken.detach() * valid).sum() / valid.sum()
        metrics = {"q/mean": mean_q, "q/target_mean": (y * valid).sum() / valid.sum()}
        if replay.state_drift:
            metrics |= state_drift(online, inputs, q, batch)
        return LossOutput(losses, mixed_priority(errors.detach(), valid, replay.eta), metrics)

    def rank(rows: RecentRows) -> torch.Tensor:
        """Initial priorities of new sequences, with the actor's values as their targets'."""
        taken, values, gamma = rows.estimates
        y = targets(config, rows.rewards, rows.flags, values, gamma[0], rows.last)
        valid = torch.arange(replay.unroll)[:, None] < rows.valid_length
        return mixed_priority(y - taken[: replay.unroll], valid, replay.eta)

    def record(chosen: Choice) -> Acted:
        """The policy, and what initial priorities are computed from: values and discount."""
        values = chosen.mixed.numpy()
        taken = np.take_along_axis(values, chosen.actions[:, None], axis=1)[:, 0]
        policies = chosen.policies[:, None].astype(np.int32)
        return Acted(
            chosen.actions,
            columns=(policies,) if agent.policies > 1 else (),
            states=chosen.states,
            estimates=(taken, values.max(axis=1), family.astype(np.float32)[chosen.policies]),
        )

    def make_actor(acting: ActorSpec) -> RecurrentActor:
        ladder = epsilon_ladder(acting.num_envs, agent.epsilon_base, agent.epsilon_alpha)
        choosers = bandits(acting, agent, agent.policies)
        choice = PolicyChoice(acting.num_envs, episodes, choosers, episodes.best)
        return RecurrentActor((online,), acting, ladder, choice, record=record)

    return sequence_agent(
        config,
        spec,
        nets={"online": online, "target": target},
        make_actor=make_actor,
        objectives=(Objective("td", online, config.optim, loss),),
        hooks=(sync._replace(unit="updates"),),
        record=episodes,
        columns=[RowSpec("policy", "int32")] if agent.policies > 1 else [],
        networks=1,
        rank=rank,
        num_estimates=3,
    )
