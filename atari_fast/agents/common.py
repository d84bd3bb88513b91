"""What the agents of the DQN family share."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import nn

from atari_fast import _core
from atari_fast.agents.acting import EpsilonGreedyActor
from atari_fast.agents.agent import (
    ActorSpec,
    Agent,
    Hook,
    LossOutput,
    MemoryNeed,
    Objective,
    QValues,
    Services,
)
from atari_fast.config import (
    DqnConfig,
    DqnFamilyAgentConfig,
    DqnFamilyConfig,
    MunchausenAgentConfig,
)
from atari_fast.ops.action_gap import action_gap, relative_gap
from atari_fast.ops.augmentation import random_shift
from atari_fast.ops.least_squares import LstdqSystem
from atari_fast.ops.operators import (
    advantage,
    advantage_learning,
    consistent_bellman,
    lazy,
    persistent,
    persistent_advantage_learning,
)
from atari_fast.ops.targets import munchausen_reward, select_actions
from atari_fast.replay.common import checked_settings
from atari_fast.replay.transition import TransitionBatch, TransitionReplay, transition_options
from atari_fast.schedules import linear
from atari_fast.types import EnvSpec

Net = TypeVar("Net", bound=nn.Module)
OBJECTIVE = "td"
"""Name of the family's one objective."""


def replay_need(
    options: _core.TransitionReplayOptions | _core.SequenceReplayOptions,
) -> MemoryNeed:
    """The main memory that a replay takes.

    Raises:
        ConfigError: its settings do not fit each other.
    """
    with checked_settings():
        needed = options.memory_bytes
    return MemoryNeed(needed, "replay.capacity", "lower --replay.capacity")


def least_squares_needs(config: DqnConfig, num_actions: int) -> tuple[MemoryNeed, ...]:
    """The main memory that a solution takes, where that is much: the system of LSTD-Q."""
    if config.ls.method != "lstdq":
        return ()
    needed = LstdqSystem.bytes_needed(num_actions, config.net.hidden)
    return (MemoryNeed(needed, "ls.method lstdq", "use --ls.method fqi"),)


def value_agent(
    config: DqnFamilyConfig,
    spec: EnvSpec,
    online: nn.Module,
    target: nn.Module,
    *,
    q_values: QValues,
    behaviour: QValues,
    loss: Callable[[TransitionBatch], LossOutput],
    hooks: Sequence[Hook],
    memory_needs: Sequence[MemoryNeed] = (),
) -> Agent[TransitionBatch]:
    """An agent that acts epsilon-greedily and learns from transitions.

    Args:
        config: its settings.
        spec: its environments.
        online: the network that is trained.
        target: the network of the bootstrap targets.
        q_values: values by which a trained agent acts.
        behaviour: values by which it acts in training, noise included.
        loss: the algorithm's mathematics, given observations as they are to be learned from.
        hooks: periodic parts.
        memory_needs: what takes memory beside the replay.
    """
    replay, optim = config.replay, config.optim
    decay = linear(
        config.agent.epsilon_start, config.agent.epsilon_end, config.agent.epsilon_frames
    )

    def make_actor(acting: ActorSpec) -> EpsilonGreedyActor:
        if acting.mode == "evaluate":
            return EpsilonGreedyActor(acting, spec.num_actions, q_values, lambda _: acting.epsilon)
        return EpsilonGreedyActor(
            acting,
            spec.num_actions,
            behaviour,
            lambda frames: decay(max(0, frames - replay.min_frames)),
        )

    def make_memory(seed: int) -> TransitionReplay:
        return TransitionReplay(
            config.env,
            config.net,
            config.agent,
            replay,
            spec.frame_shape,
            seed,
            update_period=optim.update_period,
        )

    def augmented_loss(batch: TransitionBatch) -> LossOutput:
        if optim.random_shift:
            batch = batch._replace(frames=random_shift(batch.frames, optim.random_shift))
        return loss(batch)

    options = transition_options(config.env, config.net, config.agent, replay, spec.frame_shape)
    return Agent(
        nets={"online": online, "target": target},
        make_actor=make_actor,
        make_memory=make_memory,
        memory_needs=(replay_need(options), *memory_needs),
        batch_type=TransitionBatch,
        objectives=(Objective(OBJECTIVE, online, optim, augmented_loss),),
        stack=config.net.stack,
        batch_size=optim.batch_size,
        learning_starts=replay.min_frames,
        parallel=config.net.torso != "mlp",
        hooks=tuple(hooks),
        q_values=q_values,
    )


def with_target(online: Net, period: int, device: torch.device) -> tuple[Net, Net, Hook]:
    """A network on `device`, a frozen copy, and the hook that copies it every `period` frames."""
    online.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    target = copy.deepcopy(online).requires_grad_(False)
    for module in target.modules():
        if isinstance(module, nn.RNNBase):
            module.flatten_parameters()  # a copy has several blocks of memory, cuDNN needs one

    def sync(_: Services) -> None:
        target.load_state_dict(online.state_dict())

    return online, target, Hook(period, sync)


def apply_operator(
    agent: DqnFamilyAgentConfig,
    y: torch.Tensor,
    batch: TransitionBatch,
    observations: tuple[torch.Tensor, torch.Tensor],
    target_q: Callable[[torch.Tensor], torch.Tensor],
    q_t: torch.Tensor,
    selector: torch.Tensor,
) -> torch.Tensor:
    """Targets under the agent's operator or Munchausen term.

    Args:
        agent: its settings.
        y: targets of the plain algorithm, or rewards, which are shifted alike. float32[B]
        batch: the transitions.
        observations: first and bootstrap observations, uint8[B, S, H, W] each.
        target_q: the target network's action values float32[B, A] of observations.
        q_t: those of the bootstrap observations.
        selector: the values by which the bootstrap action is chosen, q_t or the online network's.

    Returns:
        float32[B]
    """
    if isinstance(agent, MunchausenAgentConfig) and agent.munchausen:
        return munchausen_reward(
            y,
            target_q(observations[0]),
            batch.actions,
            agent.munchausen_alpha,
            agent.munchausen_temperature,
            agent.munchausen_clip,
        )
    if agent.operator == "none":
        return y
    alpha = agent.operator_alpha
    # Where the selector's action is worth less than the one taken, no operator raises the target.
    advantage_t = advantage(q_t, batch.actions, selector).clamp(max=0) * (batch.discounts > 0)
    factor = batch.discounts if agent.operator_next == "gamma" else alpha
    if agent.operator == "persistent":
        return persistent(y, advantage_t, factor)
    if agent.operator == "consistent":
        same = (observations[0] == observations[1]).flatten(1).all(dim=1)
        return consistent_bellman(y, advantage_t, batch.discounts, same)
    q_tm1 = target_q(observations[0])
    advantage_tm1 = advantage(q_tm1, batch.actions)
    if agent.operator == "al":
        return advantage_learning(y, advantage_tm1, alpha)
    if agent.operator == "pal":
        return persistent_advantage_learning(y, advantage_tm1, advantage_t, alpha, factor)
    return lazy(y, select_actions(q_tm1, batch.actions), advantage_tm1, alpha)


def value_metrics(q_tm1: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
    """Means to log: values float32[B, A] of the online network, targets float32[B], action gaps."""
    q = q_tm1.detach()
    return {
        "q/mean": q.mean(),
        "q/target_mean": y.mean(),
        "gap/mean": action_gap(q).mean(),
        "gap/of_range": relative_gap(q).mean(),
        "gap/of_value": action_gap(q).mean() / q.max(dim=1).values.abs().mean().clamp(min=1e-8),
    }
