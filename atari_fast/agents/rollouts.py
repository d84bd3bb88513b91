"""What A2C, PPO and PQN share: an actor whose network may be recurrent, and rollouts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from atari_fast.agents.acting import (
    explorations,
    fixed_batches,
    load_random_state,
    random_state,
    to_host,
)
from atari_fast.agents.agent import (
    SMALLEST_SHARE,
    ActorSpec,
    Agent,
    LossOutput,
    MemoryNeed,
    Objective,
    QValues,
)
from atari_fast.config import (
    ActorCriticAgentConfig,
    ActorCriticConfig,
    ReusedRolloutConfig,
    RolloutFamilyConfig,
    SplitRolloutConfig,
)
from atari_fast.infra.weights import checked_like
from atari_fast.nets.rollouts import RolloutNetwork
from atari_fast.ops.returns import generalized_advantages
from atari_fast.ops.sequences import row_discounts
from atari_fast.replay.rollouts import Rollout, RolloutBatch, RolloutMemory, RolloutOptions
from atari_fast.types import Acted, EnvSpec, Episode, Flag, StepBatch


class Decision(NamedTuple):
    """What an actor does with the outputs of its network."""

    actions: NDArray[np.int64]
    """int64[E]"""
    estimates: tuple[torch.Tensor, ...]
    """What the memory records of the row, float32[E] each."""
    epsilon: float | None = None
    """Probability of a random action, where there is one."""


Loss = Callable[[torch.Tensor, RolloutBatch], tuple[torch.Tensor, dict[str, torch.Tensor]]]
"""Outputs and a batch to the loss of each transition, and to metrics; see `rollout_agent`."""
Decide = Callable[[ActorSpec, torch.Tensor, int], Decision]
"""Outputs float32[E, K] on the CPU, and emulator frames of the run so far, to a decision."""


class RolloutActor:
    """Carries the recurrent state of each environment, where the network has one."""

    def __init__(self, net: RolloutNetwork, spec: ActorSpec, decide: Decide) -> None:
        """Make an actor that acts by the outputs of the network."""
        self._spec = spec
        self._decide = decide
        self._advance = fixed_batches(self._step) if spec.fixed_batches else self._step
        self._net = net
        self._state = net.initial_state(spec.num_envs)
        self._epsilon: float | None = None

    def _step(
        self, observations: torch.Tensor, first: torch.Tensor, *state: torch.Tensor
    ) -> torch.Tensor:
        """The new state and the outputs, side by side."""
        outputs, new = self._net(observations[None], first[None], state)
        return torch.cat((*new, outputs[0]), dim=1)

    def act(self, observations: torch.Tensor, step: StepBatch, frames: int) -> Acted:
        """Choose actions; see `Actor.act`."""
        if self._spec.mode == "train":
            self._net.observe(observations[:, -1])
        begins = torch.from_numpy((step.flags & Flag.FIRST) != 0).to(observations.device)
        before = self._state
        with torch.inference_mode(), self._spec.autocast():
            advanced = self._advance(observations, begins, *before)
        units = [part.shape[1] for part in before]
        *state, outputs = torch.split(advanced, [*units, advanced.shape[1] - sum(units)], dim=1)
        self._state = tuple(state)
        outputs, *recorded = to_host(outputs, *before)
        actions, estimates, self._epsilon = self._decide(self._spec, outputs, frames)
        return Acted(
            actions,
            states=tuple(part.numpy() for part in recorded),
            estimates=tuple(part.numpy() for part in estimates),
        )

    def episodes_finished(self, episodes: Sequence[Episode]) -> None:
        """Nothing depends on finished games."""

    def metrics(self) -> Mapping[str, float]:
        """`epsilon` of the last step, where there is one."""
        return {} if self._epsilon is None else {"epsilon": self._epsilon}

    def state(self) -> dict[str, Any]:
        """Recurrent states and random numbers."""
        return {"recurrent": list(self._state), "rng": random_state(self._spec.rng)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`."""
        pairs = zip(state["recurrent"], self._state, strict=True)
        self._state = tuple(checked_like(saved, like) for saved, like in pairs)
        load_random_state(self._spec.rng, state["rng"])


def rollout_agent(
    config: RolloutFamilyConfig,
    spec: EnvSpec,
    net: RolloutNetwork,
    *,
    decide: Decide,
    num_estimates: int,
    targets: Callable[[torch.Tensor, torch.Tensor, Rollout], tuple[torch.Tensor, ...]],
    num_targets: int,
    loss: Loss,
    name: str,
    normalize: bool = False,
    q_values: QValues | None = None,
) -> Agent[RolloutBatch]:
    """An agent that learns from rollouts.

    Args:
        config: its settings.
        spec: its environments.
        net: its network, on the device.
        decide: how it acts.
        num_estimates: number of estimates of a decision.
        targets: from clipped rewards float32[T, E], discounts float32[T, E] and a rollout to
            targets float32[T, E].
        num_targets: number of targets.
        loss: from outputs float32[T, B, K] and a batch to the loss of each transition,
            float32[T, B], and to metrics of each, [T, B].
        name: name of the objective.
        normalize: standardise the first target in each batch.
        q_values: see `Agent`.
    """
    agent, rollout = config.agent, config.rollout
    minibatches = rollout.minibatches if isinstance(rollout, SplitRolloutConfig) else 1
    options = RolloutOptions(
        steps=rollout.steps,
        num_envs=config.env.num_envs,
        frame_shape=spec.frame_shape,
        stack=config.net.stack,
        num_actions=spec.num_actions,
        lstm=config.net.lstm,
        num_items=config.items,
        num_estimates=num_estimates,
        num_targets=num_targets,
        epochs=rollout.epochs if isinstance(rollout, ReusedRolloutConfig) else 1,
        minibatches=minibatches,
        normalize=normalize,
    )

    def all_targets(played: Rollout) -> tuple[torch.Tensor, ...]:
        rewards, clip = played.rewards, agent.reward_clip
        if clip:
            rewards = rewards.clamp(-clip, clip)
        ends = config.env.life_loss == "zero_discount"
        return targets(rewards, row_discounts(played.flags, agent.discount, ends), played)

    def mean_loss(batch: RolloutBatch) -> LossOutput:
        outputs, _ = net(batch.observations, batch.first, batch.states)
        losses, metrics = loss(outputs, batch)
        counted = torch.where(batch.valid, losses, 0.0).mean(dim=0)
        valid = batch.valid.sum().clamp(min=1)
        means = {
            name: torch.where(batch.valid, value.detach(), 0.0).sum() / valid
            for name, value in metrics.items()
        }
        return LossOutput(counted, counted.detach().abs(), means)

    return Agent(
        nets={"online": net},
        make_actor=lambda acting: RolloutActor(net, acting, decide),
        make_memory=lambda seed: RolloutMemory(options, all_targets, seed),
        memory_needs=(MemoryNeed(options.bytes_needed, "rollout.steps", "lower --rollout.steps"),),
        batch_type=RolloutBatch,
        objectives=(Objective(name, net, config.optim, mean_loss),),
        stack=config.net.stack,
        batch_size=config.items // minibatches,
        smallest_share=max(1, SMALLEST_SHARE // rollout.steps)
        if config.net.lstm
        else SMALLEST_SHARE,
        learning_starts=0,
        parallel=config.net.torso != "mlp",
        q_values=q_values,
    )


def make_network(
    config: RolloutFamilyConfig,
    spec: EnvSpec,
    device: torch.device,
    widths: dict[str, int],
    gains: dict[str, float],
) -> RolloutNetwork:
    """A network on a device, its convolutions in the layout in which they compute.

    Args:
        config: its sizes.
        spec: frame shape.
        device: where it goes.
        widths: width of each kind of output.
        gains: gain of the weights of each, where `init` is orthogonal or normalized-columns.
    """
    net = RolloutNetwork(config.net, spec, widths)
    for name, head in net.heads.items():
        assert isinstance(head.weight, torch.Tensor)
        if config.net.init == "orthogonal":
            torch.nn.init.orthogonal_(head.weight, gains[name])
        elif config.net.init == "normalized-columns":
            weight = torch.randn_like(head.weight)
            head.weight.data = gains[name] * weight / weight.norm(dim=1, keepdim=True)
    moved: RolloutNetwork = net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return moved


def choose_by_policy(agent: ActorCriticAgentConfig) -> Decide:
    """Actions by the policy's probabilities; log pi(a | x) and V(x) are estimates."""

    def decide(spec: ActorSpec, outputs: torch.Tensor, frames: int) -> Decision:
        del frames
        logits, values = outputs[:, :-1], outputs[:, -1]
        log_probabilities = logits.log_softmax(dim=1)
        if spec.mode == "evaluate" and agent.evaluation == "greedy":
            actions = logits.argmax(dim=1).numpy()
        else:
            levels = torch.from_numpy(spec.rng.random(len(outputs)))[:, None]
            below = log_probabilities.double().exp().cumsum(dim=1) <= levels
            actions = below[:, :-1].sum(dim=1).numpy()
        if spec.mode == "evaluate":
            num_actions = logits.shape[1]
            explore, chance = explorations(spec.rng, len(actions), num_actions, spec.epsilon)
            actions = np.where(explore, chance, actions)
        chosen = torch.from_numpy(actions)[:, None]
        return Decision(actions, (log_probabilities.gather(1, chosen)[:, 0], values))

    return decide


class PolicyTerms(NamedTuple):
    """What actor-critic losses are made of, [T, B] each."""

    log_probability: torch.Tensor
    """log pi(a | x) of the action taken."""
    entropy: torch.Tensor
    """Entropy of the policy, in nats."""
    value: torch.Tensor
    """V(x)."""


def policy_terms(outputs: torch.Tensor, actions: torch.Tensor) -> PolicyTerms:
    """Terms of outputs float32[T, B, A + 1] and actions int64[T, B]."""
    log_probabilities = outputs[..., :-1].log_softmax(dim=-1)
    entropy = -(log_probabilities.exp() * log_probabilities).sum(dim=-1)
    taken = log_probabilities.gather(-1, actions[..., None])[..., 0]
    return PolicyTerms(taken, entropy, outputs[..., -1])


def actor_critic(
    config: ActorCriticConfig,
    spec: EnvSpec,
    device: torch.device,
    loss: Loss,
    *,
    return_lambda: float,
) -> Agent[RolloutBatch]:
    """An agent whose network has the logits of A actions and a value: A2C, PPO.

    Its targets are A_t by generalized advantage estimation from recorded values, and G_t.
    Where `init` is orthogonal, the first logits are near 0, so that all actions are about equally
    probable, and the weights of the value have norm 1 (OpenAI's PPO).

    Args:
        config: its settings.
        spec: its environments.
        device: where its network is.
        loss: see `rollout_agent`.
        return_lambda: lambda of G_t; 1: the discounted rewards up to the end of the rollout.
    """
    agent = config.agent
    widths, gains = {"policy": spec.num_actions, "value": 1}, {"policy": 0.01, "value": 1.0}

    def targets(
        rewards: torch.Tensor, discounts: torch.Tensor, rollout: Rollout
    ) -> tuple[torch.Tensor, ...]:
        values = rollout.estimates[1]
        advantages, others = (
            generalized_advantages(rewards, discounts, rollout.valid, values, trace)
            for trace in (agent.gae_lambda, return_lambda)
        )
        return advantages, others + values[:-1]

    return rollout_agent(
        config,
        spec,
        make_network(config, spec, device, widths, gains),
        decide=choose_by_policy(agent),
        num_estimates=2,
        targets=targets,
        num_targets=2,
        loss=loss,
        name="actor_critic",
        normalize=agent.normalize_advantages,
    )
