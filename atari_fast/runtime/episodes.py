"""Scores of E environments, from raw rewards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from atari_fast.types import Episode, Flag, StepBatch


class EpisodeTracker:
    """Adds up the raw rewards of each environment's game; a lost life ends no game."""

    def __init__(self, num_envs: int) -> None:
        self._scores = np.zeros(num_envs)
        self._steps = np.zeros(num_envs, np.int64)

    def add(self, step: StepBatch) -> list[Episode]:
        """Takes in one step of all environments and returns the games that ended with it."""
        self._scores += step.rewards
        self._steps += (step.flags & Flag.FIRST) == 0
        life_end = Flag.TERMINATED | Flag.LIFE_LOST
        truncated = (step.flags & Flag.TRUNCATED) != 0
        ended = truncated | ((step.flags & life_end) == Flag.TERMINATED)
        if not ended.any():
            return []
        episodes = []
        for env in np.flatnonzero(ended).tolist():
            score, steps = float(self._scores[env]), int(self._steps[env])
            episodes.append(Episode(env, score, steps, bool(truncated[env])))
        self._scores[ended] = 0.0
        self._steps[ended] = 0
        return episodes

    def state(self) -> dict[str, Any]:
        """The sums of the games in flight."""
        return {"scores": self._scores.tolist(), "steps": self._steps.tolist()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes on with the sums of `state`."""
        self._scores[:], self._steps[:] = state["scores"], state["steps"]
