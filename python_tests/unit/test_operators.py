"""Action-gap operators: their oracles, and their theorem on random Markov decision processes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from atari_fast.agents.common import apply_operator
from atari_fast.config import DqnAgentConfig
from atari_fast.ops.action_gap import action_gap, relative_gap
from atari_fast.ops.operators import (
    advantage,
    advantage_learning,
    consistent_bellman,
    lazy,
    persistent,
    persistent_advantage_learning,
)
from atari_fast.ops.targets import (
    double_q_learning,
    munchausen_reward,
    q_learning,
    soft_q_learning,
    soft_value,
)
from atari_fast.replay.transition import TransitionBatch

GAMMA, ALPHA = 0.9, 0.9


def tensor(*values: object) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("q_t", "discount", "al", "second", "pal"),
    [
        ([2.0, 5.0], GAMMA, 3.7, 2.8, 3.7),
        ([4.5, 5.0], GAMMA, 3.7, 5.05, 5.05),
        ([4.5, 5.0], 0.0, -0.8, 1.0, 1.0),  # terminal: the next gap is 0, so T_PAL = T = r
    ],
)
def test_advantage_learning_and_its_persistent_form_match_the_oracle(
    q_t: list[float], discount: float, al: float, second: float, pal: float
) -> None:
    q_tm1, q_t, action = tensor([1.0, 3.0]), tensor(q_t), torch.tensor([0])
    discounts = tensor(discount)
    y = q_learning(tensor(1.0), discounts, q_t)
    now = advantage(q_tm1, action)
    then = advantage(q_t, action) * (discounts > 0)
    torch.testing.assert_close(advantage_learning(y, now, ALPHA), tensor(al))
    torch.testing.assert_close(persistent(y, then, ALPHA), tensor(second))
    torch.testing.assert_close(
        persistent_advantage_learning(y, now, then, ALPHA, ALPHA), tensor(pal)
    )


def test_persistent_with_gamma_is_the_value_of_the_same_action() -> None:
    q_t, action = tensor([4.0, 5.0, 7.0]), torch.tensor([1])
    for discount in (GAMMA, 0.0):
        discounts = tensor(discount)
        y = q_learning(tensor(1.0), discounts, q_t)
        value = persistent(y, advantage(q_t, action), discounts)
        torch.testing.assert_close(value, tensor(1.0 + discount * 5.0))


def test_consistent_takes_the_same_action_where_nothing_changed() -> None:
    q_t, actions = tensor([4.0, 5.0], [4.0, 5.0]), torch.tensor([0, 0])
    discounts = tensor(GAMMA, GAMMA)
    y = q_learning(tensor(1.0, 1.0), discounts, q_t)
    value = consistent_bellman(y, advantage(q_t, actions), discounts, torch.tensor([True, False]))
    torch.testing.assert_close(value, tensor(1 + GAMMA * 4, 1 + GAMMA * 5))


def test_lazy_keeps_a_value_only_between_its_bounds() -> None:
    # Q = 1, V = 3, alpha 0.9: kept for targets from 1 to 2.8.
    q, advantages = tensor(1.0, 1.0, 1.0, 1.0), tensor(-2.0, -2.0, -2.0, -2.0)
    y = tensor(0.5, 1.0, 2.5, 2.9)
    torch.testing.assert_close(lazy(y, q, advantages, ALPHA), tensor(0.5, 1.0, 1.0, 2.9))


@pytest.mark.parametrize(
    ("temperature", "log_policy", "value", "y"),
    [(0.03, -1.0, 3.0, 2.57), (1.0, -1.4076059644, 3.1698460196, 2.7381475594)],
)
def test_munchausen_matches_the_oracle(
    temperature: float, log_policy: float, value: float, y: float
) -> None:
    q_tm1, q_t, action = tensor([1.0, 2.0, 0.0]), tensor([0.0, 1.0, 3.0]), torch.tensor([0])
    found = q_tm1[0, 0] - soft_value(q_tm1, temperature)
    torch.testing.assert_close(found, tensor(log_policy), atol=1e-9, rtol=0)
    torch.testing.assert_close(soft_value(q_t, temperature), tensor(value), atol=1e-9, rtol=0)
    reward = munchausen_reward(tensor(0.5), q_tm1, action, 0.9, temperature, -1.0)
    torch.testing.assert_close(reward, tensor(0.5 - 0.9), atol=1e-9, rtol=0)
    target = soft_q_learning(reward, tensor(0.99), q_t, temperature)
    torch.testing.assert_close(target, tensor(y), atol=1e-9, rtol=0)


def test_soft_value_is_the_policy_s_value_with_entropy() -> None:
    q = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for temperature in (0.03, 1.0):
        log_policy = torch.log_softmax(q / temperature, dim=1)
        expected = (log_policy.exp() * (q - temperature * log_policy)).sum(1)
        torch.testing.assert_close(soft_value(q, temperature), expected)


def test_action_gap_is_of_the_best_two_and_its_relative_form_has_no_scale() -> None:
    q = tensor([3.0, 7.0, 6.0, -1.0], [2.0, 2.0, 0.0, 1.0], [4.0, 4.0, 4.0, 4.0])
    torch.testing.assert_close(action_gap(q), tensor(1.0, 0.0, 0.0))
    torch.testing.assert_close(relative_gap(q), tensor(1 / 8, 0.0, 0.0))
    torch.testing.assert_close(relative_gap(100 * q + 5), relative_gap(q))


class Mdp:
    """Random: S states, A actions, rewards float64[S, A], transitions float64[S, A, S]."""

    def __init__(self, seed: int, states: int = 6, actions: int = 3) -> None:
        rng = np.random.default_rng(seed)
        self.rewards = torch.from_numpy(rng.normal(size=(states, actions)))
        shares = rng.dirichlet(np.full(states, 0.3), size=(states, actions))
        stay = np.eye(states)[:, None, :]
        self.transitions = torch.from_numpy(0.6 * shares + 0.4 * stay)
        self.all_actions = torch.arange(actions).repeat(states)

    def bellman(self, q: torch.Tensor) -> torch.Tensor:
        return self.rewards + GAMMA * self.transitions @ q.max(1).values

    def expected(self, of_next: torch.Tensor) -> torch.Tensor:
        """E over x' of a table float64[S', A] at the action that was taken: float64[S, A]."""
        return torch.einsum("sat,ta->sa", self.transitions, of_next)

    def apply(self, name: str, q: torch.Tensor) -> torch.Tensor:
        """One sweep of an operator, made of the functions under test."""
        y = self.bellman(q).flatten()
        now = advantage(q.repeat_interleave(q.shape[1], 0), self.all_actions)
        then = self.expected(q - q.max(1, keepdim=True).values).flatten()
        if name == "al":
            y = advantage_learning(y, now, ALPHA)
        elif name == "pal":  # gamma: the operator as it is defined
            y = persistent_advantage_learning(y, now, then, ALPHA, GAMMA)
        elif name == "lazy":
            y = lazy(y, q.flatten(), now, ALPHA)
        elif name == "consistent":
            stays = torch.diagonal(self.transitions, dim1=0, dim2=2).T.flatten()
            same = torch.ones(len(y), dtype=torch.bool)
            y = consistent_bellman(y, stays * now, torch.full_like(y, GAMMA), same)
        return y.view_as(q)

    def iterate(self, name: str, sweeps: int) -> torch.Tensor:
        q = torch.zeros_like(self.rewards)
        for _ in range(sweeps):
            q = self.apply(name, q)
        return q


@pytest.mark.parametrize("name", ["al", "pal", "lazy", "consistent"])
@pytest.mark.parametrize("seed", range(8))
def test_operators_keep_the_optimal_policy_and_do_not_narrow_the_gap(name: str, seed: int) -> None:
    mdp = Mdp(seed)
    optimal = mdp.iterate("bellman", 400)
    q = mdp.iterate(name, 3_000)
    assert torch.equal(q.argmax(1), optimal.argmax(1))
    torch.testing.assert_close(q.max(1).values, optimal.max(1).values, atol=1e-6, rtol=0)
    gaps, before = q.max(1, keepdim=True).values - q, optimal.max(1, keepdim=True).values - optimal
    assert (gaps >= before - 1e-6).all()
    assert gaps.sum() > before.sum() + 1e-3


@pytest.mark.parametrize("name", ["al", "pal", "consistent"])
@pytest.mark.parametrize("seed", range(8))
def test_operators_stay_between_the_bounds_of_the_theorem(name: str, seed: int) -> None:
    """T Q - alpha (V - Q) <= T' Q <= T Q (Bellemare et al. 2016, theorem 1), on any Q."""
    mdp = Mdp(seed)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(20):
        q = torch.randn(mdp.rewards.shape, dtype=torch.float64, generator=generator) * 5
        above, found = mdp.bellman(q), mdp.apply(name, q)
        below = above - ALPHA * (q.max(1, keepdim=True).values - q)
        assert (found <= above + 1e-9).all()
        if name != "consistent":
            assert (found >= below - 1e-9).all()
        else:  # gamma P(s|s, a) stands for alpha
            assert (found >= above - GAMMA * (q.max(1, keepdim=True).values - q) - 1e-9).all()


@pytest.mark.parametrize("after", ["alpha", "gamma"])
@pytest.mark.parametrize("operator", ["al", "pal", "persistent", "consistent", "lazy"])
def test_no_operator_raises_a_double_target(operator: str, after: str) -> None:
    """T' Q <= T Q also where another network chose an action worth less than the one taken."""
    generator = torch.Generator().manual_seed(0)
    q_tm1, q_t, selector = torch.randn(3, 500, 4, generator=generator)
    frames = torch.zeros((500, 5, 1, 1), dtype=torch.uint8)
    discounts = torch.tensor([GAMMA, GAMMA, 0.0]).repeat(167)[:500]
    rewards = torch.randn(500, generator=generator)
    fields = {"actions": torch.randint(4, (500,), generator=generator), "discounts": discounts}
    batch = TransitionBatch(
        frames, rewards=rewards, steps=rewards, weights=rewards, ids=rewards, **fields
    )
    y = double_q_learning(rewards, discounts, q_t, selector)
    agent = DqnAgentConfig(double=True, operator=operator, operator_next=after)  # type: ignore[arg-type]
    found = apply_operator(
        agent, y, batch, (frames[:, :4], frames[:, 1:]), lambda _: q_tm1, q_t, selector
    )
    assert (found <= y).all()
    assert (found < y).any()
