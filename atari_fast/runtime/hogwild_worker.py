"""A worker of `HogwildDriver`: it plays its environments and changes the shared weights."""

from __future__ import annotations

import dataclasses
import signal
import traceback
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from atari_fast.agents.agent import ActorSpec, map_batch
from atari_fast.agents.registry import build
from atari_fast.config import HogwildConfig
from atari_fast.envs.vector_env import VectorEnv
from atari_fast.envs.worker import NOT_FOR_WORKERS
from atari_fast.errors import EnvError, NumericError
from atari_fast.runtime.acting import StackedActor
from atari_fast.runtime.device import Autocast, keep_freed_memory, select_device
from atari_fast.runtime.driver import StepResult, SyncDriver
from atari_fast.runtime.learner import Learner
from atari_fast.runtime.shared import LocalCopy
from atari_fast.seeding import child, stream, to_int
from atari_fast.types import Episode


class HogwildTask(NamedTuple):
    """What a worker is told when it starts."""

    config: HogwildConfig
    """Settings of the whole run."""
    number: int
    """The worker's number, from 0."""
    workers: int
    """Number of workers."""
    begin: str
    """What tells it from workers that had this number before in the run."""
    envs: range
    """Which of the run's environments are its own."""
    memory: Any
    """`SharedTraining.memory`."""

    def own_config(self) -> HogwildConfig:
        """The settings of what this worker does on its own."""
        env, rollout = self.config.env, self.config.rollout
        steps = rollout.worker_steps or (rollout.steps,)
        return dataclasses.replace(
            self.config,
            env=dataclasses.replace(env, num_envs=len(self.envs), num_workers=0),
            rollout=dataclasses.replace(rollout, steps=steps[self.number % len(steps)]),
        )


class StepReport(NamedTuple):
    """What one step of a worker's environments brought."""

    frames: int
    """Emulator frames played."""
    episodes: list[Episode]
    """Games that ended; `env` counts the worker's own environments."""
    places: NDArray[np.int64]
    """As in `StepResult`, of its own environments."""


class RolloutReport(NamedTuple):
    """What a rollout brought, and the updates after it."""

    steps: list[StepReport]
    updates: int
    learned: Mapping[str, float]
    """Metrics of the updates."""
    metrics: Mapping[str, float]
    """Metrics of the last step; see `StepResult`."""


class Failure(NamedTuple):
    """The exception that ended a worker."""

    kind: str
    """numeric, environment, or other."""
    text: str
    trace: str
    batch: Any = None
    """The batch of a numeric failure, as numpy arrays."""
    weights: Sequence[NDArray[np.float32]] = ()
    """The weights from which its loss was computed."""


class Player:
    """The environments, the network and the learner of a worker."""

    def __init__(self, task: HogwildTask) -> None:
        config, whole = task.own_config(), task.config
        device = select_device(config.device)
        seed = stream(whole.seed, f"worker/{task.number}/{task.begin}")
        torch.manual_seed(to_int(child(seed, "torch")))
        autocast = Autocast(device, config.precision)
        envs = VectorEnv(config.game, config.env, child(seed, "envs"))
        agent = build(config, envs.spec, device)
        (objective,) = agent.objectives
        self.net = objective.net
        self._weights = LocalCopy(objective.net, whole.optim, task.workers, task.memory)
        memory = agent.make_memory(to_int(child(seed, "memory")))
        rng = np.random.default_rng(child(seed, "actor"))
        acting = ActorSpec(config.env.num_envs, "train", rng, autocast)
        self.driver = SyncDriver(
            agent,
            envs,
            memory,
            StackedActor(agent, acting, envs.spec, device),
            Learner(
                agent,
                memory,
                device,
                autocast,
                check_period=1,
                make_optimizer=lambda *_: self._weights.optimizer(task.number),
            ),
            total_frames=config.total_frames,
        )
        self._results: Iterator[StepResult] = iter(self.driver)

    def rollout(self, frames: int) -> RolloutReport:
        """Play until the weights were updated, or to the end of the run.

        Args:
            frames: emulator frames of the run so far, of all workers.
        """
        self._weights.pull()
        driver = self.driver
        driver.frames, before = frames, driver.updates
        steps = []
        metrics: Mapping[str, float] = {}
        for result in self._results:
            steps.append(StepReport(result.frames - frames, result.episodes, result.places))
            frames, metrics = result.frames, result.metrics
            if driver.updates > before:
                break
        self._weights.push_buffers()
        return RolloutReport(steps, driver.updates - before, driver.take_metrics(), metrics)


def serve_rollouts(task: HogwildTask, pipe: Connection) -> None:
    """Run a worker until `HogwildDriver` closes the pipe or dies.

    It sends None when it is ready, then a `RolloutReport` for each number of frames that arrives,
    and a `Failure` when it fails.
    """
    for number in NOT_FOR_WORKERS:
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
    keep_freed_memory()
    try:
        player = None
        try:
            player = Player(task)
            pipe.send(None)
            while True:
                pipe.send(player.rollout(pipe.recv()))
        except (EOFError, ConnectionError):
            return
        except Exception as error:
            pipe.send(_failure(error, player))
    except ConnectionError:
        return


def _failure(error: Exception, player: Player | None) -> Failure:
    trace = traceback.format_exc()
    if isinstance(error, EnvError):
        return Failure("environment", str(error), trace)
    if not isinstance(error, NumericError):
        return Failure("other", f"{type(error).__name__}: {error}", trace)
    if player is None or player.driver.batch is None:
        return Failure("numeric", str(error), trace)
    batch = map_batch(lambda tensor: tensor.cpu().numpy(), player.driver.batch)
    weights = [weight.detach().cpu().numpy() for weight in player.net.parameters()]
    return Failure("numeric", str(error), trace, batch, weights)
