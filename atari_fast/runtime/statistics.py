"""Episode statistics of a training, and their report as metrics and progress display."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atari_fast.infra.cpu import CpuWait
from atari_fast.infra.logging import RunLogger
from atari_fast.infra.progress import Progress
from atari_fast.runtime.driver import StepResult
from atari_fast.runtime.exploration import ExplorationRecord
from atari_fast.types import Episode

_WINDOW = 100
_MUCH_WAITING = 0.2
"""Fraction of time spent waiting for a core above which a warning is shown."""
_LONG = 15.0
"""Shortest period, in seconds, over which that fraction is measured."""


class Statistics:
    """Counts finished games; keeps raw returns and lengths of the last 100.

    In games of `PLACE_ADDRESSES` it has an exploration record too.
    """

    def __init__(self, game: str, num_envs: int) -> None:
        self.episodes = 0
        """Games that have ended."""
        self.loss = math.nan
        """Mean loss of the updates before the last line of metrics."""
        self._returns: deque[float] = deque(maxlen=_WINDOW)
        self._lengths: deque[int] = deque(maxlen=_WINDOW)
        self._exploration = ExplorationRecord.of_game(game, num_envs)

    def add(self, episodes: Sequence[Episode], places: NDArray[np.int64]) -> None:
        """Takes in the games that ended with a step, and the places int64[E] after it."""
        if self._exploration is not None:
            self._exploration.add(places, episodes)
        for episode in episodes:
            self.episodes += 1
            self._returns.append(episode.score)
            self._lengths.append(episode.steps)

    @property
    def mean_return(self) -> float:
        """Mean raw return of the last 100 games; NaN before the first one."""
        return sum(self._returns) / len(self._returns) if self._returns else math.nan

    def take_metrics(self, frames: int) -> dict[str, float]:
        """Metrics by name after `frames` frames, as docs/architecture.md lists them.

        Rates are those since the last call.
        """
        values = {"train/episodes": float(self.episodes)}
        if self._returns:
            values["train/return_mean_100"] = float(np.mean(self._returns))
            values["train/steps_mean_100"] = float(np.mean(self._lengths))
        if self._exploration is not None:
            values |= self._exploration.take_metrics(frames)
        return values

    def state(self, games_lost: bool = False) -> dict[str, Any]:
        """The count, the last games, the loss and the exploration record.

        With `games_lost` the record's games in flight are left out.
        """
        record = self._exploration
        explored = {} if record is None else {"exploration": record.state(games_lost)}
        return {
            **explored,
            "episodes": self.episodes,
            "loss": self.loss,
            "returns": list(self._returns),
            "lengths": list(self._lengths),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from `state`."""
        self.episodes = int(state["episodes"])
        self.loss = float(state["loss"])
        self._returns.extend(map(float, state["returns"]))
        self._lengths.extend(map(int, state["lengths"]))
        if self._exploration is not None and "exploration" in state:  # not in older checkpoints
            self._exploration.load_state(state["exploration"])


class Report:
    """Writes the metrics of a training and updates its progress display."""

    def __init__(
        self,
        statistics: Statistics,
        logger: RunLogger,
        progress: Progress,
        threads: int,
        loss: str,
    ) -> None:
        """Make the report of a run.

        Args:
            statistics: of its games.
            logger: where metrics go.
            progress: its display.
            threads: number of learner threads, to which time spent waiting is related.
            loss: metric that is displayed as its loss.
        """
        self._loss = loss
        self._statistics = statistics
        self._logger = logger
        self._progress = progress
        self._threads = threads
        self._cpu_wait = CpuWait()
        self._long_wait = CpuWait()
        self._said_waiting = False

    def show(self, result: StepResult, updates: int) -> None:
        """Shows where the training stands after the step of `result` and `updates` updates."""
        played, epsilon = self._statistics, result.metrics.get("epsilon", math.nan)
        self._progress.update(
            result.frames, played.episodes, played.mean_return, epsilon, played.loss, updates
        )

    def log(self, result: StepResult, updates: int, learned: Mapping[str, float]) -> None:
        """Writes a line of metrics; `learned` are the learner's."""
        values = {
            **self._statistics.take_metrics(result.frames),
            "train/updates": float(updates),
            **result.metrics,
            "perf/frames_per_s": self._progress.frames_per_second,
            "perf/cpu_wait": self._cpu_wait.take(),
        }
        self._logger.scalars(result.frames, values | dict(learned))
        self._statistics.loss = learned.get(self._loss, self._statistics.loss)
        if not self._said_waiting and (seconds := self._long_wait.seconds) > _LONG:
            self._note_waiting(self._long_wait.take() / self._threads, seconds)

    def _note_waiting(self, share: float, seconds: float) -> None:
        """Warns once that other programs slow the run down, and says what helps."""
        self._said_waiting = share > _MUCH_WAITING
        if self._said_waiting:
            self._progress.note(
                f"warning: this run waited for a core {share:.0%} of the last {seconds:.0f} "
                "seconds, since other programs use them; end those, or run fewer trainings at a "
                "time"
            )
