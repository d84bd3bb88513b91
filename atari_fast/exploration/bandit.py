"""Which policy plays an episode: a bandit (the meta-controller of Agent57), or chance."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from atari_fast.types import Episode


class Chooser(Protocol):
    """Chooses among policies."""

    def choose(self) -> int:
        """The policy of the next episode."""

    def add(self, arm: int, episode_return: float) -> None:
        """Take in a finished episode."""

    def state(self) -> dict[str, Any]:
        """Nested dicts, lists and plain values."""

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`."""


class UniformChoice:
    """A uniformly random policy for each episode (NGU as Badia et al. 2020b, 2, describe it)."""

    def __init__(self, arms: int, rng: np.random.Generator) -> None:
        self._arms = arms
        self._rng = rng

    def choose(self) -> int:
        """The policy of the next episode."""
        return int(self._rng.integers(self._arms))

    def add(self, arm: int, episode_return: float) -> None:
        """Nothing depends on finished episodes."""

    def state(self) -> dict[str, Any]:
        """The random generator."""
        return {"rng": self._rng.bit_generator.state}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`."""
        self._rng.bit_generator.state = state["rng"]


class SlidingWindowUCB:
    """Upper confidence bounds over the last episodes (Agent57, Badia et al. 2020b, 4 and D).

    The first N choices are the arms 0 to N - 1. Later ones are, with probability epsilon, a
    uniformly random arm, else argmax_j mean_j + beta sqrt(1 / n_j), where mean_j and n_j are over
    the last `window` episodes of all arms together. An arm without an episode in the window comes
    first, the lowest index before others.
    """

    def __init__(
        self, arms: int, window: int, beta: float, epsilon: float, rng: np.random.Generator
    ) -> None:
        """A bandit that has seen no episode.

        Args:
            arms: N, number of policies.
            window: tau, number of episodes that count, at least 1.
            beta: weight of the bonus, at least 0.
            epsilon: probability of a random arm, from 0 to 1.
            rng: source of the random arms.
        """
        self.arms = arms
        """N, number of policies."""
        self._beta = beta
        self._epsilon = epsilon
        self._rng = rng
        self._chosen = 0
        self._episodes: deque[tuple[int, float]] = deque(maxlen=window)

    def choose(self) -> int:
        """The arm of the next episode."""
        self._chosen += 1
        if self._chosen <= self.arms:
            return self._chosen - 1
        if self._rng.random() < self._epsilon:
            return int(self._rng.integers(self.arms))
        return int(self.bounds().argmax())

    def best(self) -> int:
        """The arm with the highest mean return in the window; 0 before the first episode."""
        means, counts = self.statistics()
        return int(np.where(counts > 0, means, -np.inf).argmax())

    def add(self, arm: int, episode_return: float) -> None:
        """Takes in a finished episode: its arm and its undiscounted raw return."""
        self._episodes.append((arm, episode_return))

    def bounds(self) -> NDArray[np.float64]:
        """Upper confidence bound of each arm, float64[N]; infinite where it has no episode."""
        means, counts = self.statistics()
        with np.errstate(divide="ignore"):
            bonus = self._beta * np.sqrt(1 / counts)
        return np.where(counts > 0, means + bonus, np.inf)

    def statistics(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Mean return float64[N] and number of episodes int64[N] of each arm in the window.

        A mean without episodes is 0. Sums are made anew, so that no rounding adds up.
        """
        arms = np.array([arm for arm, _ in self._episodes], np.int64)
        returns = np.array([value for _, value in self._episodes], np.float64)
        counts = np.bincount(arms, minlength=self.arms)
        sums = np.bincount(arms, weights=returns, minlength=self.arms)
        return sums / np.maximum(counts, 1), counts

    def state(self) -> dict[str, Any]:
        """The window, the number of choices and the random generator."""
        return {
            "chosen": self._chosen,
            "arms": [arm for arm, _ in self._episodes],
            "returns": [value for _, value in self._episodes],
            "rng": self._rng.bit_generator.state,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from `state`."""
        chosen = int(state["chosen"])
        if chosen < 0:
            raise ValueError(f"expected a number of choices, got {chosen}")
        self._chosen = chosen
        self._episodes.clear()
        arms = map(range(self.arms).index, state["arms"])
        self._episodes.extend(zip(arms, map(float, state["returns"]), strict=True))
        self._rng.bit_generator.state = state["rng"]


class PolicyChoice:
    """Which policy plays each environment's episode.

    In training, each of G choosers chooses for a group of E / G neighbouring environments, and the
    record takes in all episodes. In evaluations, which have no choosers, all episodes are played
    with one policy.
    """

    def __init__(
        self,
        num_envs: int,
        record: SlidingWindowUCB,
        choosers: Sequence[Chooser] = (),
        evaluated: Callable[[], int] = lambda: 0,
    ) -> None:
        """Make a choice for environments that have played nothing yet.

        Args:
            num_envs: E.
            record: takes in the episodes of all environments.
            choosers: from 1 to E of them in training; none in evaluations.
            evaluated: policy that plays where there are no choosers.
        """
        self._record = record
        self._choosers = choosers
        self._evaluated = evaluated
        self._policies = np.zeros(num_envs, np.int64)
        self._pending = np.ones(num_envs, np.bool_)

    def _chooser(self, env: int) -> Chooser:
        return self._choosers[env * len(self._choosers) // len(self._policies)]

    def begin(self, first: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Choose policies of games that begin where bool[E] is set; all policies, int64[E].

        An episode that begins after a lost life goes on with the policy of its game.
        """
        for env in np.flatnonzero(first & self._pending).tolist():
            choose = self._chooser(env).choose if self._choosers else self._evaluated
            self._policies[env] = choose()
        self._pending &= ~first
        policies: NDArray[np.int64] = self._policies.copy()
        return policies

    def finished(self, episodes: Sequence[Episode]) -> None:
        """Take in finished games; their returns are raw and undiscounted."""
        for episode in episodes:
            self._pending[episode.env] = True
            if self._choosers:
                arm = int(self._policies[episode.env])
                self._chooser(episode.env).add(arm, episode.score)
                self._record.add(arm, episode.score)

    def metrics(self) -> dict[str, float]:
        """`policy/j/return`, mean of policy j's last episodes, and `policy/j/episodes`.

        Over the last episodes of all policies together; policies without one are left out.
        """
        if self._record.arms == 1 or not self._choosers:
            return {}
        means, counts = self._record.statistics()
        return {
            f"policy/{arm}/{name}": float(values[arm])
            for arm in np.flatnonzero(counts)
            for name, values in (("return", means), ("episodes", counts))
        }

    def state(self) -> dict[str, Any]:
        """Policies of the games in progress, and the choosers."""
        return {
            "policies": self._policies.tolist(),
            "pending": self._pending.tolist(),
            "bandits": [chooser.state() for chooser in self._choosers],
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`."""
        arms = self._record.arms
        self._policies[:] = [range(arms).index(policy) for policy in state["policies"]]
        self._pending[:] = state["pending"]
        for chooser, saved in zip(self._choosers, state["bandits"], strict=True):
            chooser.load_state(saved)
