"""The meta-controller: a bandit that chooses a policy for each episode."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atari_fast.types import Episode


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

    In training each environment has a bandit of its own, and the evaluator's bandit takes in all
    episodes. Without bandits, episodes are played with the evaluator's best policy.
    """

    def __init__(
        self,
        num_envs: int,
        evaluator: SlidingWindowUCB,
        bandits: Sequence[SlidingWindowUCB] | None = None,
    ) -> None:
        """Make a choice for E environments that have played nothing yet."""
        self._evaluator = evaluator
        self._bandits = bandits
        self._policies = np.zeros(num_envs, np.int64)
        self._pending = np.ones(num_envs, np.bool_)

    def begin(self, first: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Choose policies of games that begin where bool[E] is set; all policies, int64[E].

        An episode that begins after a lost life goes on with the policy of its game.
        """
        for env in np.flatnonzero(first & self._pending).tolist():
            best = self._evaluator.best
            self._policies[env] = self._bandits[env].choose() if self._bandits else best()
        self._pending &= ~first
        policies: NDArray[np.int64] = self._policies.copy()
        return policies

    def finished(self, episodes: Sequence[Episode]) -> None:
        """Take in finished games; their returns are raw and undiscounted."""
        for episode in episodes:
            self._pending[episode.env] = True
            if self._bandits:
                arm = int(self._policies[episode.env])
                self._bandits[episode.env].add(arm, episode.score)
                self._evaluator.add(arm, episode.score)

    def state(self) -> dict[str, Any]:
        """Policies of the games in progress, and the bandits."""
        return {
            "policies": self._policies.tolist(),
            "pending": self._pending.tolist(),
            "bandits": [bandit.state() for bandit in self._bandits or ()],
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`."""
        arms = self._evaluator.arms
        self._policies[:] = [range(arms).index(policy) for policy in state["policies"]]
        self._pending[:] = state["pending"]
        for bandit, saved in zip(self._bandits or (), state["bandits"], strict=True):
            bandit.load_state(saved)
