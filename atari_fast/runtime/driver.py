"""Acting, storing and learning as an iterator; logging and checkpoints are its consumers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from atari_fast.agents.agent import Agent, B, Interrupted, Memory, Services
from atari_fast.config import FRAMES_PER_STEP
from atari_fast.envs.vector_env import VectorEnv
from atari_fast.errors import NumericError
from atari_fast.infra.checkpoint import Snapshot
from atari_fast.infra.weights import checked_like
from atari_fast.runtime.acting import StackedActor
from atari_fast.runtime.device import torch_threads
from atari_fast.runtime.directory import replay_snapshot
from atari_fast.runtime.episodes import EpisodeTracker
from atari_fast.runtime.learner import Learner
from atari_fast.runtime.objective import learning_rate
from atari_fast.schedules import fraction
from atari_fast.types import Episode, Flag, StepBatch


class StepResult(NamedTuple):
    """Where a run stands after one step of all environments."""

    frames: int
    """Emulator frames so far, over all environments."""
    episodes: list[Episode]
    """Games that ended with this step."""
    metrics: Mapping[str, float]
    """Metrics of the step and of the updates after it: `epsilon`, `lr`, `beta`."""
    places: NDArray[np.int64]
    """Where the player is after it in each environment, int64[E]; see `VectorEnv.places`."""


def progress(frames: int, learning_starts: int, total_frames: int) -> float:
    """Fraction of a run's learning that is done after `frames` emulator frames, from 0 to 1."""
    return fraction(frames - learning_starts, total_frames - learning_starts)


def learning_rates(agent: Agent[B], done: float) -> dict[str, float]:
    """Learning rate of each objective after a fraction `done` of a run's learning, as metrics."""
    first, *others = agent.objectives
    values = {"lr": learning_rate(first, done)}
    return values | {f"lr/{other.name}": learning_rate(other, done) for other in others}


class SyncDriver(Generic[B]):
    """Plays and learns until `total_frames`, yielding after every step of all environments.

    With `overlap` the next step of the environments runs while the learner computes. The order of
    appends, draws and weights is the same either way, so that a seed gives the same run, for any
    number of workers. Between two results no step is under way.
    """

    def __init__(
        self,
        agent: Agent[B],
        envs: VectorEnv,
        memory: Memory[B],
        actor: StackedActor,
        learner: Learner[B],
        services: Services | None = None,
        *,
        total_frames: int,
        overlap: bool = True,
        hook_threads: int = 1,
    ) -> None:
        """Make the driver of an agent that has services if it has hooks.

        Hooks, whose operations are large, have `hook_threads` torch threads.
        """
        self.envs = envs
        self.memory = memory
        self.actor = actor
        self.learner = learner
        self._agent = agent
        self._services = services
        self._total_frames = total_frames
        self._overlap = overlap
        self._hook_threads = hook_threads
        self._tracker = EpisodeTracker(envs.num_envs)
        self._hooks_done = [0] * len(agent.hooks)
        self.frames = 0
        """Emulator frames of the run so far."""
        self._step: StepBatch | None = None

    def __iter__(self) -> Iterator[StepResult]:
        agent, envs, memory, learner = self._agent, self.envs, self.memory, self.learner
        if self.frames >= self._total_frames:
            return
        step = self._step or envs.step(np.zeros(envs.num_envs, np.int64))
        while True:
            learning_frames = max(0, self.frames - agent.learning_starts)
            try:
                self._call_hooks("frames", learning_frames)
            except Interrupted:
                return
            done = progress(self.frames, agent.learning_starts, self._total_frames)
            acted = self.actor.act(step, self.frames)
            metrics = {**self.actor.actor.metrics(), **self.scheduled(done)}
            memory.append(step, acted)
            if self._overlap:
                envs.send(acted.actions)
            for _ in range(memory.due(self.frames, learner.updates)):
                learner.update(memory.beta(done), done)
                self._call_hooks("updates", learner.updates)
            if not self._overlap:
                envs.send(acted.actions)
            self._step = step = envs.recv()
            if not np.isfinite(step.rewards).all():
                raise NumericError(f"rewards: got {step.rewards.tolist()}, expected finite ones")
            self.frames += FRAMES_PER_STEP * int(np.count_nonzero((step.flags & Flag.FIRST) == 0))
            episodes = self._tracker.add(step)
            self.actor.actor.episodes_finished(episodes)
            yield StepResult(self.frames, episodes, metrics, envs.places())
            if self.frames >= self._total_frames:
                return

    def _call_hooks(self, unit: str, count: int) -> None:
        """Call what is due; a hook that is interrupted is due again after a resume."""
        for i, hook in enumerate(self._agent.hooks):
            if hook.unit == unit and count // hook.period > self._hooks_done[i]:
                assert self._services is not None
                with torch_threads(self._hook_threads):
                    hook.call(self._services)
                self._hooks_done[i] = count // hook.period

    def scheduled(self, done: float) -> dict[str, float]:
        """What changes with the fraction `done` of the run's learning: learning rates, `beta`."""
        beta = {"beta": self.memory.beta(done)} if self.memory.prioritized else {}
        return learning_rates(self._agent, done) | beta

    @property
    def updates(self) -> int:
        """Updates so far."""
        return self.learner.updates

    @property
    def batch(self) -> B | None:
        """The batch of the last update, if there was one."""
        return self.learner.batch

    @property
    def games_lost(self) -> bool:
        """Whether the games in flight were lost, as after the death of a worker."""
        return self.envs.closed

    def take_metrics(self) -> dict[str, float]:
        """See `Learner.take_metrics`."""
        return self.learner.take_metrics()

    def check_finite(self) -> None:
        """See `Learner.check_finite`."""
        self.learner.check_finite()

    def rest(self) -> None:
        """See `HogwildDriver.rest`; here nothing changes between two results."""

    def replay_snapshot(self, before: Path | None) -> dict[str, Snapshot]:
        """See `directory.replay_snapshot`."""
        return replay_snapshot(self.memory, before)

    def state(self, with_replay: bool, games_lost: bool = False) -> dict[str, Any]:
        """All that the run depends on but for networks and replay.

        Args:
            with_replay: also what can only go on with the replay: environments and actor.
            games_lost: leave out the games in flight: new ones begin after `load_state`.
        """
        return {
            "learner": self.learner.state(),
            "actor": self.actor.state() if with_replay else None,
            "memory": self.memory.state() if with_replay else None,
            "loop": self._loop_state(games_lost),
            "lanes": self.envs.states() if with_replay and not games_lost else None,
        }

    def load_state(self, state: Mapping[str, Any], replay: Path) -> list[str]:
        """Go on after the step at which `state` was taken.

        Args:
            state: what `state` returned.
            replay: the replay's file beside it.

        Returns:
            Sentences that say where the run does not go on as if it had never stopped.
        """
        self.memory.load(replay)
        self.learner.load_state(state["learner"])
        self.actor.load_state(state["actor"])
        self.memory.load_state(state.get("memory", {}))
        self._load_loop(state["loop"])
        if state["lanes"] is None:
            return ["the games in flight were lost with a worker; new ones begin"]
        self.envs.load_states(state["lanes"])
        return []

    def close(self) -> None:
        """End the worker processes; may be called again."""
        self.envs.close()

    def _loop_state(self, games_lost: bool) -> dict[str, Any]:
        """Counters, running scores and the step that arrived last, if there is one."""
        step = None
        if self._step is not None and not games_lost:
            step = [torch.from_numpy(field.copy()) for field in self._step]
        tracker = EpisodeTracker(self.envs.num_envs) if games_lost else self._tracker
        return {
            "frames": self.frames,
            "hooks_done": self._hooks_done,
            "tracker": tracker.state(),
            "step": step,
        }

    def _load_loop(self, state: Mapping[str, Any]) -> None:
        self.frames = int(state["frames"])
        done = map(int, state["hooks_done"])
        self._hooks_done = [number for number, _ in zip(done, self._agent.hooks, strict=True)]
        self._tracker.load_state(state["tracker"])
        if state["step"] is None:
            return
        num_envs = self.envs.num_envs
        fields = (
            torch.empty(num_envs, *self.envs.spec.frame_shape, dtype=torch.uint8),
            torch.empty(num_envs, dtype=torch.float32),
            torch.empty(num_envs, dtype=torch.uint8),
        )
        pairs = zip(state["step"], fields, strict=True)
        self._step = StepBatch._make(checked_like(value, field).numpy() for value, field in pairs)
