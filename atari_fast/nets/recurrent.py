"""The recurrent network of R2D2: torso, LSTM with previous action and reward, dueling head."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import nn

from atari_fast.config import RecurrentNetConfig
from atari_fast.nets.heads import DuelingHead
from atari_fast.nets.networks import initialize
from atari_fast.nets.torsos import make_torso
from atari_fast.types import EnvSpec

State: TypeAlias = tuple[torch.Tensor, torch.Tensor]
"""Recurrent state (h, c) of an LSTM, float32[B, H] each."""


class RecurrentQNetwork(nn.Module):
    """Action values of a stream of observations (R2D2, Kapturowski et al. 2019, 2.3 and A).

    Torso, linear layer and ReLU; one-hot previous action, previous rewards and one-hot policy are
    appended; LSTM; value and advantage streams with a hidden layer each: Q = V + A - mean_b A.
    """

    def __init__(
        self,
        config: RecurrentNetConfig,
        spec: EnvSpec,
        policies: int = 1,
        scale_reward: Callable[[torch.Tensor], torch.Tensor] = lambda rewards: rewards,
        intrinsic: float | None = None,
    ) -> None:
        """Build the network.

        Args:
            config: sizes.
            spec: frame shape and number of actions.
            policies: number of policies that the network tells apart; with 1 it has no such input.
            scale_reward: maps raw rewards to the numbers that the LSTM sees.
            intrinsic: factor of the intrinsic reward of the step before (NGU); None: it does not
                see that.
        """
        super().__init__()
        self.num_actions = spec.num_actions
        self._policies = policies
        self._scale_reward = scale_reward
        self._intrinsic = intrinsic
        self.torso = make_torso(config, spec.frame_shape)
        self.linear = nn.Linear(self.torso.features, config.hidden)
        extra = spec.num_actions + 1 + (intrinsic is not None) + (policies if policies > 1 else 0)
        self.lstm = nn.LSTM(config.hidden + extra, config.lstm)
        self.head = DuelingHead(config.lstm, config.hidden, spec.num_actions, 1, nn.Linear)
        initialize(self, config.init)

    def initial_state(self, batch: int) -> State:
        """The state at the start of an episode: zeros."""
        zeros = self.linear.weight.new_zeros(batch, self.lstm.hidden_size)
        return zeros, zeros.clone()

    def inputs(
        self,
        frames: torch.Tensor,
        prev_actions: torch.Tensor,
        prev_rewards: torch.Tensor,
        policies: torch.Tensor | None = None,
        intrinsic: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Inputs of the LSTM.

        Args:
            frames: observations. uint8[..., S, H, W]
            prev_actions: actions taken before them, -1 at the start of an episode. int64[...]
            prev_rewards: raw rewards that arrived with them. float32[...]
            policies: index of the policy that acts; None where there is only one. int64[...]
            intrinsic: intrinsic rewards of the observations before them, 0 at the start of an
                episode; None for a network without this input. float32[...]

        Returns:
            float[..., D]
        """
        batch = prev_actions.shape
        hidden = F.relu(self.linear(self.torso(frames.flatten(0, -4)))).view(*batch, -1)
        actions = F.one_hot(prev_actions + 1, self.num_actions + 1)[..., 1:]
        rewards = self._scale_reward(prev_rewards)
        parts = [hidden, actions.to(hidden.dtype), rewards[..., None].to(hidden.dtype)]
        if intrinsic is not None:
            assert self._intrinsic is not None
            seen = self._intrinsic * self._scale_reward(intrinsic)
            parts.append(seen[..., None].to(hidden.dtype))
        if self._policies > 1:
            assert policies is not None
            parts.append(F.one_hot(policies, self._policies).to(hidden.dtype))
        return torch.cat(parts, dim=-1)

    def step(self, inputs: torch.Tensor, state: State) -> State:
        """Advance the state by one row of inputs [B, D]; the new h is the row's output."""
        weights = self.lstm.all_weights[0]
        with torch.autocast(inputs.device.type, enabled=False):
            h, c = torch.lstm_cell(inputs.float(), state, *weights)
        return h, c

    def unroll(self, inputs: torch.Tensor, state: State) -> torch.Tensor:
        """Outputs float32[T, B, H] of rows of inputs [T, B, D], from the state before the first."""
        with torch.autocast(inputs.device.type, enabled=False):
            h, c = state
            outputs: torch.Tensor = self.lstm(inputs.float(), (h[None], c[None]))[0]
        return outputs

    def q_values(self, outputs: torch.Tensor) -> torch.Tensor:
        """Action values float32[..., A] of outputs [..., H]."""
        values: torch.Tensor = self.head(outputs)
        return values.squeeze(-1)
