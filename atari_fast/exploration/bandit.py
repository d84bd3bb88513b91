"""The meta-controller: a bandit that chooses a policy for each episode."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


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
        self._arms = arms
        self._beta = beta
        self._epsilon = epsilon
        self._rng = rng
        self._chosen = 0
        self._episodes: deque[tuple[int, float]] = deque(maxlen=window)

    def choose(self) -> int:
        """The arm of the next episode."""
        self._chosen += 1
        if self._chosen <= self._arms:
            return self._chosen - 1
        if self._rng.random() < self._epsilon:
            return int(self._rng.integers(self._arms))
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
        counts = np.bincount(arms, minlength=self._arms)
        sums = np.bincount(arms, weights=returns, minlength=self._arms)
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
        self._chosen = int(state["chosen"])
        self._episodes.clear()
        arms = map(range(self._arms).index, state["arms"])
        self._episodes.extend(zip(arms, map(float, state["returns"]), strict=True))
        self._rng.bit_generator.state = state["rng"]
