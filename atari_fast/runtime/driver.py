"""Acting, storing and learning as an iterator; logging and checkpoints are its consumers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Generic, NamedTuple

import numpy as np
import torch

from atari_fast.agents.agent import Agent, B, Interrupted, Memory, Services
from atari_fast.config import FRAMES_PER_STEP
from atari_fast.envs.vector_env import VectorEnv
from atari_fast.errors import NumericError
from atari_fast.infra.weights import checked_like
from atari_fast.runtime.acting import StackedActor
from atari_fast.runtime.device import torch_threads
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


def progress(frames: int, learning_starts: int, total_frames: int) -> float:
    """Fraction of a run's learning that is done after `frames` emulator frames, from 0 to 1."""
    return fraction(frames - learning_starts, total_frames - learning_starts)


def scheduled(agent: Agent[B], memory: Memory[B], done: float) -> dict[str, float]:
    """What changes with the fraction `done` of a run's learning: learning rates and `beta`."""
    first, *others = agent.objectives
    values = {"lr": learning_rate(first, done)}
    values |= {f"lr/{other.name}": learning_rate(other, done) for other in others}
    return values | ({"beta": memory.beta(done)} if memory.prioritized else {})


class SyncDriver(Generic[B]):
    """Plays and learns until `total_frames`, yielding after every step of all environments.

    With `overlap` the next step of the environments runs while the learner computes. The order of
    appends, draws and weights is the same either way, so that a seed gives the same run, for any
    number of workers. Between two results no step is under way, and `state` is all that the driver
    itself keeps.
    """

    def __init__(
        self,
        agent: Agent[B],
        envs: VectorEnv,
        memory: Memory[B],
        actor: StackedActor,
        learner: Learner[B],
        services: Services,
        *,
        total_frames: int,
        overlap: bool = True,
        hook_threads: int = 1,
    ) -> None:
        """Make the driver; hooks, whose operations are large, have `hook_threads` torch threads."""
        self._agent = agent
        self._envs = envs
        self._memory = memory
        self._actor = actor
        self._learner = learner
        self._services = services
        self._total_frames = total_frames
        self._overlap = overlap
        self._hook_threads = hook_threads
        self._tracker = EpisodeTracker(envs.num_envs)
        self._hooks_done = [0] * len(agent.hooks)
        self._frames = 0
        self._step: StepBatch | None = None

    def __iter__(self) -> Iterator[StepResult]:
        agent, envs, memory, learner = self._agent, self._envs, self._memory, self._learner
        if self._frames >= self._total_frames:
            return
        step = self._step or envs.step(np.zeros(envs.num_envs, np.int64))
        while True:
            learning_frames = max(0, self._frames - agent.learning_starts)
            try:
                self._call_hooks("frames", learning_frames)
            except Interrupted:
                return
            done = progress(self._frames, agent.learning_starts, self._total_frames)
            acted = self._actor.act(step, self._frames)
            metrics = {**self._actor.actor.metrics(), **scheduled(agent, memory, done)}
            memory.append(step, acted)
            if self._overlap:
                envs.send(acted.actions)
            for _ in range(memory.due(self._frames, learner.updates)):
                learner.update(memory.beta(done), done)
                self._call_hooks("updates", learner.updates)
            if not self._overlap:
                envs.send(acted.actions)
            self._step = step = envs.recv()
            if not np.isfinite(step.rewards).all():
                raise NumericError(f"rewards: got {step.rewards.tolist()}, expected finite ones")
            self._frames += FRAMES_PER_STEP * int(np.count_nonzero((step.flags & Flag.FIRST) == 0))
            episodes = self._tracker.add(step)
            self._actor.actor.episodes_finished(episodes)
            yield StepResult(self._frames, episodes, metrics)
            if self._frames >= self._total_frames:
                return

    def _call_hooks(self, unit: str, count: int) -> None:
        """Call what is due; a hook that is interrupted is due again after a resume."""
        for i, hook in enumerate(self._agent.hooks):
            if hook.unit == unit and count // hook.period > self._hooks_done[i]:
                with torch_threads(self._hook_threads):
                    hook.call(self._services)
                self._hooks_done[i] = count // hook.period

    def state(self, games_lost: bool = False) -> dict[str, Any]:
        """Counters, running scores and the step that arrived last, if there is one.

        With `games_lost` the games in flight are left out: new ones begin after `load_state`.
        """
        step = None
        if self._step is not None and not games_lost:
            step = [torch.from_numpy(field.copy()) for field in self._step]
        tracker = EpisodeTracker(self._envs.num_envs) if games_lost else self._tracker
        return {
            "frames": self._frames,
            "hooks_done": self._hooks_done,
            "tracker": tracker.state(),
            "step": step,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes on after the step at which `state` was taken."""
        self._frames = int(state["frames"])
        done = map(int, state["hooks_done"])
        self._hooks_done = [number for number, _ in zip(done, self._agent.hooks, strict=True)]
        self._tracker.load_state(state["tracker"])
        if state["step"] is None:
            return
        num_envs = self._envs.num_envs
        fields = (
            torch.empty(num_envs, *self._envs.spec.frame_shape, dtype=torch.uint8),
            torch.empty(num_envs, dtype=torch.float32),
            torch.empty(num_envs, dtype=torch.uint8),
        )
        pairs = zip(state["step"], fields, strict=True)
        self._step = StepBatch._make(checked_like(value, field).numpy() for value, field in pairs)
