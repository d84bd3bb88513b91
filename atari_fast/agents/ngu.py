"""NGU (Badia et al. 2020): recurrent Q-learning with an intrinsic reward, for a family of policies.

The parts are those of Agent57 too: an agent acts by Q(x, a, j) = sum_k w_kj Q_k(x, a, j) and trains
each network Q_k by transformed Retrace on a reward of its own, with one target policy. NGU has one
network, whose reward is r^e + beta_j r^i.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from atari_fast.agents.agent import ActorSpec, Agent, LossOutput, Objective
from atari_fast.agents.common import with_target
from atari_fast.agents.novelty import IntrinsicReward, episodic_need, novelty_objectives
from atari_fast.agents.recurrent import (
    Choice,
    RecurrentActor,
    episode_record,
    make_network,
    sequence_agent,
    unroll,
)
from atari_fast.config import FamilyConfig, NguConfig
from atari_fast.exploration.bandit import (
    Chooser,
    PolicyChoice,
    SlidingWindowUCB,
    UniformChoice,
)
from atari_fast.exploration.families import discount_family, epsilon_ladder, intrinsic_scales
from atari_fast.infra.weights import checked_like
from atari_fast.nets.novelty import ActingNetworks, NoveltyNetworks
from atari_fast.ops.rescaling import inverse_rescale, rescale
from atari_fast.ops.retrace import TargetPolicy, retrace, traces
from atari_fast.ops.sequences import mixed_priority, row_discounts
from atari_fast.ops.stacks import cut_sequence_stacks
from atari_fast.ops.targets import select_actions
from atari_fast.replay.recent_rows import RecentRows
from atari_fast.replay.sequence import RowSpec, SequenceBatch
from atari_fast.types import Acted, EnvSpec, Episode, Flag, StepBatch

COLUMNS = (
    RowSpec("policy", "int32"),
    RowSpec("behaviour_probability", "float32"),
    RowSpec("intrinsic_reward", "float32"),
    RowSpec("previous_intrinsic_reward", "float32"),
)
"""j, mu(a_t | x_t), r^i_t of the arrived x_t, and r^i_{t-1}, which the networks see at x_t."""


class Stream(NamedTuple):
    """What one network of action values learns, and what it counts for."""

    name: str
    """Its TD error is logged as `td/<name>`."""
    extrinsic: torch.Tensor
    """Factor of r^e in its reward in each policy, float32[N]."""
    intrinsic: torch.Tensor
    """Factor of r^i, float32[N]."""
    weight: torch.Tensor
    """w_kj, weight of its values in the Q of policy j, float32[N]."""


class Family(NamedTuple):
    """The policies j and the networks k."""

    gammas: torch.Tensor
    """gamma_j, float32[N]."""
    streams: tuple[Stream, ...]
    """What each network learns."""

    def mix(self, values: Sequence[torch.Tensor], policies: torch.Tensor) -> torch.Tensor:
        """Q of policies int64[...] out of the values float32[..., A] of each network."""
        mixed = torch.zeros_like(values[0])
        for stream, value in zip(self.streams, values, strict=True):
            mixed = mixed + stream.weight.to(value.device)[policies][..., None] * value
        return mixed


class NguActor:
    """Acts by the mixed values, and computes the intrinsic reward of what arrives.

    r^i_t is the novelty of the arrived observation x_t; the networks see r^i_{t-1} (NGU, A).
    """

    def __init__(
        self,
        networks: ActingNetworks,
        spec: ActorSpec,
        config: FamilyConfig,
        choice: PolicyChoice,
        family: Family,
    ) -> None:
        """Make an actor that acts by the networks and policies; `choice` chooses among these."""
        agent = config.agent
        ladder = epsilon_ladder(spec.num_envs, agent.epsilon_base, agent.epsilon_alpha)
        nets: Any = tuple(networks.values)
        self.recurrent = RecurrentActor(nets, spec, ladder, choice, family.mix)
        """What acts, given the intrinsic reward of the step before."""
        self._agent = agent
        self._reward = IntrinsicReward(networks.novelty, config.novelty, spec, config.threads)
        self._arrived = np.zeros(spec.num_envs, np.float32)

    def act(self, observations: torch.Tensor, step: StepBatch, frames: int) -> Acted:
        """Choose actions; see `Actor.act`."""
        del frames
        first = (step.flags & Flag.FIRST) != 0
        previous = np.where(first, np.float32(0), self._arrived)
        self._arrived = self._reward(observations[:, -1], first)
        return self._record(self.recurrent.choose(observations, step, previous), previous)

    def _record(self, chosen: Choice, previous: NDArray[np.float32]) -> Acted:
        policies, arrived = chosen.policies, self._arrived
        columns = (policies.astype(np.int32), chosen.probabilities, arrived, previous)
        values = (part.numpy() for part in self._values(chosen))
        return Acted(
            chosen.actions,
            columns=tuple(column[:, None] for column in columns),
            states=chosen.states,
            estimates=(policies.astype(np.float32), arrived, *values),
        )

    def _values(self, chosen: Choice) -> list[torch.Tensor]:
        """Traces, then Q(x, a) and E_pi h^-1(Q) of each network: float32[E] each."""
        agent, actions = self._agent, torch.from_numpy(chosen.actions)
        target = TargetPolicy(chosen.mixed.argmax(dim=-1), agent.target_epsilon)
        probability = target.probability(actions, chosen.mixed.shape[-1])
        behaviour = torch.from_numpy(chosen.probabilities)
        parts = [traces(probability, behaviour, agent.retrace_lambda)]
        for q in chosen.values:
            expected = target.expectation(inverse_rescale(q, agent.rescaling))
            parts += [select_actions(q, actions), expected]
        return parts

    def episodes_finished(self, episodes: Sequence[Episode]) -> None:
        """See `RecurrentActor.episodes_finished`."""
        self.recurrent.episodes_finished(episodes)

    def metrics(self) -> Mapping[str, float]:
        """Those of `RecurrentActor` and of `IntrinsicReward`."""
        return {**self.recurrent.metrics(), **self._reward.metrics()}

    def state(self) -> dict[str, Any]:
        """Those of `RecurrentActor` and of `IntrinsicReward`, and the rewards of the last step."""
        arrived = torch.from_numpy(self._arrived)
        return {**self.recurrent.state(), "intrinsic": arrived, "novelty": self._reward.state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`."""
        self.recurrent.load_state(state)
        like = torch.from_numpy(self._arrived)
        self._arrived = checked_like(state["intrinsic"], like).numpy().copy()
        self._reward.load_state(state["novelty"])


def targets(
    config: FamilyConfig,
    stream: Stream,
    gamma: torch.Tensor,
    policies: torch.Tensor,
    rows: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    values: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    last: torch.Tensor,
) -> torch.Tensor:
    """y_t = h(G_t), G_t the Retrace return of a network's own reward (NGU, E).

    Args:
        config: rows L, and epsilon of h.
        stream: the network.
        gamma: discount of each sequence's policy. float32[B]
        policies: its policy. int64[B]
        rows: r^e float32[T, B], r^i float32[T, B] and flags uint8[T, B] that arrived.
        values: E_pi v float32[T, B], v of the action taken float32[T, B], and traces
            float32[T, B].
        last: index of the last row that exists. int64[B]

    Returns:
        float32[L, B]
    """
    extrinsic, intrinsic, flags = rows
    rewards = stream.extrinsic[policies] * extrinsic + stream.intrinsic[policies] * intrinsic
    discounts = row_discounts(flags, gamma, config.env.life_loss == "zero_discount")
    returns = retrace(rewards, discounts, *values, last, config.replay.unroll)
    return rescale(returns, config.agent.rescaling)


def build_family(
    config: FamilyConfig,
    spec: EnvSpec,
    device: torch.device,
    family: Family,
    record: SlidingWindowUCB,
    choosers: Callable[[ActorSpec], Sequence[Chooser]],
    evaluated: Callable[[], int],
) -> Agent[SequenceBatch]:
    """Build an agent of any number of networks.

    Args:
        config: its settings.
        spec: its environments.
        device: where its networks go.
        family: its policies and networks.
        record: the record of its training episodes.
        choosers: what chooses policies in training; see `PolicyChoice`.
        evaluated: policy that evaluations play.
    """
    agent, replay = config.agent, config.replay
    scale = config.novelty.input_scale
    values = (make_network(config, spec, intrinsic=scale) for _ in family.streams)
    novelty = NoveltyNetworks(config.net, config.novelty, spec)
    networks = ActingNetworks(values, novelty).to(device)
    online, target, sync = with_target(networks.values, agent.target_period, device)

    def loss(batch: SequenceBatch) -> LossOutput:
        learn, steps = slice(replay.burn_in, None), slice(0, replay.unroll)
        observations = cut_sequence_stacks(batch.frames, config.net.stack)
        policies, behaviour, intrinsic, previous = (column[..., 0] for column in batch.columns)
        policies = policies.long()

        def values(nets: nn.ModuleList) -> list[torch.Tensor]:
            burn_in = replay.burn_in
            return [
                unroll(net, observations, batch, burn_in, intrinsic=previous, network=k)  # type: ignore[arg-type]
                for k, net in enumerate(nets)
            ]

        q = values(online)
        actions, arms = batch.actions[learn], policies[replay.burn_in]
        rows = (batch.rewards[learn], intrinsic[learn], batch.flags[learn])
        last = batch.valid_length + batch.bootstrap_length - 1
        valid = torch.arange(replay.unroll, device=last.device)[:, None] < batch.valid_length
        with torch.no_grad():
            mixed = family.mix([value.detach() for value in q], policies[learn])
            policy = TargetPolicy(mixed.argmax(dim=-1), agent.target_epsilon)
            probability = policy.probability(actions, spec.num_actions)
            c = traces(probability, behaviour[learn], agent.retrace_lambda)
            v = [inverse_rescale(value, agent.rescaling) for value in values(target)]
        losses = torch.zeros_like(batch.weights)
        total = torch.zeros_like(valid, dtype=torch.float32)
        metrics: dict[str, torch.Tensor] = {}
        for k, stream in enumerate(family.streams):
            with torch.no_grad():
                held = policy.expectation(v[k]), select_actions(v[k], actions), c
                y = targets(config, stream, family.gammas[arms], arms, rows, held, last)
            taken = select_actions(q[k], actions)[steps]
            errors = torch.where(valid, y - taken, 0.0)
            losses = losses + 0.5 * errors.square().sum(dim=0)
            total = total + stream.weight[arms] * errors.detach()
            means = {"td": errors.detach().abs(), "q": taken.detach() * valid, "target": y * valid}
            metrics |= {f"{n}/{stream.name}": x.sum() / valid.sum() for n, x in means.items()}
        return LossOutput(losses, mixed_priority(total, valid, replay.eta), metrics)

    def rank(rows: RecentRows) -> torch.Tensor:
        """Initial priorities of new sequences, with the actor's values as their targets'."""
        policies, intrinsic, c, *values = rows.estimates
        arms = policies[0].long()
        arrived = rows.rewards, intrinsic, rows.flags
        valid = torch.arange(replay.unroll)[:, None] < rows.valid_length
        total = torch.zeros_like(valid, dtype=torch.float32)
        for stream, q, expected in zip(on_cpu.streams, values[::2], values[1::2], strict=True):
            held = expected, inverse_rescale(q, agent.rescaling), c
            y = targets(config, stream, on_cpu.gammas[arms], arms, arrived, held, rows.last)
            total += stream.weight[arms] * (y - q[: replay.unroll])
        return mixed_priority(total, valid, replay.eta)

    on_cpu = Family(
        family.gammas.cpu(),
        tuple(
            Stream(stream.name, *(part.cpu() for part in stream[1:])) for stream in family.streams
        ),
    )

    def make_actor(acting: ActorSpec) -> NguActor:
        choice = PolicyChoice(acting.num_envs, record, choosers(acting), evaluated)
        return NguActor(networks, acting, config, choice, on_cpu)

    td = Objective("td", online, config.optim, loss)
    return sequence_agent(
        config,
        spec,
        nets={"online": networks, "target": target},
        make_actor=make_actor,
        objectives=(td, *novelty_objectives(networks.novelty, config)),
        hooks=(sync._replace(unit="updates"),),
        record=record,
        columns=COLUMNS,
        networks=len(family.streams),
        rank=rank,
        num_estimates=3 + 2 * len(family.streams),
        memory_needs=(episodic_need(config),),
    )


def build(config: NguConfig, spec: EnvSpec, device: torch.device) -> Agent[SequenceBatch]:
    """Build NGU with its networks on `device`."""
    agent = config.agent
    discounts = discount_family(agent.policies, agent.discount, agent.discount_min)
    betas = as_tensor(intrinsic_scales(agent.policies, agent.intrinsic_scale), device)
    ones = torch.ones_like(betas)
    family = Family(as_tensor(discounts, device), (Stream("mixed", ones, betas, ones),))

    def choosers(acting: ActorSpec) -> Sequence[Chooser]:
        if acting.mode != "train":
            return ()
        assert isinstance(acting.rng, np.random.Generator)
        return (UniformChoice(agent.policies, acting.rng),)

    record = episode_record(agent.policies)
    return build_family(config, spec, device, family, record, choosers, lambda: 0)


def as_tensor(values: np.ndarray[Any, np.dtype[np.float64]], device: torch.device) -> torch.Tensor:
    """The same numbers on the device, float32."""
    return torch.tensor(values, dtype=torch.float32, device=device)
