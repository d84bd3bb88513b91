"""The last layer by regularized least squares (Levine et al. 2017), accumulated from a stream.

All three systems have one form. With phi_i the design of sample i and rho_i its Bellman residual
under the weights w_k that the network has now, both sums **means over all N samples**,

    w = w_k + (M + lambda I)^-1 (1/N) sum_i phi_i rho_i,

which is the Bayesian prior centred on w_k of Levine et al. 2017, section 4, written so that only
the change is solved for: lambda -> infinity leaves the weights as they are. A feature that is
always 1 stands for the bias, which is solved for jointly. Sums and solutions are float64.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch

from atari_fast.errors import LeastSquaresError

_BUFFER_ROWS = 8192


def boosted_residuals(residuals: torch.Tensor, bound: float = 1.0) -> torch.Tensor:
    """clip(rho, -B, B): fed with these, `FqiSystem` is boosted FQI (Tosatto et al. 2017).

    The weights w_k stay the first term of the additive model; only what is fitted is truncated.

    Args:
        residuals: Bellman residuals. float32[B]
        bound: B, above 0.

    Returns:
        float32[B]
    """
    return residuals.clamp(-bound, bound)


class _System(ABC):
    """Sums over samples that come in batches of any size.

    Batches wait until there are `_BUFFER_ROWS` samples: a sum over few rows would spend its time on
    reading and writing matrices.
    """

    def __init__(self, num_actions: int, bias: bool) -> None:
        self.samples = 0
        """Samples added so far, N."""
        self._num_actions = num_actions
        self._bias = bias
        self._waiting: list[tuple[torch.Tensor, ...]] = []
        self._rows = 0

    def _append(self, *columns: torch.Tensor) -> None:
        self._waiting.append(tuple(column.detach().clone() for column in columns))
        self._rows += len(columns[0])
        self.samples += len(columns[0])
        if self._rows >= _BUFFER_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._add(*(torch.cat(column) for column in zip(*self._waiting, strict=True)))
        self._waiting, self._rows = [], 0

    @abstractmethod
    def _add(self, *columns: torch.Tensor) -> None:
        """Adds samples to the sums."""

    def _mean(self, sums: torch.Tensor) -> torch.Tensor:
        """The sums over N; must come after `_flush`."""
        if not self.samples:
            raise LeastSquaresError("least squares: no samples were added; add some first")
        if not sums.isfinite().all():
            raise LeastSquaresError(
                f"least squares: the sums over {self.samples} samples are not finite; "
                "expected finite features and residuals"
            )
        return sums / self.samples

    def _design(self, features: torch.Tensor) -> torch.Tensor:
        """[phi; 1], float64[B, D]."""
        ones = features.new_ones((len(features), int(self._bias)))
        return torch.cat([features, ones], dim=1).double()


class FqiSystem(_System):
    """Fitted Q-iteration: one symmetric block an action (Levine et al. 2017, section 4).

    phi(s, a) is [phi(s); 1] in the block of a and 0 elsewhere, so that M is block-diagonal:
    M_a = (1/N) sum_{i: a_i = a} phi_i phi_i^T, N all samples, and A systems of D = d + 1 unknowns
    give what the joint one of A D would.
    """

    def __init__(
        self,
        num_actions: int,
        features: int,
        *,
        bias: bool = True,
        device: torch.device | str = "cpu",
    ) -> None:
        """Of `features` d; without `bias` no 1 is appended, and D = d."""
        super().__init__(num_actions, bias)
        size = features + bias
        self._sums = torch.zeros((num_actions, size, size + 1), dtype=torch.float64, device=device)

    def add(self, features: torch.Tensor, actions: torch.Tensor, residuals: torch.Tensor) -> None:
        """Adds B samples.

        Args:
            features: phi(s), input of the last layer. float32[B, d]
            actions: a, taken in s. int64[B]
            residuals: rho = y - Q_k(s, a), clipped or not. float32[B]
        """
        self._append(features, actions, residuals)

    def _add(self, *columns: torch.Tensor) -> None:
        features, actions, residuals = columns
        order, groups = _groups(actions, self._num_actions)
        design = self._design(features[order])
        right = torch.cat([design, residuals[order, None].double()], dim=1)
        for a, rows in groups:
            self._sums[a].addmm_(design[rows].T, right[rows])

    def solve(self, lam: float) -> torch.Tensor:
        """(M_a + lambda I)^-1 (1/N) sum_{i: a_i = a} phi_i rho_i of every action, by Cholesky.

        Args:
            lam: lambda, the precision of the prior, at least 0.

        Returns:
            What is to be added to the weights and, last, the bias of each action. float64[A, D]

        Raises:
            LeastSquaresError: a system is singular or not finite, or there are no samples.
        """
        self._flush()
        mean = self._mean(self._sums)
        blocks = _add_prior(mean[:, :, :-1], lam)
        return torch.cholesky_solve(mean[:, :, -1:], _cholesky(blocks, blocks)).squeeze(2)


class LstdqSystem(_System):
    """Least-squares temporal differences for Q: a joint system, not symmetric.

    M = (1/N) sum phi(s, a) (phi(s, a) - discount phi(s', pi(s')))^T over A D unknowns (Levine et
    al. 2017, section 4, after Lagoudakis and Parr 2003), the blocks as in `FqiSystem`.
    """

    @staticmethod
    def bytes_needed(num_actions: int, features: int) -> int:
        """Memory in bytes that sums and solution take, 24 (A D)^2."""
        return 24 * (num_actions * (features + 1)) ** 2

    def __init__(
        self,
        num_actions: int,
        features: int,
        *,
        bias: bool = True,
        device: torch.device | str = "cpu",
    ) -> None:
        """Of `features` d; without `bias` no 1 is appended, and D = d."""
        super().__init__(num_actions, bias)
        self._size = features + bias
        joint = num_actions * self._size
        self._matrix = torch.zeros((joint, joint), dtype=torch.float64, device=device)
        self._right = torch.zeros(joint, dtype=torch.float64, device=device)

    def add(
        self,
        features: torch.Tensor,
        actions: torch.Tensor,
        residuals: torch.Tensor,
        discounts: torch.Tensor,
        next_features: torch.Tensor,
        next_actions: torch.Tensor,
    ) -> None:
        """Adds B samples.

        Args:
            features: phi(s). float32[B, d]
            actions: a. int64[B]
            residuals: rho = r + discount Q_k(s', pi(s')) - Q_k(s, a), with the same weights w_k on
                both sides. float32[B]
            discounts: gamma^m, or 0 after a terminal. float32[B]
            next_features: phi(s'). float32[B, d]
            next_actions: pi(s'). int64[B]
        """
        self._append(features, actions, residuals, discounts, next_features, next_actions)

    def _add(self, *columns: torch.Tensor) -> None:
        features, actions, residuals, discounts, next_features, next_actions = columns
        num = self._num_actions
        order, groups = _groups(actions * num + next_actions, num * num)
        design = self._design(features[order])
        following = self._design(next_features[order]) * discounts[order, None]
        rho = residuals[order].double()
        for action, rows in _groups(actions[order], num)[1]:
            a = self._block(action)
            self._matrix[a, a].addmm_(design[rows].T, design[rows])
            self._right[a].addmv_(design[rows].T, rho[rows])
        for pair, rows in groups:
            a, b = self._block(pair // num), self._block(pair % num)
            self._matrix[a, b].addmm_(design[rows].T, following[rows], alpha=-1)

    def _block(self, action: int) -> slice:
        return slice(action * self._size, (action + 1) * self._size)

    def solve(self, lam: float) -> torch.Tensor:
        """(M + lambda I)^-1 (1/N) sum phi rho by LU; arguments and errors of `FqiSystem.solve`."""
        self._flush()
        right = self._mean(self._right)
        joint = _add_prior(self._mean(self._matrix), lam)
        factor, pivots, info = torch.linalg.lu_factor_ex(joint)
        diagonal = factor.diagonal().abs()
        _check_pivots(diagonal.amin(), diagonal.amax(), len(joint), bool(info))
        change = torch.linalg.lu_solve(factor, pivots, right[:, None])
        return torch.reshape(change, (self._num_actions, self._size))


class DuelingSystem(_System):
    """FQI of both streams of a dueling head at once (Wang et al. 2016, eq. 9), exactly.

    Q = [phi_V; 1] v + [phi_A; 1] (w_a - mean_b w_b), so the design is [phi_V; 1; c_a (x) [phi_A;
    1]] with c_a = e_a - 1/A: symmetric, D_V + A D_A unknowns. No sample moves mean_b w_b, and the
    prior leaves it where it is; so the changes of the w_a sum to 0, under which the design of w_a
    is [phi_A; 1] where a was taken and 0 elsewhere. What is left is A blocks of D_A and one system
    of D_V and one of D_A, for the multipliers mu of sum_a dw_a = 0:

        (G_a + lambda I) dw_a + C_a^T dv + mu = g_a
        (M_V + lambda I) dv + sum_a C_a dw_a = g_V
    """

    def __init__(
        self,
        num_actions: int,
        value_features: int,
        advantage_features: int,
        *,
        bias: bool = True,
        device: torch.device | str = "cpu",
    ) -> None:
        """Of d_V and d_A features; without `bias` no 1 is appended to either."""
        super().__init__(num_actions, bias)
        value, advantage = value_features + bias, advantage_features + bias
        self._value = torch.zeros((value, value + 1), dtype=torch.float64, device=device)
        self._advantage = torch.zeros(
            (num_actions, advantage, value + advantage + 1), dtype=torch.float64, device=device
        )

    def add(
        self,
        value_features: torch.Tensor,
        advantage_features: torch.Tensor,
        actions: torch.Tensor,
        residuals: torch.Tensor,
    ) -> None:
        """Adds B samples.

        Args:
            value_features: phi_V(s), input of the value layer. float32[B, d_V]
            advantage_features: phi_A(s), input of the advantage layer. float32[B, d_A]
            actions: a, taken in s. int64[B]
            residuals: rho = y - Q_k(s, a), clipped or not. float32[B]
        """
        self._append(value_features, advantage_features, actions, residuals)

    def _add(self, *columns: torch.Tensor) -> None:
        value_features, advantage_features, actions, residuals = columns
        order, groups = _groups(actions, self._num_actions)
        value = self._design(value_features[order])
        advantage = self._design(advantage_features[order])
        rho = residuals[order, None].double()
        self._value.addmm_(value.T, torch.cat([value, rho], dim=1))
        right = torch.cat([value, advantage, rho], dim=1)
        for a, rows in groups:
            self._advantage[a].addmm_(advantage[rows].T, right[rows])

    def solve(self, lam: float) -> tuple[torch.Tensor, torch.Tensor]:
        """The changes of both streams by Cholesky; argument and errors of `FqiSystem.solve`.

        Returns:
            What is to be added to the value's weights and bias, float64[D_V], and to the
            advantages', float64[A, D_A], whose sum over the actions is 0.
        """
        self._flush()
        by_value, by_action = self._mean(self._value), self._mean(self._advantage)
        size = len(by_value)
        prior = _add_prior(by_value[:, :-1], lam)
        blocks = _add_prior(by_action[:, :, size:-1], lam)
        cross, right = by_action[:, :, :size], by_action[:, :, -1:]  # C_a^T and g_a
        identity = torch.eye(blocks.shape[1], dtype=blocks.dtype, device=blocks.device)
        solved = torch.cholesky_solve(
            torch.cat([cross, right, identity.expand_as(blocks)], dim=2), _cholesky(blocks, blocks)
        )
        by_cross = cross.flatten(0, 1).T @ solved.flatten(0, 1)  # sum_a C_a times each
        total = solved.sum(dim=0)
        # Without the dw_a: P dv - Q mu = p and Q^T dv + R mu = q; then without mu.
        schur = total[:, size + 1 :]
        multipliers = torch.cholesky_solve(total[:, : size + 1], _cholesky(schur, schur))
        coupled = by_cross[:, size + 1 :] @ multipliers
        reduced = prior - by_cross[:, :size] + coupled[:, :size]
        value_right = by_value[:, -1:] - by_cross[:, size : size + 1] + coupled[:, size:]
        value = torch.cholesky_solve(value_right, _cholesky(reduced, prior))
        mu = multipliers[:, size:] - multipliers[:, :size] @ value
        advantage = solved @ torch.cat([-value, value.new_ones((1, 1)), -mu])
        return value.squeeze(1), advantage.squeeze(2)


def _groups(keys: torch.Tensor, count: int) -> tuple[torch.Tensor, list[tuple[int, slice]]]:
    """The order that sorts the rows by key, and where each key of [0, count) then lies."""
    ends = torch.bincount(keys, minlength=count).cumsum(0).tolist()
    places = enumerate(zip([0, *ends], ends, strict=False))
    return keys.argsort(stable=True), [
        (key, slice(*ends)) for key, ends in places if ends[0] < ends[1]
    ]


def _add_prior(matrix: torch.Tensor, lam: float) -> torch.Tensor:
    """Adds lambda I in place."""
    matrix.diagonal(dim1=-2, dim2=-1).add_(lam)
    return matrix


def _cholesky(matrix: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Lower factors of float64[..., D, D], whose entries are exact to those of `scale`."""
    factor: torch.Tensor
    factor, info = torch.linalg.cholesky_ex(matrix)
    pivots = factor.diagonal(dim1=-2, dim2=-1).square().amin(dim=-1)
    largest = scale.diagonal(dim1=-2, dim2=-1).amax(dim=-1)
    _check_pivots(pivots, largest, matrix.shape[-1], bool(info.any()))
    return factor


def _check_pivots(smallest: torch.Tensor, largest: torch.Tensor, size: int, failed: bool) -> None:
    """A pivot that rounding alone could have made tells nothing."""
    least = size * torch.finfo(torch.float64).eps
    if failed or not bool((smallest > least * largest).all()):
        raise LeastSquaresError(
            f"least squares: a system of {size} unknowns is singular to float64, smallest pivot "
            f"{float(smallest.min()):.3g} beside {float(largest.max()):.3g}; raise lambda"
        )
