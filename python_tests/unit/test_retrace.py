"""Retrace targets beside printed values and the sum form of the paper."""

from __future__ import annotations

import pytest
import torch

from atari_fast.ops.rescaling import inverse_rescale, rescale
from atari_fast.ops.retrace import TargetPolicy, retrace, traces

VALUES = torch.tensor([[1.0, 2.0], [0.0, 1.0], [3.0, 2.0], [1.0, 4.0]], dtype=torch.float64)
REWARDS = torch.tensor([0.0, 1.0, 0.0, 2.0], dtype=torch.float64)
BEHAVIOUR = torch.tensor([0.9, 0.95, 0.6, 0.9], dtype=torch.float64)


def returns(
    actions: tuple[int, ...] = (1, 1, 0, 1), ends_at: int = -1, values: torch.Tensor = VALUES
) -> list[float]:
    """G_0 to G_2 of one sequence whose target policy is greedy, with lambda 0.95, gamma 0.9."""
    taken = torch.tensor(actions)
    policy = TargetPolicy(values.argmax(dim=-1), 0.0)
    discounts = torch.full((4,), 0.9, dtype=torch.float64)
    if ends_at >= 0:
        discounts[ends_at] = 0.0
    c = traces(policy.probability(taken, 2).double(), BEHAVIOUR, 0.95)
    v = values.gather(-1, taken[:, None])[:, 0]
    parts = (REWARDS, discounts, policy.expectation(values), v, c)
    found = retrace(*(part[:, None] for part in parts), torch.tensor([3]), 3)
    return found[:, 0].tolist()


def test_the_printed_values() -> None:
    assert returns() == pytest.approx([5.254165, 4.923, 5.6], rel=1e-9)
    assert returns(ends_at=2) == pytest.approx([1.045, 0.0, 5.6], rel=1e-9)


def test_a3_the_trace_is_that_of_the_next_action() -> None:
    """With a_2 = 1, which the target policy never takes, G_1 and G_0 do not reach row 3."""
    assert returns((1, 1, 1, 1)) == pytest.approx([3.3535, 2.7, 5.6], rel=1e-9)


def test_the_transformed_operator_has_the_printed_values() -> None:
    """h^-1 of every value before the expectation, h of the return (R6)."""
    g = torch.tensor(returns(values=inverse_rescale(VALUES, 1e-3)), dtype=torch.float64)
    printed = [3.4688858710, 3.6752577459, 3.9616699256]
    assert rescale(g, 1e-3).tolist() == pytest.approx(printed, rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_the_recursion_is_the_sum_over_traces(seed: int) -> None:
    """Q + sum_s gamma^(s-t) prod_{i=t+1}^s c_i delta_s (NGU, E), on random sequences."""
    rng = torch.Generator().manual_seed(seed)
    length, batch, actions = 12, 7, 4

    def random(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=rng, dtype=torch.float64)

    values, rewards = 10 * random(length, batch, actions) - 5, random(length, batch)
    behaviour = 0.05 + 0.95 * random(length, batch)
    taken = torch.randint(actions, (length, batch), generator=rng)
    discounts = 0.97 * (random(length, batch) > 0.1).double()
    last = torch.randint(1, length, (batch,), generator=rng)
    policy = TargetPolicy(values.argmax(dim=-1), 0.3)
    c = traces(policy.probability(taken, actions).double(), behaviour, 0.9)
    v = values.gather(-1, taken[..., None])[..., 0]
    found = retrace(rewards, discounts, policy.expectation(values), v, c, last, length - 1)
    for b in range(batch):
        for t in range(int(last[b])):
            total, weight = float(v[t, b]), 1.0
            for s in range(t, int(last[b])):
                best = int(values[s + 1, b].argmax())
                pi = [0.3 / actions + 0.7 * (a == best) for a in range(actions)]
                expected = sum(p * float(values[s + 1, b, a]) for a, p in enumerate(pi))
                delta = float(rewards[s + 1, b] + discounts[s + 1, b] * expected - v[s, b])
                total += weight * delta
                ratio = pi[int(taken[s + 1, b])] / float(behaviour[s + 1, b])
                weight *= float(discounts[s + 1, b]) * 0.9 * min(1.0, ratio)
            assert float(found[t, b]) == pytest.approx(total, rel=1e-6, abs=1e-6)  # pi is float32


def test_rows_that_do_not_exist_have_finite_traces() -> None:
    none = torch.zeros(3, 2)
    assert torch.isfinite(traces(torch.ones(3, 2), none, 0.95)).all()
