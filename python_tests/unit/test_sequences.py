"""Targets and priorities of sequences beside plain loops and printed values."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from atari_fast.ops.rescaling import inverse_rescale, rescale
from atari_fast.ops.sequences import mixed_priority, n_step_bootstrap, row_discounts
from atari_fast.types import Flag

GAMMA = 0.997


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def target(flags: list[int], last: int, steps: int = 5) -> float:
    """Target of row 0 where rewards 1, 0, 2, 0, 1 follow and every value is 10."""
    rewards, values = column(0, 1, 0, 2, 0, 1), column(*[10.0] * 6)
    discounts = row_discounts(torch.tensor(flags, dtype=torch.uint8)[:, None], GAMMA, False)
    ends = torch.tensor([last])
    return n_step_bootstrap(rewards, discounts.double(), values, ends, steps, 1).item()


def test_a_full_target_has_the_printed_value() -> None:
    assert target([0] * 6, last=5) == pytest.approx(13.8269691961, rel=1e-6)


def test_a_terminal_ends_the_return_without_a_bootstrap() -> None:
    assert target([0, 0, 0, int(Flag.TERMINATED), 0, 0], last=3) == pytest.approx(
        2.988018, rel=1e-6
    )


def test_a_truncation_bootstraps_from_the_true_last_observation() -> None:
    y = target([0, 0, 0, int(Flag.TRUNCATED), 0, 0], last=3)
    assert y == pytest.approx(12.8982877, rel=1e-6)


def test_a_lost_life_ends_a_return_only_where_it_is_asked_for() -> None:
    flags = torch.tensor([[int(Flag.LIFE_LOST)]], dtype=torch.uint8)
    assert row_discounts(flags, GAMMA, False).item() == pytest.approx(GAMMA)
    assert row_discounts(flags, GAMMA, True).item() == 0


def test_the_rescaled_target_has_the_printed_value() -> None:
    value = inverse_rescale(rescale(torch.tensor(10.0, dtype=torch.float64)))
    assert value.item() == pytest.approx(10.0, rel=1e-9)
    y = rescale(torch.tensor(target([0] * 6, last=5), dtype=torch.float64))
    assert y.item() == pytest.approx(2.8644073405, rel=1e-6)


@pytest.mark.parametrize("steps", [1, 3, 5])
def test_targets_are_those_of_a_plain_loop(steps: int) -> None:
    rng = np.random.default_rng(steps)
    time, batch, rows = 12, 20, 8
    rewards, values = rng.normal(size=(2, time, batch))
    discounts = GAMMA * (rng.random((time, batch)) > 0.2)
    last = rng.integers(1, time, batch)
    got = n_step_bootstrap(
        *map(torch.from_numpy, (rewards, discounts, values, last)), steps, rows
    ).numpy()
    for b in range(batch):
        for t in range(min(rows, last[b])):
            m = min(steps, last[b] - t)
            weight, y = 1.0, 0.0
            for k in range(1, m + 1):
                y += weight * rewards[t + k, b]
                weight *= discounts[t + k, b]
            assert got[t, b] == pytest.approx(y + weight * values[t + m, b], rel=1e-12)


def test_rows_that_do_not_exist_influence_no_target() -> None:
    rng = np.random.default_rng(0)
    rewards, values = torch.from_numpy(rng.normal(size=(2, 9, 4)))
    discounts = torch.full((9, 4), GAMMA, dtype=torch.float64)
    last = torch.tensor([3, 5, 7, 8])
    outside = torch.arange(9)[:, None] > last
    targets = [
        n_step_bootstrap(
            torch.where(outside, bad, rewards),
            torch.where(outside, bad, discounts),
            torch.where(outside, bad, values),
            last,
            3,
            6,
        )
        for bad in (0.0, float("nan"))
    ]
    valid = torch.arange(6)[:, None] < last
    assert torch.equal(targets[0][valid], targets[1][valid])


def test_the_mixed_priority_has_the_printed_value() -> None:
    errors = column(0.1, -0.5, 2.0, 0.4, float("nan"))
    valid = torch.tensor([True] * 4 + [False])[:, None]
    assert mixed_priority(errors, valid, 0.9).item() == pytest.approx(1.875, rel=1e-12)
