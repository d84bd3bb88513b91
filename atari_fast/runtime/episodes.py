"""Scores of E lanes, from raw rewards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from atari_fast.types import Flag, StepBatch


class Episode(NamedTuple):
    """A finished game."""

    lane: int
    score: float
    """Sum of the raw rewards."""
    steps: int
    """Agent steps."""
    truncated: bool
    """Whether the frame cap ended it."""


class EpisodeTracker:
    """Adds up the raw rewards of each lane's game; a lost life ends no game."""

    def __init__(self, lanes: int) -> None:
        self._scores = np.zeros(lanes)
        self._steps = np.zeros(lanes, np.int64)

    def add(self, step: StepBatch) -> list[Episode]:
        """Takes in one step of all lanes and returns the games that ended with it."""
        self._scores += step.rewards
        self._steps += (step.flags & Flag.FIRST) == 0
        life_end = Flag.TERMINATED | Flag.LIFE_LOST
        truncated = (step.flags & Flag.TRUNCATED) != 0
        ended = truncated | ((step.flags & life_end) == Flag.TERMINATED)
        if not ended.any():
            return []
        episodes = []
        for lane in np.flatnonzero(ended).tolist():
            score, steps = float(self._scores[lane]), int(self._steps[lane])
            episodes.append(Episode(lane, score, steps, bool(truncated[lane])))
        self._scores[ended] = 0.0
        self._steps[ended] = 0
        return episodes

    def state(self) -> dict[str, Any]:
        """The sums of the games in flight."""
        return {"scores": self._scores.tolist(), "steps": self._steps.tolist()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes on with the sums of `state`."""
        self._scores[:], self._steps[:] = state["scores"], state["steps"]
