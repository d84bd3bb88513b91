"""Policy families and the bandit beside printed values."""

from __future__ import annotations

import numpy as np
import pytest

from atari_fast.exploration.bandit import PolicyChoice, SlidingWindowUCB, UniformChoice
from atari_fast.exploration.families import (
    agent57_discounts,
    discount_family,
    epsilon_ladder,
    intrinsic_scales,
)
from atari_fast.types import Episode


def bandit(arms: int = 3, window: int = 10, epsilon: float = 0.0) -> SlidingWindowUCB:
    return SlidingWindowUCB(arms, window, 1.0, epsilon, np.random.default_rng(0))


def test_the_epsilon_ladder_has_the_printed_values() -> None:
    four = [0.4, 0.0471556, 0.00555913, 0.00065536]
    eight = [0.4, 0.16, 0.064, 0.0256, 0.01024, 0.004096, 0.0016384, 0.00065536]
    assert epsilon_ladder(4) == pytest.approx(four, rel=1e-5)
    assert epsilon_ladder(8) == pytest.approx(eight, rel=1e-12)
    assert epsilon_ladder(1) == pytest.approx([0.4])


def test_the_discount_family_has_the_printed_values() -> None:
    family = discount_family(32)
    printed = {0: 0.997, 1: 0.996881, 15: 0.994628, 16: 0.994415, 31: 0.99}
    assert [family[j] for j in printed] == pytest.approx(list(printed.values()), abs=5e-7)
    assert discount_family(1) == pytest.approx([0.997])


def test_a6_the_discounts_of_agent57_have_the_printed_values() -> None:
    family = agent57_discounts(32)
    printed = {8: 0.997, 9: 0.996839, 16: 0.995440, 24: 0.993068, 30: 0.990510, 31: 0.99}
    assert [family[j] for j in printed] == pytest.approx(list(printed.values()), abs=5e-7)
    near = [0.9999, 0.999900, 0.999896, 0.999800, 0.998450, 0.997100, 0.997004, 0.997]
    assert family[:8] == pytest.approx(near, abs=5e-7)
    assert (np.diff(family) <= 0).all()
    for size in (1, 3, 8, 9):
        assert len(agent57_discounts(size)) == size


def test_the_intrinsic_scales_have_the_printed_values() -> None:
    scales = intrinsic_scales(32, 0.3)
    printed = {
        0: 0, 1: 2.65258e-5, 8: 0.00279479, 14: 0.101773, 15: 0.15, 16: 0.198227, 30: 0.299986,
        31: 0.3,
    }  # fmt: skip
    assert [scales[j] for j in printed] == pytest.approx(list(printed.values()), rel=1e-5)
    assert intrinsic_scales(1, 0.3) == pytest.approx([0.3])
    assert intrinsic_scales(2, 0.3) == pytest.approx([0.0, 0.3])


def test_uniform_policies_are_uniform() -> None:
    choice = UniformChoice(4, np.random.default_rng(0))
    counts = np.bincount([choice.choose() for _ in range(4_000)], minlength=4)
    assert np.abs(counts - 1_000).max() < 5 * (4_000 * 0.25 * 0.75) ** 0.5


def test_groups_of_environments_share_a_bandit() -> None:
    record = bandit()
    bandits = [bandit(), bandit()]
    choice = PolicyChoice(4, record, bandits)
    policies = choice.begin(np.ones(4, np.bool_))
    assert policies.tolist() == [0, 1, 0, 1]  # each group's first two choices
    choice.finished([Episode(1, 7.0, 10, False), Episode(2, 3.0, 10, False)])
    assert bandits[0].statistics()[0].tolist() == [0, 7, 0]
    assert bandits[1].statistics()[0].tolist() == [3, 0, 0]


def test_a5_a_bandit_counts_finished_episodes_alone() -> None:
    record = bandit()
    choice = PolicyChoice(2, record, [bandit(), bandit()])
    choice.begin(np.ones(2, np.bool_))
    assert record.statistics()[1].sum() == 0
    choice.begin(np.array([True, False]))  # a lost life: the game goes on
    assert record.statistics()[1].sum() == 0
    choice.finished([Episode(0, 1.0, 10, False)])
    assert record.statistics()[1].tolist() == [1, 0, 0]
    assert choice.metrics() == {"policy/0/return": 1.0, "policy/0/episodes": 1.0}


@pytest.mark.parametrize(
    ("window", "bounds", "arm"),
    [(10, [3.2071067812, 4.7071067812, 3.0], 1), (3, [5, 4, 3], 0), (2, [5, 4, np.inf], 2)],
)
def test_bounds_have_the_printed_values(window: int, bounds: list[float], arm: int) -> None:
    ucb = bandit(window=window)
    for chosen, value in [(0, 1), (1, 5), (2, 2), (1, 3), (0, 4)]:
        ucb.choose()
        ucb.add(chosen, value)
    assert ucb.bounds() == pytest.approx(bounds)
    assert ucb.choose() == arm


def test_every_arm_is_chosen_once_before_any_is_chosen_again() -> None:
    ucb = bandit(arms=5, epsilon=1.0)
    assert [ucb.choose() for _ in range(5)] == list(range(5))


def test_a4_the_window_holds_the_last_episodes_of_all_arms_together() -> None:
    ucb = bandit(window=4)
    for k in range(100):
        ucb.add(k % 3, float(k))
        means, counts = ucb.statistics()
        last = range(max(0, k - 3), k + 1)
        for arm in range(3):
            values = [float(i) for i in last if i % 3 == arm]
            assert counts[arm] == len(values)
            assert means[arm] == pytest.approx(np.mean(values) if values else 0)


def test_random_arms_come_with_probability_epsilon() -> None:
    ucb = bandit(arms=4, window=100, epsilon=0.5)
    for arm in range(4):
        ucb.choose()
        ucb.add(arm, 100.0 * (arm == 2))
    others = sum(ucb.choose() != 2 for _ in range(4000))
    expected, deviation = 4000 * 0.5 * 0.75, (4000 * 0.375 * 0.625) ** 0.5
    assert abs(others - expected) < 5 * deviation


def test_the_best_arm_has_the_highest_mean_and_follows_a_change() -> None:
    ucb = bandit(window=20, epsilon=0.1)
    rng = np.random.default_rng(1)
    for good in (1, 2):
        chosen = []
        for _ in range(300):
            arm = ucb.choose()
            chosen.append(arm)
            ucb.add(arm, 10.0 * (arm == good) + rng.normal())
        assert ucb.best() == good
        assert chosen[-100:].count(good) > 60


def test_a_bandit_goes_on_from_its_state() -> None:
    ucb, other = bandit(epsilon=0.5), bandit(epsilon=0.5)
    rng = np.random.default_rng(2)
    for _ in range(30):
        ucb.add(ucb.choose(), rng.normal())
    other.load_state(ucb.state())
    assert [ucb.choose() for _ in range(50)] == [other.choose() for _ in range(50)]
