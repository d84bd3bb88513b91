"""Worker processes that play and learn with shared weights (A3C, Mnih et al. 2016)."""

from __future__ import annotations

import dataclasses
import multiprocessing
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from multiprocessing import connection
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any, Generic, NoReturn

import numpy as np
import torch

from atari_fast.agents.agent import Agent, B, map_batch
from atari_fast.config import HogwildConfig
from atari_fast.envs.processes import Worker, check_program, died, silent, start_worker, stop
from atari_fast.errors import EnvError, NumericError, WorkerError
from atari_fast.infra.checkpoint import Snapshot
from atari_fast.infra.cpu import available_cores
from atari_fast.infra.files import replace_file
from atari_fast.runtime.directory import REPLAY
from atari_fast.runtime.driver import StepResult, learning_rates
from atari_fast.runtime.hogwild_worker import Failure, HogwildTask, RolloutReport, serve_rollouts
from atari_fast.runtime.learner import not_finite
from atari_fast.runtime.shared import SharedTraining

_START_SECONDS = 60.0
"""Seconds that a worker has at least for its imports and its first environments."""
_SLICE_SECONDS = 0.25
"""Longest time that is waited before it is counted for how long workers were silent."""


@dataclasses.dataclass
class _Member:
    """A worker, and what is known of it."""

    index: int
    envs: range
    worker: Worker
    starting: bool = True
    asked: bool = True
    """Whether an answer is to come: that it is ready, or a rollout."""
    waited: float = 0.0
    """Seconds that this process has waited for it."""


class HogwildDriver(Generic[B]):
    """Workers that play rollouts and update shared weights, each as fast as it can.

    A worker begins its next rollout when the report of the last one is taken in, so that all of
    them stop a rollout later when nobody asks for results. A worker that dies is replaced; what it
    had in flight is lost.
    """

    def __init__(
        self, config: HogwildConfig, agent: Agent[B], note: Callable[[str], None], frames: int = 0
    ) -> None:
        """Move the weights of an agent on the CPU into shared memory and start the workers.

        Args:
            config: settings; its `env.num_workers` of -1 stands for one for each core.
            agent: the agent. It has one objective, and no hooks.
            note: displays a sentence, once the iterator is used.
            frames: emulator frames of the run so far, where it goes on.

        Raises:
            ConfigError: this program can have no workers.
            EnvError, WorkerError: a worker failed or died while it started.
        """
        (objective,) = agent.objectives
        assert not agent.hooks
        env = config.env
        self._config = config
        self._agent = agent
        self._net = objective.net
        self._note = note
        self._workers = min(
            available_cores() if env.num_workers == -1 else env.num_workers, env.num_envs
        )
        check_program(self._workers, "")
        self._context = multiprocessing.get_context("spawn")
        self._shared = SharedTraining(self._net, config.optim, self._workers, context=self._context)
        self.frames = frames
        """Emulator frames of the run so far."""
        self.updates = 0
        """Updates so far, of all workers."""
        self.batch: B | None = None
        """The batch of a failed update."""
        self._deaths = 0
        self._ready = False
        self._sums: dict[str, float] = {}
        self._summed = 0
        self._reports: deque[tuple[_Member, RolloutReport]] = deque()
        self._processes: list[Worker] = []
        self._close = weakref.finalize(self, stop, self._processes)
        Finalize(self, stop, (self._processes,), exitpriority=10)  # before Python waits for them
        try:
            self._members = [self._start(index) for index in range(self._workers)]
            self.rest()
            self._ready = True
        except BaseException:
            self.close()
            raise

    def _start(self, index: int) -> _Member:
        config, workers = self._config, self._workers
        total = config.env.num_envs
        envs = range(total * index // workers, total * (index + 1) // workers)
        begin = f"{self.frames}/{self._deaths}"
        task = HogwildTask(config, index, workers, begin, envs, self._shared.memory)
        worker = start_worker(self._context, index, config.game, envs, serve_rollouts, task)
        self._processes.append(worker)
        return _Member(index, envs, worker)

    def __iter__(self) -> Iterator[StepResult]:
        total, cores = self._config.total_frames, available_cores()
        if self._workers > cores:
            self._note(f"warning: {self._workers} workers share {cores} cores; see env.num_workers")
        while self.frames < total:
            for member in self._members:
                if not (member.asked or any(member is one for one, _ in self._reports)):
                    self._ask(member, self.frames)
            if not self._reports:
                self._receive()
                continue
            member, report = self._reports.popleft()
            self._ask(member, self.frames + sum(step.frames for step in report.steps))
            self._add_metrics(report)
            for step in report.steps:
                self.frames += step.frames
                first = member.envs.start
                places = np.full(self._config.env.num_envs, -1, np.int64)
                places[first : member.envs.stop] = step.places
                episodes = [one._replace(env=first + one.env) for one in step.episodes]
                yield StepResult(self.frames, episodes, report.metrics, places)
                if self.frames >= total:
                    return

    def rest(self) -> None:
        """Wait until every worker has ended its rollout, so that the weights stay as they are.

        What they report is yielded later. A checkpoint does not count it, though the weights have
        learned from it.

        Raises:
            EnvError, NumericError, WorkerError: as the iterator.
        """
        while not self.games_lost and any(member.asked for member in self._members):
            self._receive()

    def _ask(self, member: _Member, frames: int) -> None:
        """Let a worker play its next rollout, after `frames` frames of the run."""
        member.asked = True
        try:
            member.worker.pipe.send(frames)
        except ConnectionError:
            self._lost(member, died(member.worker, starting=False))

    def _receive(self) -> None:
        """Wait for an answer, and take in all that are there; replace workers that died."""
        asked = [member for member in self._members if member.asked]
        pipes = [member.worker.pipe for member in asked]
        start = time.monotonic()
        ready = connection.wait(pipes, _SLICE_SECONDS)
        # A process that stood still (Ctrl-Z, a frozen container) waited for a slice at most.
        seconds = min(_SLICE_SECONDS, time.monotonic() - start)
        for member in asked:
            if member.worker.pipe in ready:
                self._take(member)
                continue
            member.waited += seconds
            limit = self._config.env.worker_timeout
            if member.starting:
                limit = max(limit, _START_SECONDS + len(member.envs))
            if member.waited > limit:
                member.worker.process.kill()
                self._lost(member, silent([member.worker], limit))

    def _take(self, member: _Member) -> None:
        """Take in an answer."""
        try:
            answer = member.worker.pipe.recv()
        except (EOFError, OSError):  # OSError: it died in the middle of an answer
            self._lost(member, died(member.worker, member.starting))
            return
        if isinstance(answer, Failure):
            self._raise(member, answer)
        member.asked, member.waited = False, 0.0
        member.starting = False
        if answer is not None:
            self._reports.append((member, answer))

    def _lost(self, member: _Member, text: str) -> None:
        """Start a new worker in the place of one that died, if that may happen once more.

        Where the run itself is starting, most likely none can start.
        """
        if not self._ready:
            self._fail(WorkerError(text))
        self._deaths += 1
        most = self._config.rollout.worker_restarts
        if self._deaths > most:
            self._fail(
                WorkerError(
                    f"{text}; {self._deaths} workers died, rollout.worker_restarts allows {most}"
                )
            )
        stop([member.worker])
        self._processes.remove(member.worker)
        try:
            self._members[member.index] = self._start(member.index)
        except WorkerError as error:
            self._fail(WorkerError(f"{text}; {error}"))
        self._note(f"warning: {text}; a new one takes its place ({self._deaths} of {most})")

    def _raise(self, member: _Member, failure: Failure) -> NoReturn:
        """Raise what stands for the exception of a worker."""
        name = member.worker.name
        cause = RuntimeError(f"in {name}:\n{failure.trace}")
        if failure.batch is not None:  # and the weights from which it was computed
            self.batch = map_batch(torch.from_numpy, failure.batch)
            for weight, value in zip(self._net.parameters(), failure.weights, strict=True):
                weight.data.copy_(torch.from_numpy(value))
        text = failure.text if member.starting else f"{name} failed: {failure.text}"
        kinds = {"numeric": NumericError, "environment": EnvError}
        self.close()
        raise kinds.get(failure.kind, WorkerError)(text) from cause

    def _fail(self, error: Exception) -> NoReturn:
        self.close()
        raise error

    def _add_metrics(self, report: RolloutReport) -> None:
        self.updates += report.updates
        self._summed += report.updates
        for name, value in report.learned.items():
            self._sums[name] = self._sums.get(name, 0.0) + value * report.updates

    def take_metrics(self) -> dict[str, float]:
        """Means of the metrics of the updates since the last call."""
        metrics = {name: value / max(1, self._summed) for name, value in self._sums.items()}
        self._sums, self._summed = {}, 0
        return metrics

    def check_finite(self) -> None:
        """Raise NumericError when a weight is not finite."""
        if not all(bool(torch.isfinite(weight).all()) for weight in self._net.parameters()):
            raise not_finite("network: its weights", self.updates)

    def scheduled(self, done: float) -> dict[str, float]:
        """Learning rates after a fraction `done` of the run's learning."""
        return learning_rates(self._agent, done)

    @property
    def games_lost(self) -> bool:
        """Whether the workers are gone."""
        return not self._close.alive

    def replay_snapshot(self, before: Path | None) -> dict[str, Snapshot]:
        """An empty file, by which a checkpoint is known to be one that a run can go on from."""
        del before
        return {REPLAY: Snapshot(0, lambda path: replace_file(path, b""))}

    def state(self, with_replay: bool, games_lost: bool = False) -> dict[str, Any]:
        """Statistics of the optimizers, and counters; games in flight are not saved."""
        del with_replay, games_lost
        return {
            "learner": {
                "optimizers": self._shared.state(),
                "updates": self.updates,
                "sums": self._sums,
                "summed": self._summed,
            },
            "loop": {"frames": self.frames},
        }

    def load_state(self, state: Mapping[str, Any], replay: Path) -> list[str]:
        """Go on with the statistics and counters of `state`; see `SyncDriver.load_state`."""
        del replay
        learner, loop = state["learner"], state["loop"]
        self._shared.load_state(learner["optimizers"])
        self.updates, self._summed = int(learner["updates"]), int(learner["summed"])
        self._sums = {name: float(value) for name, value in learner["sums"].items()}
        self.frames = int(loop["frames"])
        return [
            "workers begin new games and update the weights in the order in which they get there, "
            "so the run does not end as the one that never stopped"
        ]

    def close(self) -> None:
        """End the workers; may be called again."""
        self._close()
