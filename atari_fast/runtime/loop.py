"""Acting, storing and learning as an iterator; logging and checkpoints are its consumers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from atari_fast.agents.parts import AgentParts, Interrupted, Services
from atari_fast.config import FRAMES_PER_STEP, Config
from atari_fast.envs.vector_env import VectorEnv
from atari_fast.errors import NumericError
from atari_fast.infra.weights import checked_like
from atari_fast.replay.transition import TransitionReplay
from atari_fast.runtime.actor import Actor
from atari_fast.runtime.device import torch_threads
from atari_fast.runtime.episodes import Episode, EpisodeTracker
from atari_fast.runtime.learner import Learner
from atari_fast.runtime.rate_limiter import RateLimiter
from atari_fast.schedules import linear
from atari_fast.types import Flag, StepBatch


class StepResult(NamedTuple):
    """Where a run stands after one step of all environments."""

    frames: int
    """Emulator frames so far, over all environments."""
    epsilon: float
    """Probability of a random action in this step."""
    finished: list[Episode]
    """Games that ended with this step."""
    beta: float | None
    """Importance exponent of the updates after this step; None where draws are uniform."""
    lr: float
    """Their learning rate."""


class Schedules(NamedTuple):
    """What changes with the frames since learning began."""

    beta: Callable[[int], float]
    """Importance exponent."""
    lr_fraction: Callable[[int], float]
    """Learning rate as a fraction of the configured one."""


def schedules(config: Config) -> Schedules:
    """The schedules of a run, which end with its last frame."""
    span = config.total_frames - config.replay.min_frames
    return Schedules(
        beta=linear(config.replay.beta_start, config.replay.beta_end, span),
        lr_fraction=linear(1.0, config.optim.lr_final_fraction, span),
    )


class Loop:
    """Plays and learns until `config.total_frames`, yielding after every step of all environments.

    With `config.overlap` the environments' next step runs while the learner computes. The order of
    appends, draws and weights is the same either way, so that a seed gives the same run, for any
    number of workers. Between two results no step is under way, and `state` is all that the loop
    itself keeps.
    """

    def __init__(
        self,
        config: Config,
        parts: AgentParts,
        envs: VectorEnv,
        replay: TransitionReplay,
        actor: Actor,
        learner: Learner,
        services: Services,
        hook_threads: int = 1,
    ) -> None:
        """Makes the loop; hooks, whose operations are large, have `hook_threads` torch threads."""
        self._config = config
        self._parts = parts
        self._envs = envs
        self._replay = replay
        self._actor = actor
        self._learner = learner
        self._services = services
        self._hook_threads = hook_threads
        self._tracker = EpisodeTracker(envs.num_envs)
        self._hooks_done = [0] * len(parts.hooks)
        self._frames = 0
        self._step: StepBatch | None = None

    def __iter__(self) -> Iterator[StepResult]:
        config, parts, envs, learner = self._config, self._parts, self._envs, self._learner
        limiter = RateLimiter(config.replay.min_frames, config.optim.update_period)
        schedule = schedules(config)
        if self._frames >= config.total_frames:
            return
        step = self._step or envs.step(np.zeros(envs.num_envs, np.int64))
        while True:
            learning_frames = limiter.learning_frames(self._frames)
            try:
                self._call_hooks(learning_frames)
            except Interrupted:
                return
            epsilon = parts.epsilon(learning_frames)
            beta, lr_fraction = (value(learning_frames) for value in schedule)
            actions = self._actor.act(step, epsilon)
            self._replay.append(step, actions)
            if config.overlap:
                envs.send(actions)
            for _ in range(limiter.due(self._frames, learner.updates)):
                learner.update(beta, lr_fraction)
            if not config.overlap:
                envs.send(actions)
            self._step = step = envs.recv()
            if not np.isfinite(step.rewards).all():
                raise NumericError(f"rewards: got {step.rewards.tolist()}, expected finite ones")
            self._frames += FRAMES_PER_STEP * int(np.count_nonzero((step.flags & Flag.FIRST) == 0))
            finished = self._tracker.add(step)
            yield StepResult(
                self._frames,
                epsilon,
                finished,
                beta if config.replay.prioritized else None,
                config.optim.lr * lr_fraction,
            )
            if self._frames >= config.total_frames:
                return

    def _call_hooks(self, learning_frames: int) -> None:
        """Calls what is due; a hook that is interrupted is due again after a resume."""
        for i, hook in enumerate(self._parts.hooks):
            if learning_frames // hook.period > self._hooks_done[i]:
                with torch_threads(self._hook_threads):
                    hook.call(self._services)
                self._hooks_done[i] = learning_frames // hook.period

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
        self._hooks_done = [number for number, _ in zip(done, self._parts.hooks, strict=True)]
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
