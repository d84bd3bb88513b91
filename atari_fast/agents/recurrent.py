"""What recurrent agents share: their actor, and the unrolling of a network over sequences."""

from __future__ import annotations

import dataclasses
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
from atari_fast.agents.agent import Actor, ActorSpec, Agent, Hook, MemoryNeed, Objective
from atari_fast.agents.common import replay_need
from atari_fast.config import BanditConfig, RecurrentConfig, SequenceReplayConfig
from atari_fast.exploration.bandit import PolicyChoice, SlidingWindowUCB
from atari_fast.infra.weights import checked_like
from atari_fast.nets.recurrent import RecurrentQNetwork, State
from atari_fast.ops.rescaling import rescale
from atari_fast.replay.recent_rows import Rank
from atari_fast.replay.sequence import (
    RowSpec,
    SequenceBatch,
    SequenceConfig,
    SequenceReplay,
    StateSpec,
    sequence_options,
)
from atari_fast.types import Acted, EnvSpec, Episode, Flag, StepBatch

Record = Callable[["Choice"], Acted]
"""What an actor records of a step."""
Mix = Callable[[Sequence[torch.Tensor], torch.Tensor], torch.Tensor]
"""Action values float[..., A] of each network, and policies int64[...], to those that choose."""


class Choice(NamedTuple):
    """What the actor did at a step."""

    actions: NDArray[np.int64]
    """int64[E]"""
    probabilities: NDArray[np.float32]
    """Probability mu with which each was chosen, float32[E]."""
    policies: NDArray[np.int64]
    """int64[E]"""
    values: tuple[torch.Tensor, ...]
    """Action values float32[E, A] of each network, on the CPU."""
    mixed: torch.Tensor
    """The values that chose, float32[E, A], on the CPU."""
    states: tuple[NDArray[np.float32], ...]
    """Recurrent states before the step, (h, c) of each network, float32[E, H] each."""


class RecurrentActor:
    """Carries the recurrent state, the previous action and the policy of each environment."""

    def __init__(
        self,
        nets: Sequence[RecurrentQNetwork],
        spec: ActorSpec,
        epsilons: NDArray[np.float64],
        choice: PolicyChoice,
        mix: Mix = lambda values, _: values[0],
        record: Record = lambda chosen: Acted(chosen.actions, states=chosen.states),
    ) -> None:
        """Make an actor.

        Args:
            nets: the networks, with equal inputs and sizes.
            spec: what the actor is made for.
            epsilons: probability of a random action in each environment in training, [E].
            choice: which policy plays each episode.
            mix: the values by which it acts, out of those of all networks.
            record: what `act` returns of a step, with columns and estimates of its rows.
        """
        self._nets = nets
        self._spec = spec
        self._choice = choice
        self._record = record
        self._mix = mix
        self._epsilons = epsilons
        self._advance = fixed_batches(self._step) if spec.fixed_batches else self._step
        self._states = [part for net in nets for part in net.initial_state(spec.num_envs)]
        self._prev_actions = torch.full_like(self._states[0][:, 0], -1, dtype=torch.int64)
        self._policy_metrics: Mapping[str, float] = {}

    def _step(self, observations: torch.Tensor, *inputs: torch.Tensor) -> torch.Tensor:
        """New states and action values of all networks, side by side."""
        parts = 2 * len(self._nets)
        seen, states = inputs[:-parts], inputs[-parts:]
        advanced, values = [], []
        for k, net in enumerate(self._nets):
            h, c = net.step(net.inputs(observations, *seen), (states[2 * k], states[2 * k + 1]))
            advanced += [h, c]
            values.append(net.q_values(h))
        return torch.cat((*advanced, *values), dim=1)

    def act(self, observations: torch.Tensor, step: StepBatch, frames: int) -> Acted:
        """Choose actions; see `Actor.act`."""
        del frames
        return self._record(self.choose(observations, step))

    def choose(
        self,
        observations: torch.Tensor,
        step: StepBatch,
        intrinsic: NDArray[np.float32] | None = None,
    ) -> Choice:
        """Advance the recurrent states and choose actions.

        Args:
            observations: uint8[E, S, H, W]
            step: what arrived.
            intrinsic: intrinsic reward of the step before, for networks that see it. float32[E]
        """
        device, first = observations.device, (step.flags & Flag.FIRST) != 0
        begins = torch.from_numpy(first).to(device)
        policies = self._choice.begin(first)
        rewards = torch.from_numpy(np.where(first, 0, step.rewards).astype(np.float32))
        prev_actions = self._prev_actions.masked_fill(begins, -1)
        before = tuple(part.masked_fill(begins[:, None], 0.0) for part in self._states)
        seen = [prev_actions, rewards.to(device), torch.from_numpy(policies).to(device)]
        if intrinsic is not None:
            seen.append(torch.from_numpy(intrinsic).to(device))
        with torch.inference_mode(), self._spec.autocast():
            advanced = self._advance(observations, *seen, *before)
        units, num_actions = before[0].shape[1], self._nets[0].num_actions
        sizes = [units] * len(before) + [num_actions] * len(self._nets)
        parts = torch.split(advanced, sizes, dim=1)
        self._states = list(parts[: len(before)])
        arrived = to_host(*before, *(part.float() for part in parts[len(before) :]))
        values = arrived[len(before) :]
        mixed = self._mix(values, torch.from_numpy(policies))
        greedy = mixed.numpy().argmax(axis=1)
        training = self._spec.mode == "train"
        epsilon = self._epsilons if training else np.full(len(greedy), self._spec.epsilon)
        explore, chance = explorations(self._spec.rng, len(greedy), num_actions, epsilon)
        actions = np.where(explore, chance, greedy)
        self._prev_actions = torch.from_numpy(actions).to(device)
        chances = epsilon / num_actions + (1 - epsilon) * (actions == greedy)
        states = tuple(part.numpy() for part in arrived[: len(before)])
        return Choice(actions, chances.astype(np.float32), policies, values, mixed, states)

    def episodes_finished(self, episodes: Sequence[Episode]) -> None:
        """Report the returns of the games' policies to the bandits."""
        self._choice.finished(episodes)
        if episodes:
            self._policy_metrics = self._choice.metrics()

    def metrics(self) -> Mapping[str, float]:
        """`epsilon`, the mean over the environments, and what `PolicyChoice.metrics` says."""
        training = self._spec.mode == "train"
        epsilon = float(self._epsilons.mean()) if training else self._spec.epsilon
        return {"epsilon": epsilon, **self._policy_metrics}

    def state(self) -> dict[str, Any]:
        """Recurrent states, previous actions, policies and random numbers."""
        return {
            "recurrent": self._states,
            "prev_actions": self._prev_actions,
            "choice": self._choice.state(),
            "rng": random_state(self._spec.rng),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`."""
        pairs = zip(state["recurrent"], self._states, strict=True)
        self._states = [checked_like(saved, like) for saved, like in pairs]
        prev_actions = checked_like(state["prev_actions"], self._prev_actions)
        if not bool(((prev_actions >= -1) & (prev_actions < self._nets[0].num_actions)).all()):
            raise ValueError(f"expected previous actions, got {prev_actions.tolist()}")
        self._prev_actions = prev_actions
        self._choice.load_state(state["choice"])
        self._policy_metrics = self._choice.metrics()
        load_random_state(self._spec.rng, state["rng"])


def burned_in(
    net: RecurrentQNetwork,
    observations: torch.Tensor,
    batch: SequenceBatch,
    burn_in: int,
    *,
    intrinsic: torch.Tensor | None = None,
    network: int = 0,
) -> tuple[torch.Tensor, State]:
    """Inputs of the rows from the first unroll row on, and the state before them (R2D2, 2.3 and 3).

    The burn-in rows produce a recurrent state from the stored one, without a gradient. Rows before
    the first one that exists leave the state as it is.

    Args:
        net: the network.
        observations: uint8[T, B, S, H, W]
        batch: the sequences; their first column, if there is one, is the policy.
        burn_in: l, rows before the first unroll row.
        intrinsic: intrinsic reward before each row, for networks that see it. float32[T, B]
        network: k, where the batch has states of several networks.

    Returns:
        float[T - l, B, D] and the state (h, c), float32[B, H] each.
    """
    policies = batch.columns[0][..., 0].long() if batch.columns else None

    def inputs(rows: slice) -> torch.Tensor:
        return net.inputs(
            observations[rows],
            batch.prev_actions[rows],
            batch.rewards[rows],
            None if policies is None else policies[rows],
            None if intrinsic is None else intrinsic[rows],
        )

    state = batch.states[2 * network].float(), batch.states[2 * network + 1].float()
    with torch.no_grad():
        warm = inputs(slice(0, burn_in)) if burn_in else ()
        for t, row in enumerate(warm):
            exists = (t >= burn_in - batch.burn_in)[:, None]
            h, c = net.step(row, state)
            state = torch.where(exists, h, state[0]), torch.where(exists, c, state[1])
    return inputs(slice(burn_in, None)), state


def unroll(
    net: RecurrentQNetwork,
    observations: torch.Tensor,
    batch: SequenceBatch,
    burn_in: int,
    **options: Any,
) -> torch.Tensor:
    """Action values float32[T - l, B, A] of the rows from the first unroll row on.

    The arguments are those of `burned_in`.
    """
    return net.q_values(net.unroll(*burned_in(net, observations, batch, burn_in, **options)))


def state_drift(
    net: RecurrentQNetwork, inputs: torch.Tensor, values: torch.Tensor, batch: SequenceBatch
) -> dict[str, torch.Tensor]:
    """How far burned-in states are from those of the actor, in action values (R2D2, 3).

    ||q(h_t) - q(g_t)||_2 / |max_{t,a} q(h_t)_a| of the first and the last valid unroll row t, where
    h comes from the burn-in and g from the state that the actor had before the first unroll row,
    both with the present weights; maxima below 1e-6 count as 1e-6. Without a gradient.

    Args:
        net: the network.
        inputs: inputs of the rows from the first unroll row on. float[T, B, D]
        values: their action values from the burned-in state, q(h). float32[T, B, A]
        batch: the sequences, with `unroll_states`.

    Returns:
        `state/drift_first` and `state/drift_last`: float32 scalars, means over the batch.
    """
    with torch.no_grad():
        h, c = batch.states[2].float(), batch.states[3].float()
        recorded = net.q_values(net.unroll(inputs.detach(), (h, c)))
        valid = torch.arange(len(values), device=values.device)[:, None] < batch.valid_length
        largest = torch.where(valid, values.detach().amax(dim=2), -torch.inf).amax(dim=0)
        distances = (values.detach() - recorded).norm(dim=2) / largest.abs().clamp(min=1e-6)
        last = distances.gather(0, batch.valid_length[None] - 1)
        return {"state/drift_first": distances[0].mean(), "state/drift_last": last.mean()}


def make_network(
    config: RecurrentConfig, spec: EnvSpec, *, intrinsic: float | None = None
) -> RecurrentQNetwork:
    """The network that the settings ask for; see `RecurrentQNetwork`."""

    def scale_reward(rewards: torch.Tensor) -> torch.Tensor:
        rescaled = config.net.reward_input == "rescaled"
        return rescale(rewards, config.agent.rescaling) if rescaled else rewards

    policies = config.agent.policies
    return RecurrentQNetwork(config.net, spec, policies, scale_reward, intrinsic)


def episode_record(policies: int) -> SlidingWindowUCB:
    """The last 3,600 training episodes: the evaluator's bandit (Agent57, Badia et al. 2020b, 4)."""
    return SlidingWindowUCB(policies, 3_600, 0.0, 0.0, np.random.default_rng(0))


def bandits(acting: ActorSpec, config: BanditConfig, policies: int) -> list[SlidingWindowUCB]:
    """The bandits of an actor; none in evaluations, and where there is only one policy."""
    if acting.mode != "train" or policies == 1:
        return []
    assert isinstance(acting.rng, np.random.Generator)
    settings = config.bandit_window, config.bandit_beta, config.bandit_epsilon, acting.rng
    groups = config.bandit_groups or acting.num_envs
    return [SlidingWindowUCB(policies, *settings) for _ in range(groups)]


def sequence_settings(config: RecurrentConfig) -> SequenceConfig:
    """Settings of the sequence replay."""
    names = [field.name for field in dataclasses.fields(SequenceReplayConfig)]
    shared = {name: getattr(config.replay, name) for name in names}
    return SequenceConfig(
        **shared,
        stack=config.net.stack,
        bootstrap_steps=config.bootstrap_steps,
        unroll_states=config.unroll_states,
    )


def sequence_agent(
    config: RecurrentConfig,
    spec: EnvSpec,
    *,
    nets: Mapping[str, torch.nn.Module],
    make_actor: Callable[[ActorSpec], Actor],
    objectives: tuple[Objective[SequenceBatch], ...],
    hooks: tuple[Hook, ...],
    record: SlidingWindowUCB,
    columns: Sequence[RowSpec],
    networks: int,
    rank: Rank,
    num_estimates: int,
    memory_needs: tuple[MemoryNeed, ...] = (),
) -> Agent[SequenceBatch]:
    """An agent that learns from sequences.

    Args:
        config: its settings.
        spec: its environments.
        nets: see `Agent`.
        make_actor: see `Agent`.
        objectives: see `Agent`.
        hooks: see `Agent`.
        record: the record of its training episodes.
        columns: columns that its actor adds to rows.
        networks: number of networks whose recurrent states (h, c) the actor records.
        rank: initial priorities.
        num_estimates: number of the actor's estimates.
        memory_needs: what takes much memory beside the replay.
    """
    replay, sequences = config.replay, sequence_settings(config)
    states = [
        StateSpec(f"{name}{k or ''}", replay.state_dtype, config.net.lstm)
        for k in range(networks)
        for name in ("h", "c")
    ]

    def make_memory(seed: int) -> SequenceReplay:
        return SequenceReplay(
            sequences,
            config.env.num_envs,
            spec.frame_shape,
            columns,
            states,
            seed,
            min_frames=replay.min_frames,
            update_period=config.update_period,
            beta=replay.beta,
            rank=rank,
            num_estimates=num_estimates,
        )

    options = sequence_options(sequences, config.env.num_envs, spec.frame_shape, columns, states)
    return Agent(
        nets=nets,
        make_actor=make_actor,
        make_memory=make_memory,
        memory_needs=(replay_need(options), *memory_needs),
        batch_type=SequenceBatch,
        objectives=objectives,
        stack=config.net.stack,
        batch_size=config.optim.batch_size,
        learning_starts=replay.min_frames,
        parallel=config.net.torso != "mlp",
        hooks=hooks,
        parts={"evaluator": record} if config.agent.policies > 1 else {},
    )
