"""The network of agents that learn from rollouts: torso, linear layer, LSTM or none, outputs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from atari_fast.config import RolloutNetConfig
from atari_fast.nets.networks import initialize
from atari_fast.nets.torsos import PooledTorso, make_torso
from atari_fast.types import EnvSpec

State = tuple[torch.Tensor, ...]
"""Recurrent state (h, c) of an LSTM, float32[B, H] each; empty without an LSTM."""


class RolloutNetwork(nn.Module):
    """Frames of a stream of episodes to a number of outputs for each row.

    Torso; linear layer or none, layer normalization if asked for, ReLU; LSTM or none; linear
    outputs.
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
        width = self.torso.features
        self.linear = nn.Linear(width, config.hidden) if config.hidden else None
        width = config.hidden or width
        norm = self.linear is not None and config.layer_norm
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()
        self.lstm = nn.LSTMCell(width, config.lstm) if config.lstm else None
        width = config.lstm or width
        self.heads = nn.ModuleDict({name: nn.Linear(width, n) for name, n in outputs.items()})
        initialize(self, config.init)
        if self.lstm is not None and config.init in ("orthogonal", "normalized-columns"):
            nn.init.orthogonal_(self.lstm.weight_ih)
            nn.init.orthogonal_(self.lstm.weight_hh)
            nn.init.zeros_(self.lstm.bias_ih)
            nn.init.zeros_(self.lstm.bias_hh)
            if config.init == "normalized-columns":
                nn.init.xavier_uniform_(self.lstm.weight_ih)
                with torch.no_grad():  # of the forget gate
                    self.lstm.bias_ih[config.lstm : 2 * config.lstm] = 1.0

    def initial_state(self, batch: int) -> State:
        """The state at the start of an episode: zeros."""
        if self.lstm is None:
            return ()
        zeros = self.lstm.weight_hh.new_zeros(batch, self.lstm.hidden_size)
        return zeros, zeros.clone()

    def observe(self, frames: torch.Tensor) -> None:
        """Take frames uint8[E, H, W] that arrived in training into running averages."""
        if isinstance(self.torso, PooledTorso) and self.torso.running is not None:
            self.torso.running.add(frames)

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
        stacks = observations.movedim(2, -1).flatten(0, 1)  # in the order of a batch's memory
        features = self.torso(stacks.movedim(-1, 1))
        if self.linear is not None:
            features = F.relu(self.norm(self.linear(features)))
        hidden = features.view(*batch, -1)
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = hidden.float()
            if self.lstm is not None:
                hidden, state = _lstm(self.lstm, hidden, first, state)
            outputs = torch.cat([head(hidden) for head in self.heads.values()], dim=-1)
        return outputs, state


def _lstm(
    cell: nn.LSTMCell, inputs: torch.Tensor, first: torch.Tensor, state: State
) -> tuple[torch.Tensor, State]:
    """Outputs float32[T, B, H] of a cell, and the state behind them, as `RolloutNetwork.forward`.

    The inputs of all rows are projected by one matrix product.
    """
    h, c = state
    projected = F.linear(inputs, cell.weight_ih, cell.bias_ih + cell.bias_hh)
    rows = []
    for row, goes_on in zip(projected, ~first[..., None], strict=True):
        gates = torch.addmm(row, h * goes_on, cell.weight_hh.T)
        i, f, g, o = gates.chunk(4, dim=1)
        c = torch.sigmoid(f) * (c * goes_on) + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        rows.append(h)
    return torch.stack(rows), (h, c)
