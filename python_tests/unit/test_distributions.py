from __future__ import annotations

import numpy as np
import pytest
import torch

from atari_fast.ops.distributions import (
    categorical_loss,
    categorical_projection,
    quantile_huber_loss,
    quantile_midpoints,
    soft_quantiles,
)
from atari_fast.ops.targets import select_actions, soft_value
from rounding import FLOAT32, assert_rounded

CPU = torch.device("cpu")


def tensor(*values: object) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("reward", "discount", "expected"),
    [
        (0.3, 0.9, [0.02, 0.14, 0.30, 0.34, 0.20]),
        (0.5, 0.0, [0.0, 0.0, 0.0, 1.0, 0.0]),
        (2.0, 0.9, [0.0, 0.0, 0.0, 0.0, 1.0]),
        (-3.0, 0.9, [1.0, 0.0, 0.0, 0.0, 0.0]),
    ],
)
def test_projection_matches_the_oracle(
    reward: float, discount: float, expected: list[float]
) -> None:
    support = torch.linspace(-1, 1, 5, dtype=torch.float64)
    probabilities = tensor([0.1, 0.2, 0.4, 0.2, 0.1])
    projected = categorical_projection(reward + discount * support[None], probabilities, support)
    torch.testing.assert_close(projected, tensor(expected))


def slow_projection(atoms: np.ndarray, masses: np.ndarray, support: np.ndarray) -> np.ndarray:
    """The triangular kernel of the projection, atom by atom."""
    width = support[1] - support[0]
    out = np.zeros((len(atoms), len(support)))
    for b, row in enumerate(atoms):
        for z, mass in zip(np.clip(row, support[0], support[-1]), masses[b], strict=True):
            out[b] += mass * np.clip(1 - np.abs(z - support) / width, 0, 1)
    return out


def test_projection_conserves_mass_and_equals_its_slow_reference() -> None:
    rng = np.random.default_rng(0)
    for points, low, high in ((51, -10, 10), (5, -1, 1), (2, 0, 3)):
        support = np.linspace(low, high, points)
        atoms = rng.normal(0, high * 1.5, (64, points))
        atoms[:8] = support  # on the points themselves
        masses = rng.dirichlet(np.ones(points), 64)
        found = categorical_projection(*map(torch.from_numpy, (atoms, masses, support)))
        np.testing.assert_allclose(found, slow_projection(atoms, masses, support), atol=1e-12)
        np.testing.assert_allclose(found.sum(1), 1.0, atol=1e-12)


def test_projection_keeps_the_mass_of_float32_atoms_on_points() -> None:
    """Where rounding puts an atom beside its point, nothing may be lost."""
    support = torch.linspace(-10, 10, 51)
    probabilities = torch.full((51, 51), 1 / 51)
    atoms = support.repeat(51, 1) * torch.linspace(0, 1, 51)[:, None]
    projected = categorical_projection(atoms, probabilities, support)
    assert_rounded(projected.double().sum(1), torch.ones(51), 51)
    means = [(p * z).double().sum(1) for p, z in ((projected, support), (probabilities, atoms))]
    torch.testing.assert_close(*means, rtol=0, atol=10 * 51 * FLOAT32)


def test_categorical_loss_is_cross_entropy_least_at_the_target() -> None:
    p = tensor([0.1, 0.2, 0.7])
    entropy = -(p * p.log()).sum(1)
    torch.testing.assert_close(categorical_loss(p.log(), p), entropy)
    assert categorical_loss(tensor([0.0, 0.0, 0.0]), p) > entropy


def test_quantile_huber_loss_matches_the_oracle() -> None:
    taus = quantile_midpoints(2, CPU).double()
    torch.testing.assert_close(taus, torch.tensor([0.25, 0.75], dtype=torch.float64))
    loss = quantile_huber_loss(tensor([0.0, 1.0]), taus, tensor([0.5, 2.0]))
    torch.testing.assert_close(loss, tensor(0.40625))
    same = quantile_huber_loss(tensor([0.0, 1.0]), taus[None], tensor([0.5, 2.0]))
    torch.testing.assert_close(same, loss)


@pytest.mark.parametrize("kappa", [0.1, 1.0, 2.0])
def test_quantile_huber_loss_equals_its_slow_reference(kappa: float) -> None:
    rng = np.random.default_rng(0)
    theta, taus, y = rng.normal(size=(3, 4)) * 2, rng.random((3, 4)), rng.normal(size=(3, 5)) * 2
    expected, slopes = np.zeros(3), np.zeros((3, 4))
    for b in range(3):
        for i in range(4):
            for j in range(5):
                u = y[b, j] - theta[b, i]
                huber = 0.5 * u * u if abs(u) <= kappa else kappa * (abs(u) - 0.5 * kappa)
                weight = abs(taus[b, i] - (u < 0)) / kappa / 5
                expected[b] += weight * huber
                slopes[b, i] -= weight * np.clip(u, -kappa, kappa)
    quantiles = torch.from_numpy(theta).requires_grad_()
    found = quantile_huber_loss(quantiles, *map(torch.from_numpy, (taus, y)), kappa=kappa)
    np.testing.assert_allclose(found.detach(), expected, rtol=1e-12)
    (3.0 * found).sum().backward()
    np.testing.assert_allclose(quantiles.grad, 3.0 * slopes, rtol=1e-12)


def test_quantile_regression_finds_the_quantiles_of_a_sample() -> None:
    samples = torch.from_numpy(np.random.default_rng(0).exponential(size=2_000))[None]
    taus = quantile_midpoints(9, CPU).double()
    theta = torch.zeros(1, 9, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([theta], lr=0.02)
    for _ in range(1_000):
        optimizer.zero_grad()
        quantile_huber_loss(theta, taus, samples, kappa=1e-3).sum().backward()
        optimizer.step()
    expected = np.quantile(samples.numpy(), taus.numpy())
    np.testing.assert_allclose(theta.detach()[0], expected, atol=0.06)


def test_select_actions_takes_each_row_s_own() -> None:
    values = torch.arange(24).reshape(2, 3, 4)
    actions = torch.tensor([2, 0])
    assert select_actions(values, actions).tolist() == [[8, 9, 10, 11], [12, 13, 14, 15]]
    assert select_actions(values[..., 1], actions).tolist() == [9, 13]


def test_soft_quantiles_have_the_soft_value_as_their_mean() -> None:
    quantiles = torch.randn(5, 3, 8, dtype=torch.float64)
    q = quantiles.mean(2)
    for temperature in (0.03, 1.0):
        found = soft_quantiles(quantiles, q, temperature)
        torch.testing.assert_close(found.mean(1), soft_value(q, temperature))
    greedy = select_actions(quantiles, q.argmax(1))
    torch.testing.assert_close(soft_quantiles(quantiles, q, 1e-6), greedy, atol=1e-4, rtol=0)
