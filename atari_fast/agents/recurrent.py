"""What recurrent agents share: their actor, and the unrolling of a network over sequences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from atari_fast.agents.acting import (
    explorations,
    fixed_batches,
    load_random_state,
    random_state,
)
from atari_fast.agents.agent import ActorSpec
from atari_fast.exploration.bandit import PolicyChoice
from atari_fast.infra.weights import checked_like
from atari_fast.nets.recurrent import RecurrentQNetwork, State
from atari_fast.replay.sequence import SequenceBatch
from atari_fast.types import Acted, Episode, Flag, StepBatch


class RecurrentActor:
    """Carries the recurrent state, the previous action and the policy of each environment."""

    def __init__(
        self,
        net: RecurrentQNetwork,
        spec: ActorSpec,
        epsilons: NDArray[np.float64],
        gammas: NDArray[np.float32],
        choice: PolicyChoice,
    ) -> None:
        """Make an actor.

        Args:
            net: the network.
            spec: what the actor is made for.
            epsilons: probability of a random action in each environment in training, [E].
            gammas: discount of each policy, [N].
            choice: which policy plays each episode.
        """
        self._net = net
        self._spec = spec
        self._choice = choice
        self._gammas = gammas
        self._epsilons = epsilons
        self._advance = fixed_batches(self._step) if spec.fixed_batches else self._step
        self._state = net.initial_state(spec.num_envs)
        self._prev_actions = torch.full_like(self._state[0][:, 0], -1, dtype=torch.int64)

    def _step(self, *inputs: torch.Tensor) -> torch.Tensor:
        """New state and action values, side by side: float32[E, 2 H + A]."""
        observations, prev_actions, rewards, policies, h, c = inputs
        x = self._net.inputs(observations, prev_actions, rewards, policies)
        h, c = self._net.step(x, (h, c))
        return torch.cat((h, c, self._net.q_values(h)), dim=1)

    def act(self, observations: torch.Tensor, step: StepBatch, frames: int) -> Acted:
        """Choose actions; see `Actor.act`."""
        del frames
        device, first = observations.device, (step.flags & Flag.FIRST) != 0
        begins = torch.from_numpy(first).to(device)
        policies = self._choice.begin(first)
        rewards = torch.from_numpy(np.where(first, 0, step.rewards).astype(np.float32))
        prev_actions = self._prev_actions.masked_fill(begins, -1)
        before = tuple(part.masked_fill(begins[:, None], 0.0) for part in self._state)
        with torch.inference_mode(), self._spec.autocast():
            inputs = (prev_actions, rewards.to(device), torch.from_numpy(policies).to(device))
            advanced = self._advance(observations, *inputs, *before)
        units = before[0].shape[1]
        self._state = advanced[:, :units], advanced[:, units : 2 * units]
        values = advanced[:, 2 * units :].float().cpu().numpy()
        epsilon = self._epsilons if self._spec.mode == "train" else self._spec.epsilon
        explore, chance = explorations(self._spec.rng, len(values), self._net.num_actions, epsilon)
        actions = np.where(explore, chance, values.argmax(axis=1))
        self._prev_actions = torch.from_numpy(actions).to(device)
        taken = np.take_along_axis(values, actions[:, None], axis=1)[:, 0]
        return Acted(
            actions,
            columns=(policies[:, None].astype(np.int32),) if len(self._gammas) > 1 else (),
            states=tuple(part.cpu().numpy() for part in before),
            estimates=(taken, values.max(axis=1), self._gammas[policies]),
        )

    def episodes_finished(self, episodes: Sequence[Episode]) -> None:
        """Report the returns of the games' policies to the bandit."""
        self._choice.finished(episodes)

    def metrics(self) -> Mapping[str, float]:
        """`epsilon`, the mean over the environments."""
        training = self._spec.mode == "train"
        return {"epsilon": float(self._epsilons.mean()) if training else self._spec.epsilon}

    def state(self) -> dict[str, Any]:
        """Recurrent states, previous actions, policies and random numbers."""
        return {
            "recurrent": list(self._state),
            "prev_actions": self._prev_actions,
            "choice": self._choice.state(),
            "rng": random_state(self._spec.rng),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`."""
        h, c = map(checked_like, state["recurrent"], self._state)
        self._state = h, c
        prev_actions = checked_like(state["prev_actions"], self._prev_actions)
        if not bool(((prev_actions >= -1) & (prev_actions < self._net.num_actions)).all()):
            raise ValueError(f"expected previous actions, got {prev_actions.tolist()}")
        self._prev_actions = prev_actions
        self._choice.load_state(state["choice"])
        load_random_state(self._spec.rng, state["rng"])


def burned_in(
    net: RecurrentQNetwork, observations: torch.Tensor, batch: SequenceBatch, burn_in: int
) -> tuple[torch.Tensor, State]:
    """Inputs of the rows from the first unroll row on, and the state before them (R2D2, 2.3 and 3).

    The burn-in rows produce a recurrent state from the stored one, without a gradient. Rows before
    the first one that exists leave the state as it is.

    Args:
        net: the network.
        observations: uint8[T, B, S, H, W]
        batch: the sequences.
        burn_in: l, rows before the first unroll row.

    Returns:
        float[T - l, B, D] and the state (h, c), float32[B, H] each.
    """
    policies = batch.columns[0][..., 0].long() if batch.columns else None

    def inputs(rows: slice) -> torch.Tensor:
        seen = batch.prev_actions[rows], batch.rewards[rows]
        return net.inputs(observations[rows], *seen, None if policies is None else policies[rows])

    state = batch.states[0].float(), batch.states[1].float()
    with torch.no_grad():
        warm = inputs(slice(0, burn_in)) if burn_in else ()
        for t, row in enumerate(warm):
            exists = (t >= burn_in - batch.burn_in)[:, None]
            h, c = net.step(row, state)
            state = torch.where(exists, h, state[0]), torch.where(exists, c, state[1])
    return inputs(slice(burn_in, None)), state


def unroll(
    net: RecurrentQNetwork, observations: torch.Tensor, batch: SequenceBatch, burn_in: int
) -> torch.Tensor:
    """Action values float32[T - l, B, A] of the rows from the first unroll row on.

    The arguments are those of `burned_in`.
    """
    return net.q_values(net.unroll(*burned_in(net, observations, batch, burn_in)))


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
