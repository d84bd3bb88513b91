"""The network of agents that learn from rollouts: torso, linear layer, LSTM or none, outputs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from atari_fast.config import RolloutNetConfig
from atari_fast.nets.networks import initialize
from atari_fast.nets.torsos import make_torso
from atari_fast.types import EnvSpec

State = tuple[torch.Tensor, ...]
"""Recurrent state (h, c) of an LSTM, float32[B, H] each; empty without an LSTM."""


class RolloutNetwork(nn.Module):
    """Frames of a stream of episodes to a number of outputs for each row.

    Torso; linear layer, layer normalization if asked for, ReLU; LSTM if asked for; linear outputs.
    LSTM and outputs are computed in float32.
    """

    def __init__(self, config: RolloutNetConfig, spec: EnvSpec, outputs: dict[str, int]) -> None:
        """Build the network.

        Args:
            config: sizes.
            spec: frame shape.
            outputs: width of each kind of output, by its name.
        """
        super().__init__()
        self.torso = make_torso(config, spec.frame_shape)
        self.linear = nn.Linear(self.torso.features, config.hidden)
        self.norm = nn.LayerNorm(config.hidden) if config.layer_norm else nn.Identity()
        self.lstm = nn.LSTMCell(config.hidden, config.lstm) if config.lstm else None
        width = config.lstm or config.hidden
        self.heads = nn.ModuleDict({name: nn.Linear(width, n) for name, n in outputs.items()})
        initialize(self, config.init)
        if self.lstm is not None and config.init == "orthogonal":
            for parameter in self.lstm.parameters():
                if parameter.dim() > 1:
                    nn.init.orthogonal_(parameter)
                else:
                    nn.init.zeros_(parameter)

    def initial_state(self, batch: int) -> State:
        """The state at the start of an episode: zeros."""
        if self.lstm is None:
            return ()
        zeros = self.linear.weight.new_zeros(batch, self.lstm.hidden_size)
        return zeros, zeros.clone()

    def forward(
        self, observations: torch.Tensor, first: torch.Tensor, state: State
    ) -> tuple[torch.Tensor, State]:
        """Outputs of rows, and the state behind them.

        Args:
            observations: uint8[T, B, S, H, W]
            first: where an episode begins, before which the state is set to zeros. bool[T, B]
            state: state before the first row.

        Returns:
            float32[T, B, K], all kinds of output side by side in the order of `outputs`, and the
            state.
        """
        batch = observations.shape[:2]
        features = self.norm(self.linear(self.torso(observations.flatten(0, 1))))
        hidden = F.relu(features).view(*batch, -1)
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = hidden.float()
            if self.lstm is not None:
                h, c = state
                rows = []
                for row, begins in zip(hidden, first, strict=True):
                    goes_on = ~begins[:, None]
                    h, c = self.lstm(row, (h * goes_on, c * goes_on))
                    rows.append(h)
                hidden, state = torch.stack(rows), (h, c)
            outputs = torch.cat([head(hidden) for head in self.heads.values()], dim=-1)
        return outputs, state
