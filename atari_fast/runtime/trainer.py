"""A training run: its directory, and what becomes of every result of the loop."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from atari_fast.agents.agent import ActorSpec
from atari_fast.agents.registry import build
from atari_fast.config import Config, HogwildConfig
from atari_fast.config_io import from_record, to_record
from atari_fast.envs.atari_env import make_env
from atari_fast.envs.vector_env import VectorEnv
from atari_fast.errors import CheckpointError, NumericError, WorkerError
from atari_fast.games import canonical_name
from atari_fast.infra.checkpoint import (
    Checkpoint,
    mark_best,
    open_checkpoints,
    write_checkpoint,
)
from atari_fast.infra.cpu import available_cores
from atari_fast.infra.files import wrap_errors
from atari_fast.infra.logging import RunLogger
from atari_fast.infra.memory import require_memory
from atari_fast.infra.progress import Progress
from atari_fast.infra.weights import pack_state
from atari_fast.runtime.acting import StackedActor
from atari_fast.runtime.crash import crash_text
from atari_fast.runtime.device import Autocast, keep_freed_memory, select_device, set_threads
from atari_fast.runtime.directory import (
    REPLAY,
    create_run_directory,
    saved_state,
)
from atari_fast.runtime.driver import StepResult, SyncDriver
from atari_fast.runtime.evaluation import evaluate
from atari_fast.runtime.fingerprint import changes, fingerprint, saved_threads, schedule_changes
from atari_fast.runtime.hogwild import HogwildDriver
from atari_fast.runtime.interrupt import Interrupt
from atari_fast.runtime.learner import Learner
from atari_fast.runtime.services import RunServices
from atari_fast.runtime.statistics import Report, Statistics
from atari_fast.seeding import stream, to_int

_KEPT_CHECKPOINTS = 2


class Trainer:
    """Everything that one training run needs, built from its configuration alone.

    With a checkpoint that holds a replay it goes on where that was written, as if it had never
    stopped.
    """

    def __init__(self, config: Config, resumed: Checkpoint | None = None) -> None:
        self.config = config = dataclasses.replace(config, game=canonical_name(config.game))
        self._hogwild = isinstance(config, HogwildConfig)
        # Workers that learn have devices of their own; their shared weights are on the CPU.
        self.device = select_device("cpu" if self._hogwild else config.device)
        self._cuda = self.device.type == "cuda"
        state = saved_state(resumed) if resumed else {}
        self._with_replay = config.run.replay_period > 0
        self.threads = config.threads or saved_threads(state) or available_cores()
        """Threads of the learner on the CPU, which its numbers depend on."""
        keep_freed_memory()
        torch.manual_seed(to_int(stream(config.seed, "torch")))
        self.autocast = Autocast(self.device, config.precision)
        self.spec = make_env(config.game, config.env, stream(config.seed, "lanes")).spec
        self.agent = build(config, self.spec, self.device)
        self._require_memory()
        self.interrupt = Interrupt()
        self.driver = self._make_driver(resumed.frames if resumed else 0)
        self._unlock: Callable[[], object] = lambda: None
        try:
            self.statistics = Statistics(config.game, config.env.num_envs)
            self.frames = 0
            self.best = -math.inf
            self._best_at = -1
            self._failed_saves = 0
            self._changes: list[str] = []
            self._evaluation_pending = False
            self._saved_at = self._replay_at = 0
            self._seconds = 0.0
            self._metrics_size: int | None = None
            self._saved_replay: Path | None = None
            if resumed is None:
                self.directory, lock = create_run_directory(config)
            else:
                self.directory = Path(config.run.dir)
                lock = open_checkpoints(self.directory / "checkpoints")
            self._unlock = weakref.finalize(self, os.close, lock)
            if resumed is not None:
                self._require_memory()  # the saved replay comes into being beside the empty one
                with wrap_errors(resumed.path):
                    self._load(resumed, state)
                self._mark_best(resumed.path)  # it may have been killed just before it did
        except BaseException:
            self.driver.close()
            self._unlock()
            raise

    def _make_driver(self, frames: int) -> SyncDriver[Any] | HogwildDriver[Any]:
        config, agent = self.config, self.agent
        if isinstance(config, HogwildConfig):
            select_device(config.device)  # refuses one that is not there
            return HogwildDriver(config, agent, lambda text: self.progress.note(text), frames)
        memory = agent.make_memory(to_int(stream(config.seed, "replay")))
        learner = Learner(
            agent,
            memory,
            self.device,
            self.autocast,
            check_period=100 if self._cuda else 1,
            threads=self.threads if agent.parallel and not self._cuda else 1,
        )
        rng = np.random.default_rng(stream(config.seed, "actor"))
        acting = ActorSpec(config.env.num_envs, "train", rng, self.autocast)
        services = RunServices(
            config,
            agent,
            self.spec,
            self.device,
            self.autocast,
            memory,
            learner.optimizers,
            now=lambda: self.frames,
            stop=lambda: self.interrupt.requested,
            busy=lambda text: self.progress.busy(text),
            log=self._log_hook,
        )
        return SyncDriver(
            agent,
            VectorEnv(config.game, config.env, stream(config.seed, "lanes")),
            memory,
            StackedActor(agent, acting, self.spec, self.device),
            learner,
            services,
            total_frames=config.total_frames,
            overlap=config.overlap,
            hook_threads=self.threads,
        )

    def _require_memory(self) -> None:
        for need in self.agent.memory_needs:
            require_memory(need.bytes, need.setting, need.remedy)

    def run(self) -> bool:
        """Trains to the end; returns False when a signal ended it before, after saving.

        Raises:
            NumericError: the loss or the weights are not finite; the last checkpoint is whole.
            WorkerError: a worker died or hung; says so where what was learned is not saved.
            CheckpointError: the last checkpoint could not be written.
        """
        try:
            return self._run()
        finally:
            self._unlock()

    def _run(self) -> bool:
        config = self.config
        # A thread has a number of its own. On the CPU the learner splits batches, not operations.
        set_threads(self.threads if self._cuda else 1)
        with (
            contextlib.closing(self.driver),
            self.interrupt,
            RunLogger(
                self.directory,
                config.run.tensorboard,
                size=self._metrics_size,
                frames=self.frames,
                seconds=self._seconds,
            ) as self.logger,
            Progress(
                config.total_frames, first_frame=self.frames, title=str(self.directory)
            ) as self.progress,
        ):
            loss = f"loss/{self.agent.objectives[0].name}"
            self.report = Report(self.statistics, self.logger, self.progress, self.threads, loss)
            if self.frames:
                self.progress.note(f"goes on from {self.frames:,} frames")
            for change in self._changes:
                self.progress.note(f"warning: {change}")
            try:
                self._train()
            except NumericError as error:
                batch = self.driver.batch
                text = crash_text(self.directory, self.frames, config, self.agent, batch)
                raise NumericError(f"{error}; {text}") from error
            finally:
                if self._failed_saves:
                    self.progress.note(f"warning: saves that failed: {self._failed_saves}")
            self.progress.note(f"saved {self.directory}")
        return not self.interrupt.requested

    def _train(self) -> None:
        """Plays and learns to the end or to a signal, and saves; raises as `run`."""
        try:
            if self._evaluation_pending:
                self._evaluate(with_replay=True)
            results = iter(self.driver)
            while not self.interrupt.requested and (result := next(results, None)):
                self._take(result)
                asked = self.interrupt.take_save_request()
                if asked and self._unsaved() and self._try_save(self._with_replay):
                    self.progress.note(f"saved at {self.frames:,} frames, as a signal asked")
            if self._unsaved():
                self.save(self._with_replay)
        except WorkerError as error:
            self._save_without_workers(error)

    def _unsaved(self) -> bool:
        """Whether these frames have no checkpoint of the kind that the run keeps."""
        return (self._replay_at if self._with_replay else self._saved_at) != self.frames

    def _save_without_workers(self, error: WorkerError) -> None:
        """Saves what was learned, without games in flight where those were lost; raises `error`.

        Not where a signal ended the run: one to all processes ends workers too.
        """
        self._best_at = -1  # the weights are later ones
        try:
            self.save(with_replay=True, games_lost=self.driver.games_lost)
        except CheckpointError as problem:
            if self.interrupt.requested:
                raise
            raise WorkerError(f"{error}; what was learned is lost too: {problem}") from error
        if not self.interrupt.requested:
            raise error

    def _take(self, result: StepResult) -> None:
        run = self.config.run
        before, self.frames = self.frames, result.frames
        self.statistics.add(result.episodes, result.places)
        updates = self.driver.updates
        self.report.show(result, updates)

        def passed(period: int) -> bool:
            return period > 0 and before // period < self.frames // period

        last = self.frames >= self.config.total_frames
        if last or passed(run.log_period):
            self.report.log(result, updates, self.driver.take_metrics())
        with_replay = run.replay_period > 0 and (last or passed(run.replay_period))
        if passed(run.eval_period):
            self._evaluate(with_replay)
        elif not last and (passed(run.checkpoint_period) or with_replay):  # `run` saves the last
            self._try_save(with_replay)

    def _log_hook(self, values: Mapping[str, float], note: str) -> None:
        self.logger.scalars(self.frames, dict(values))
        self.progress.note(f"{note} (at {self.frames:,} frames)")

    def _evaluate(self, with_replay: bool) -> None:
        run = self.config.run
        self._evaluation_pending = True  # until it is done, whatever ends it
        self.driver.rest()
        result = evaluate(
            self.agent,
            self.config,
            self.spec,
            self.device,
            self.autocast,
            episodes=run.eval_episodes,
            epsilon=run.eval_epsilon,
            seed=to_int(stream(self.config.seed, f"evaluation/{self.frames}"), 31),
            stop=lambda: self.interrupt.requested,
        )
        self._evaluation_pending = self.interrupt.requested
        if self._evaluation_pending:
            return
        summary = result.summary()
        keys = ("mean", "median", "min", "max", *result.explored)
        values = {f"eval/{key}": float(summary[key]) for key in keys}
        self.logger.scalars(self.frames, values)
        self._try_save(with_replay, result.mean)
        self.progress.note(
            f"evaluation at {self.frames:,} frames: mean {summary['mean']:.1f} over "
            f"{run.eval_episodes} games (min {summary['min']:.0f}, max {summary['max']:.0f})"
        )

    def _try_save(self, with_replay: bool, score: float = -math.inf) -> bool:
        """Saves, or returns False: the run goes on, and the next checkpoint may succeed.

        `score` is the mean of the evaluation at these frames, if there was one.
        """
        before = self.best, self._best_at
        if score > self.best:
            self.best, self._best_at = score, self.frames
        try:
            self._mark_best(self.save(with_replay))
        except CheckpointError as error:
            self.best, self._best_at = before
            self._failed_saves += 1
            self.progress.note(f"warning: {error}; training goes on")
            return False
        return True

    def _mark_best(self, path: Path) -> None:
        """Points to the checkpoint `path` of these frames if they have the best evaluation."""
        if self._best_at == self.frames:
            mark_best(path.parent, path, self.best)

    def save(self, with_replay: bool, games_lost: bool = False) -> Path:
        """Writes a checkpoint: networks, configuration, counters, the state of all other parts.

        Args:
            with_replay: also the replay and the games in flight, without which it cannot be
                resumed.
            games_lost: there are no games in flight any more; a resumed run begins new ones.

        Raises:
            NumericError: the weights are not finite; nothing is written.
            CheckpointError: it cannot be written.
            WorkerError: a worker died or hung.
        """
        self.driver.rest()
        self.driver.check_finite()
        nets = {name: net.state_dict() for name, net in self.agent.nets.items()}
        state, record = pack_state(self._state(with_replay, games_lost))
        path = write_checkpoint(
            self.directory / "checkpoints",
            self.frames,
            {**nets, "state": state},
            {"config": to_record(self.config), "state": record},
            keep_last=_KEPT_CHECKPOINTS,
            snapshots=self.driver.replay_snapshot(self._saved_replay) if with_replay else None,
            keep=self._saved_replay.parent if self._saved_replay and not with_replay else None,
        )
        if with_replay:
            self._saved_replay, self._replay_at = path / f"{REPLAY}.bin", self.frames
        self._saved_at = self.frames
        return path

    def _state(self, with_replay: bool, games_lost: bool) -> dict[str, Any]:
        """Everything but networks and replay; without a replay neither environments nor actor."""
        return {
            "run": {
                **self.statistics.state(games_lost or self._hogwild),
                "frames": self.frames,
                "best": None if self.best == -math.inf else self.best,
                "best_at": self._best_at,
                "owes_evaluation": self._evaluation_pending,
                "conditions": fingerprint(self.device, self.autocast, self.threads),
                "metrics_size": self.logger.size,
                "seconds": self.logger.seconds,
            },
            **self.driver.state(with_replay, games_lost),
            "parts": {name: part.state() for name, part in self.agent.parts.items()},
            "torch_rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(self.device) if self._cuda else None,
        }

    def _load(self, checkpoint: Checkpoint, state: Mapping[str, Any]) -> None:
        """Goes to the state of a checkpoint that `save` wrote with a replay."""
        for name, net in self.agent.nets.items():
            net.load_state_dict(checkpoint.tensors[name])
        self._saved_replay = checkpoint.path / f"{REPLAY}.bin"
        lost = self.driver.load_state(state, self._saved_replay)
        for name, part in self.agent.parts.items():
            part.load_state(state["parts"][name])
        torch.set_rng_state(state["torch_rng"])
        if self._cuda and state.get("cuda_rng") is not None:  # None: it ran on the CPU before
            torch.cuda.set_rng_state(state["cuda_rng"], self.device)
        run = state["run"]
        self.frames = self._saved_at = self._replay_at = checkpoint.frames
        if not run["frames"] == state["loop"]["frames"] == self.frames:
            raise ValueError("its counts of frames differ")
        self.statistics.load_state(run)
        self.best = -math.inf if run["best"] is None else float(run["best"])
        self._best_at = int(run["best_at"])
        self._evaluation_pending = bool(run["owes_evaluation"])
        self._changes = changes(
            checkpoint.manifest.get("versions", {}),
            run.get("conditions", {}),
            fingerprint(self.device, self.autocast, self.threads),
        )
        total_before = from_record(checkpoint.records["config"]).total_frames
        self._changes += schedule_changes(
            self.driver.scheduled,
            self.agent.learning_starts,
            self.frames,
            total_before,
            self.config.total_frames,
        )
        self._changes += lost
        self._metrics_size = int(run["metrics_size"])
        self._seconds = float(run.get("seconds", 0.0))
