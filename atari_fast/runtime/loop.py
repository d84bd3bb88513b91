"""Acting, storing and learning as a generator; logging and checkpoints are its consumers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from atari_fast.agents.parts import AgentParts
from atari_fast.config import FRAMES_PER_STEP, Config
from atari_fast.envs.pool import LanePool
from atari_fast.replay.transition import TransitionReplay
from atari_fast.runtime.actor import Actor
from atari_fast.runtime.episodes import Episode, EpisodeTracker
from atari_fast.runtime.learner import Learner
from atari_fast.runtime.rate_limiter import RateLimiter
from atari_fast.schedules import linear
from atari_fast.types import Flag


class Tick(NamedTuple):
    """Where a run stands after one step of all lanes."""

    frames: int
    """Emulator frames so far, over all lanes."""
    epsilon: float
    """Probability of a random action in this step."""
    finished: list[Episode]
    """Games that ended with this step."""


def run_loop(
    config: Config,
    parts: AgentParts,
    pool: LanePool,
    replay: TransitionReplay,
    actor: Actor,
    learner: Learner,
) -> Iterator[Tick]:
    """Plays and learns until `config.total_frames`, yielding after every step of all lanes.

    With `config.overlap` the lanes' next step runs while the learner computes. The order of
    appends, draws and weights is the same either way, so that a seed gives the same run, for any
    number of workers.
    """
    limiter = RateLimiter(config.replay.min_frames, config.optim.update_period)
    learning_span = config.total_frames - config.replay.min_frames
    beta = linear(config.replay.beta_start, config.replay.beta_end, learning_span)
    lr_share = linear(1.0, config.optim.lr_end_share, learning_span)
    hooks_done = [0] * len(parts.hooks)
    tracker = EpisodeTracker(pool.num_lanes)
    frames = 0
    step = pool.step(np.zeros(pool.num_lanes, np.int64))
    while True:
        learning_frames = limiter.learning_frames(frames)
        epsilon = parts.epsilon(learning_frames)
        actions = actor.act(step, epsilon)
        replay.append(step, actions)
        if config.overlap:
            pool.send(actions)
        for _ in range(limiter.due(frames, learner.updates)):
            learner.update(beta(learning_frames), lr_share(learning_frames))
        for i, hook in enumerate(parts.hooks):
            if learning_frames // hook.period > hooks_done[i]:
                hooks_done[i] = learning_frames // hook.period
                hook.call()
        if not config.overlap:
            pool.send(actions)
        step = pool.recv()
        frames += FRAMES_PER_STEP * int(np.count_nonzero((step.flags & Flag.FIRST) == 0))
        yield Tick(frames, epsilon, tracker.add(step))
        if frames >= config.total_frames:
            return
