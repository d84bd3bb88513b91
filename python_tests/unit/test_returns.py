"""Targets of rollouts: printed values, and sums over episodes on random streams."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from atari_fast.ops.returns import generalized_advantages, q_lambda

ONES = torch.ones(3, 1, dtype=torch.bool)
GAMMA = torch.full((3, 1), 0.99, dtype=torch.float64)


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def test_advantages_have_the_printed_values() -> None:
    found = generalized_advantages(column(1, 0, 1), GAMMA, ONES, column(0.5, 1, 0, 2), 0.95)
    assert found[:, 0].tolist() == pytest.approx([3.185429945, 1.80269, 2.98], rel=1e-9)


def test_q_lambda_has_the_printed_values() -> None:
    found = q_lambda(column(1, 0, 1), GAMMA, ONES, column(9, 2, 3, 1), 0.65)
    assert found[:, 0].tolist() == pytest.approx([3.1859618275, 2.320065, 1.99], rel=1e-9)


class Stream:
    """Random transitions of one environment, in which episodes end in both ways."""

    def __init__(self, seed: int, rows: int = 40) -> None:
        rng = np.random.default_rng(seed)
        self.values = rng.normal(size=rows + 1)
        self.rewards = rng.normal(size=rows)
        kind = rng.choice(["goes on", "terminated", "truncated"], size=rows, p=[0.7, 0.15, 0.15])
        self.ends = kind != "goes on"
        self.discounts = np.where(kind == "terminated", 0.0, 0.9)
        self.valid = np.ones(rows, bool)
        self.valid[1:] = ~self.ends[:-1]  # after an end, the next row begins an episode
        for t in np.flatnonzero(~self.valid):
            self.ends[t] = False
            self.discounts[t] = 0.9
            if t + 1 < rows:
                self.valid[t + 1] = True

    def tensors(self) -> list[torch.Tensor]:
        columns = (self.rewards, self.discounts, self.valid, self.values)
        return [torch.from_numpy(values)[:, None] for values in columns]

    def last(self, t: int) -> int:
        """Last transition of the episode of transition t, or of the rollout."""
        while not self.ends[t] and t + 1 < len(self.rewards):
            t += 1
        return t


@pytest.mark.parametrize("trace", [0.0, 0.65, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_returns_are_mixtures_of_n_step_returns(seed: int, trace: float) -> None:
    """G_t = (1 - lambda) sum_n lambda^(n-1) G_t^(n), the last one with all of the weight left."""
    s = Stream(seed)
    assert not s.valid.all()
    advantages = generalized_advantages(*s.tensors(), trace)[:, 0]
    returns = q_lambda(*s.tensors(), trace)[:, 0]
    for t in range(len(s.rewards)):
        if not s.valid[t]:
            assert advantages[t] == 0
            continue
        last, total, reward, discount = s.last(t), 0.0, 0.0, 1.0
        for n, k in enumerate(range(t, last + 1), 1):
            reward += discount * s.rewards[k]
            discount *= s.discounts[k]
            weight = trace ** (n - 1) * (1.0 if k == last else 1 - trace)
            total += weight * (reward + discount * s.values[k + 1])
        assert float(returns[t]) == pytest.approx(total)
        assert float(advantages[t]) == pytest.approx(total - s.values[t])
