"""Least squares of the last layer beside dense systems, known solutions and small MDPs."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from atari_fast.errors import LeastSquaresError
from atari_fast.ops import least_squares
from atari_fast.ops.least_squares import (
    DuelingSystem,
    FqiSystem,
    LstdqSystem,
    boosted_residuals,
)
from rounding import relative_error

Array = NDArray[np.float64]


class Data(NamedTuple):
    """N samples: what a network and a replay would give."""

    phi: torch.Tensor
    phi_a: torch.Tensor
    """Features of the other stream of a dueling head."""
    actions: torch.Tensor
    rho: torch.Tensor
    discounts: torch.Tensor
    next_phi: torch.Tensor
    next_actions: torch.Tensor

    @property
    def fqi(self) -> tuple[torch.Tensor, ...]:
        return self.phi, self.actions, self.rho

    @property
    def lstdq(self) -> tuple[torch.Tensor, ...]:
        return (*self.fqi, self.discounts, self.next_phi, self.next_actions)

    @property
    def dueling(self) -> tuple[torch.Tensor, ...]:
        return self.phi, self.phi_a, self.actions, self.rho


def random_data(samples: int, num_actions: int, d: int, d_a: int, seed: int) -> Data:
    """Features as after a ReLU, actions of unequal shares, the last of them never taken."""
    rng = np.random.default_rng(seed)

    def features(size: int) -> torch.Tensor:
        return torch.from_numpy(rng.normal(0.3, 1.0, (samples, size)).astype(np.float32)).relu()

    shares = rng.dirichlet(np.ones(num_actions - 1))
    return Data(
        features(d),
        features(d_a),
        torch.from_numpy(rng.choice(num_actions - 1, samples, p=shares)),
        torch.from_numpy(rng.normal(0, 2, samples).astype(np.float32)),
        torch.from_numpy(rng.choice(np.array([0.0, 0.99], np.float32), samples)),
        features(d),
        torch.from_numpy(rng.integers(num_actions, size=samples)),
    )


def design(phi: torch.Tensor, actions: torch.Tensor, num_actions: int) -> Array:
    """phi(s, a) written out: [phi; 1] in the block of a."""
    columns = np.concatenate([phi.double().numpy(), np.ones((len(phi), 1))], axis=1)
    return np.einsum("ia,ij->iaj", np.eye(num_actions)[actions.numpy()], columns).reshape(
        len(phi), -1
    )


def assert_solves_dense(
    actual: Array, left: Array, right: Array, rho: torch.Tensor, lam: float
) -> None:
    """Compares with (mean of left right^T + lambda I)^-1 mean of left rho.

    Two ways to solve differ by the rounding of the sums, times the condition of the system.
    """
    matrix = left.T @ right / len(left) + lam * np.eye(left.shape[1])
    expected = np.linalg.solve(matrix, left.T @ rho.double().numpy() / len(left))
    bound = sum(left.shape) * 2.0**-53 * np.linalg.cond(matrix)
    assert bound < 1e-6, "too close to singular to tell anything"
    assert relative_error(actual.ravel(), expected) < bound


def added(system: FqiSystem | LstdqSystem | DuelingSystem, columns: tuple[torch.Tensor, ...]):
    system.add(*columns)
    return system


ORACLE_PHI = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
ORACLE_Y = torch.tensor([1.0, 2.0, 2.0])


@pytest.mark.parametrize(
    ("lam", "expected"),
    [
        (1.0, (0.708333333333, 0.958333333333)),
        (1 / 3, (0.75, 1.25)),
        (0.0, (2 / 3, 5 / 3)),
        (1e12, (0.5, 0.5)),
    ],
)
def test_fqi_of_the_worked_example(lam: float, expected: tuple[float, float]) -> None:
    w0 = torch.tensor([0.5, 0.5])
    system = FqiSystem(1, 2, bias=False)
    system.add(ORACLE_PHI, torch.zeros(3, dtype=torch.int64), ORACLE_Y - ORACLE_PHI @ w0)
    assert system.samples == 3
    np.testing.assert_allclose((w0 + system.solve(lam)[0]).numpy(), expected, atol=1e-10)


@pytest.mark.parametrize("lam", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("seed", range(3))
def test_fqi_blocks_equal_the_dense_system(lam: float, seed: int) -> None:
    data = random_data(700, 5, 12, 1, seed)
    phi = design(data.phi, data.actions, 5)
    actual = added(FqiSystem(5, 12), data.fqi).solve(lam).numpy()
    assert_solves_dense(actual, phi, phi, data.rho, lam)
    assert not actual[4].any()  # never taken: the prior is all there is


@pytest.mark.parametrize("lam", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("seed", range(3))
def test_lstdq_equals_the_dense_system(lam: float, seed: int) -> None:
    data = random_data(700, 4, 9, 1, seed)
    phi = design(data.phi, data.actions, 4)
    following = design(data.next_phi, data.next_actions, 4) * data.discounts.numpy()[:, None]
    actual = added(LstdqSystem(4, 9), data.lstdq).solve(lam).numpy()
    assert_solves_dense(actual, phi, phi - following, data.rho, lam)


@pytest.mark.parametrize("lam", [1e-6, 1e-3, 1.0, 1e4])
@pytest.mark.parametrize(("d_v", "d_a"), [(7, 7), (11, 4), (3, 8)])
def test_dueling_equals_brute_force_least_squares(lam: float, d_v: int, d_a: int) -> None:
    """Also the sum of the advantages' changes is 0."""
    num, samples = 5, 600
    data = random_data(samples, num, d_v, d_a, seed=d_v)
    ones = np.ones((samples, 1))
    value = np.concatenate([data.phi.double().numpy(), ones], axis=1)
    advantage = np.concatenate([data.phi_a.double().numpy(), ones], axis=1)
    centred = np.eye(num)[data.actions.numpy()] - 1 / num
    psi = np.concatenate(
        [value, np.einsum("ia,ij->iaj", centred, advantage).reshape(samples, -1)], axis=1
    )
    dv, dw = added(DuelingSystem(num, d_v, d_a), data.dueling).solve(lam)
    actual = np.concatenate([dv.numpy(), dw.numpy().ravel()])
    assert_solves_dense(actual, psi, psi, data.rho, lam)
    np.testing.assert_allclose(dw.sum(dim=0).numpy(), 0, atol=1e-12 * float(dw.abs().max()))


def test_a_large_lambda_leaves_the_weights() -> None:
    data = random_data(300, 3, 6, 4, seed=0)
    lam = 1e12
    for change in (
        added(FqiSystem(3, 6), data.fqi).solve(lam),
        added(LstdqSystem(3, 6), data.lstdq).solve(lam),
        *added(DuelingSystem(3, 6, 4), data.dueling).solve(lam),
    ):
        assert float(change.abs().max()) < 1e-10


def test_boosted_clips_residuals_and_nothing_else() -> None:
    rho = torch.tensor([-3.0, -1.0, 0.25, 1.0, 7.0])
    assert boosted_residuals(rho).tolist() == [-1.0, -1.0, 0.25, 1.0, 1.0]
    assert boosted_residuals(rho, 2.0).tolist() == [-2.0, -1.0, 0.25, 1.0, 2.0]
    data = random_data(200, 3, 5, 1, seed=4)
    bound = float(data.rho.abs().max())
    boosted = (data.phi, data.actions, boosted_residuals(data.rho, bound))
    changes = [added(FqiSystem(3, 5), columns).solve(0.1) for columns in (data.fqi, boosted)]
    assert torch.equal(*changes)


class LinearMdp(NamedTuple):
    """r and the transitions are linear in features that are distributions over d factors."""

    phi: Array
    """[S, d]"""
    theta: Array
    """[A, d]: r(s, a) = phi(s) theta_a"""
    moves: Array
    """[A, d, S]: P(s' | s, a) = phi(s) moves_a"""

    def backup(self, q: Array, gamma: float) -> Array:
        """r + gamma P max q, [S, A]."""
        by_factor = self.theta + gamma * self.moves @ q.max(axis=1)
        return self.phi @ by_factor.T


def linear_mdp(states: int, num_actions: int, d: int, seed: int) -> LinearMdp:
    rng = np.random.default_rng(seed)
    return LinearMdp(
        rng.dirichlet(np.ones(d), states),
        rng.normal(size=(num_actions, d)),
        rng.dirichlet(0.2 * np.ones(states), (num_actions, d)),
    )


def test_fqi_on_a_linear_mdp_finds_the_optimal_values() -> None:
    """Every backup lies in the span of the features (all but one of them, and the bias)."""
    states, num, d, gamma = 40, 3, 6, 0.9
    mdp = linear_mdp(states, num, d, seed=1)
    optimal = np.zeros((states, num))
    for _ in range(400):
        optimal = mdp.backup(optimal, gamma)
    phi = torch.from_numpy(mdp.phi[:, :-1]).repeat_interleave(num, 0)
    actions = torch.arange(num).repeat(states)
    w = torch.zeros((num, d), dtype=torch.float64)
    ones = torch.ones((states, 1), dtype=torch.float64)
    columns = torch.cat([torch.from_numpy(mdp.phi[:, :-1]), ones], dim=1)
    for k in range(400):
        q = columns @ w.T
        rho = torch.from_numpy(mdp.backup(q.numpy(), gamma)) - q
        w = w + added(FqiSystem(num, d - 1), (phi, actions, rho.flatten())).solve(0.0)
        if k == 0:  # the rewards: their weights are known
            known = np.concatenate(
                [mdp.theta[:, :-1] - mdp.theta[:, -1:], mdp.theta[:, -1:]], axis=1
            )
            np.testing.assert_allclose(w.numpy(), known, atol=1e-9)
    np.testing.assert_allclose((columns @ w.T).numpy(), optimal, atol=1e-9)


@pytest.mark.parametrize("lam", [0.0, 1e-9])
def test_lstdq_solves_the_bellman_equation_of_a_small_mdp(lam: float) -> None:
    """Tabular, chances in tenths; from any weights one solve gives the values of the policy."""
    states, num, gamma = 4, 2, 0.9
    rng = np.random.default_rng(3)
    counts = rng.multinomial(10, np.ones(states) / states, (states, num))  # of ten transitions
    rewards = rng.normal(size=(states, num))
    policy = rng.integers(num, size=states)
    pairs = np.zeros((states * num, states * num))
    for s in range(states):
        for a in range(num):
            pairs[s * num + a, np.arange(states) * num + policy] += counts[s, a] / 10
    values = np.linalg.solve(np.eye(states * num) - gamma * pairs, rewards.ravel())
    samples = [
        (s, a, following)
        for s in range(states)
        for a in range(num)
        for following in np.repeat(np.arange(states), counts[s, a])
    ]
    s, a, following = (np.array(column) for column in zip(*samples, strict=True))
    w = rng.normal(size=(num, states))
    rho = rewards[s, a] + gamma * w[policy[following], following] - w[a, s]
    eye = torch.eye(states)
    system = LstdqSystem(num, states, bias=False)
    system.add(
        eye[s],
        torch.from_numpy(a),
        torch.from_numpy(rho),
        torch.full((len(s),), gamma, dtype=torch.float64),
        eye[following],
        torch.from_numpy(policy[following]),
    )
    found = w + system.solve(lam).numpy()
    np.testing.assert_allclose(found, values.reshape(states, num).T, atol=1e-6)


@pytest.mark.parametrize("buffer_rows", [1, 64, 10_000])
def test_any_chunks_give_the_same(buffer_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = random_data(500, 4, 8, 6, seed=9)
    rng = np.random.default_rng(2)
    for make, columns in (
        (lambda: FqiSystem(4, 8), data.fqi),
        (lambda: LstdqSystem(4, 8), data.lstdq),
        (lambda: DuelingSystem(4, 8, 6), data.dueling),
    ):
        expected = added(make(), columns).solve(0.01)
        monkeypatch.setattr(least_squares, "_BUFFER_ROWS", buffer_rows)
        system, at = make(), 0
        while at < 500:
            size = int(rng.integers(1, 90))
            batch = [column[at : at + size].clone() for column in columns]
            system.add(*batch)
            for column in batch:
                column.zero_()  # batches are reused: nothing of them may be waited for
            at += size
        assert system.samples == 500
        monkeypatch.undo()
        for one, other in zip(unpacked(expected), unpacked(system.solve(0.01)), strict=True):
            assert relative_error(other, one) < 1e-10  # condition below 1e3, 500 roundings of 1e-16


def test_solving_twice_and_going_on() -> None:
    data = random_data(400, 3, 5, 4, seed=6)
    for make, columns in (
        (lambda: FqiSystem(3, 5), data.fqi),
        (lambda: LstdqSystem(3, 5), data.lstdq),
    ):
        system = make()
        system.add(*(column[:150] for column in columns))
        first = system.solve(0.1)
        assert torch.equal(first, system.solve(0.1))
        system.add(*(column[150:] for column in columns))
        assert relative_error(system.solve(0.1), added(make(), columns).solve(0.1)) < 1e-10


def unpacked(solution: torch.Tensor | tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return solution if isinstance(solution, tuple) else (solution,)


def systems(d: int, columns: Data) -> list[tuple[object, tuple[torch.Tensor, ...]]]:
    return [
        (FqiSystem(3, d), columns.fqi),
        (LstdqSystem(3, d), columns.lstdq),
        (DuelingSystem(3, d, 4), columns.dueling),
    ]


@pytest.mark.parametrize("kind", range(3))
def test_what_cannot_be_solved_is_refused(kind: int) -> None:
    data = random_data(100, 3, 5, 4, seed=8)  # an action that was never taken
    system, columns = systems(5, data)[kind]
    with pytest.raises(LeastSquaresError, match="no samples"):
        system.solve(1.0)
    system.add(*columns)
    with pytest.raises(LeastSquaresError, match="singular"):
        system.solve(0.0)
    for bad in (math.nan, math.inf):
        for position in range(len(columns)):
            if not columns[position].is_floating_point():
                continue
            system, _ = systems(5, data)[kind]
            broken = [column.clone() for column in columns]
            broken[position].view(-1)[7] = bad
            system.add(*broken)
            with pytest.raises(LeastSquaresError, match="not finite"):
                system.solve(1.0)


def test_a_copied_feature_is_singular_without_a_prior_only() -> None:
    """Rounding alone would let Cholesky pass here."""
    data = random_data(300, 2, 6, 1, seed=5)
    phi = torch.cat([data.phi, data.phi[:, :3].sum(dim=1, keepdim=True)], dim=1)
    system = FqiSystem(1, 7)
    system.add(phi, data.actions, data.rho)
    with pytest.raises(LeastSquaresError, match="singular"):
        system.solve(0.0)
    assert system.solve(1e-3).isfinite().all()
