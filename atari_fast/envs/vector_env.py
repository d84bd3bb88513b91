"""Many environments, spread over worker processes, stepped together.

Frames, rewards, flags and actions lie in anonymous shared memory, which has no name that could be
left behind; one byte through a pipe starts a step and one byte ends it. A pipe closes when either
side dies, however it dies, so neither waits for a dead one, and one that hangs is named after a
timeout.
"""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import select
import weakref
from collections.abc import Mapping, Sequence
from multiprocessing.util import Finalize
from types import TracebackType
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from atari_fast.config import EnvConfig
from atari_fast.envs.atari_env import make_env
from atari_fast.envs.processes import (
    Patience,
    Worker,
    check_program,
    died,
    reported_error,
    silent,
    start_worker,
    stop,
)
from atari_fast.envs.worker import (
    FAILED,
    FETCH,
    GO,
    LOAD,
    RENEW,
    SAVE,
    SHOW,
    Buffers,
    MakeEnv,
    Runner,
    Task,
    pack_seeds,
    serve,
)
from atari_fast.errors import ConfigError, EnvError, WorkerError
from atari_fast.seeding import child
from atari_fast.types import StepBatch

_START_SECONDS = 60.0
"""Seconds that a worker has at least for its imports, and one more for each environment's ROM."""


class VectorEnv:
    """E environments in W worker processes (W = 0: in this process), stepped together.

    An environment's random numbers depend on the seed and its index alone, so results do not depend
    on W.
    """

    def __init__(
        self,
        game: str,
        config: EnvConfig,
        seed: np.random.SeedSequence | Sequence[np.random.SeedSequence],
        *,
        make: MakeEnv = make_env,
    ):
        """Makes the environments and waits until all are ready.

        Args:
            game: Name of the game.
            config: Protocol, number of environments and of workers (-1: none), timeout.
            seed: Root of all environments' random numbers, or a seed for each environment.
            make: Makes an environment; workers import it, so for them it is a function of a module.

        Raises:
            ConfigError: The numbers of environments and workers do not fit, or this program can
                have no workers.
            EnvError: The game is unknown or its ROM is unusable.
            WorkerError: A worker could not be started, or died or hung while it started.
        """
        num_envs = config.num_envs
        workers = 0 if config.num_workers == -1 else config.num_workers
        if num_envs < 1 or not 0 <= workers <= num_envs:
            raise ConfigError(
                f"env.num_envs and env.num_workers: got {num_envs} and {workers}, expected at "
                "least one environment and from 0 to env.num_envs workers"
            )
        if workers:
            check_program(workers)
        context = multiprocessing.get_context("spawn")
        self.num_envs = num_envs
        self._timeout = config.worker_timeout
        self._workers: list[Worker] = []
        self._by_channel: dict[int, Worker] = {}
        self._answers = select.poll()
        self._close = weakref.finalize(self, stop, self._workers)
        self._sent = False
        self._runner: Runner | None = None

        if isinstance(seed, np.random.SeedSequence):
            seed = [child(seed, index) for index in range(num_envs)]
        task = Task(game, config, make, range(num_envs), list(seed))
        first = task.env(seed[0])
        self.spec, self._screen_shape = first.spec, first.screen_rgb().shape
        height, width = self.spec.frame_shape
        buffers = Buffers(
            frames=context.RawArray(ctypes.c_uint8, num_envs * height * width),
            rewards=context.RawArray(ctypes.c_float, num_envs),
            flags=context.RawArray(ctypes.c_uint8, num_envs),
            lives=context.RawArray(ctypes.c_int64, num_envs),
            places=context.RawArray(ctypes.c_int64, [-1] * num_envs),
            actions=context.RawArray(ctypes.c_int64, num_envs),
        )
        self._arrays = buffers.arrays(self.spec.frame_shape, task.envs)
        self._batch = StepBatch(*self._arrays[:3])
        if workers == 0:
            self._runner = Runner(task, buffers)
            return
        try:
            for index in range(workers):
                share = range(num_envs * index // workers, num_envs * (index + 1) // workers)
                own = task._replace(envs=share, seeds=task.seeds[share.start : share.stop])
                worker = start_worker(context, index, game, share, serve, own, buffers)
                self._workers.append(worker)
                self._by_channel[worker.pipe.fileno()] = worker
                self._answers.register(worker.pipe.fileno(), select.POLLIN)
            Finalize(self, stop, (self._workers,), exitpriority=10)  # before Python waits for them
            self._collect(max(_START_SECONDS + num_envs, self._timeout), starting=True)
        except BaseException:
            self.close()
            raise

    def send(self, actions: NDArray[np.int64]) -> None:
        """Starts one agent step of every environment.

        Args:
            actions: int64[E], an action index for each environment.

        Raises:
            EnvError: The actions are wrong, or the last step was not received; nothing was sent.
        """
        self._check_open()
        self._check_actions(actions)
        if self._sent:
            raise EnvError("send: the step before was not received; call recv() between two sends")
        self._arrays.actions[...] = actions
        self._sent = True
        for worker in self._workers:
            self._tell(worker, GO)

    def recv(self) -> StepBatch:
        """Waits for the step that `send` started.

        Returns:
            Views of the shared memory, valid until the next `send`. After construction the first
            step delivers the first frame of an episode in every environment.

        Raises:
            EnvError: Nothing was sent, or an environment raised it.
            WorkerError: A worker raised, died or was silent for `worker_timeout`. After an error in
                an environment or a worker this object is closed.
        """
        self._check_open()
        if not self._sent:
            raise EnvError("recv: nothing was sent; call send() first")
        try:
            if self._runner is not None:
                self._runner.step()
            else:
                self._collect(self._timeout, starting=False)
        except BaseException:  # some environments have played the step and others not
            self.close()
            raise
        self._sent = False
        return self._batch

    def step(self, actions: NDArray[np.int64]) -> StepBatch:
        """Plays one agent step of every environment: `send` and `recv`."""
        self.send(actions)
        return self.recv()

    def states(self) -> list[dict[str, Any]]:
        """The states of all environments, games in flight included, as JSON has them.

        Raises:
            EnvError: A step is under way, or this object is closed.
            WorkerError: As `recv`.
        """
        self._check_idle("states")
        if self._runner is not None:
            return self._runner.states()
        return [state for answer in self._fetch(SAVE) for state in json.loads(answer)]

    def load_states(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Goes on with the games in `states` of another `VectorEnv`, whatever its workers were.

        Raises:
            EnvError: The states are not those of as many environments of this game, or as `states`.
            WorkerError: As `recv`.
        """
        self._check_idle("load_states")
        if len(states) != self.num_envs:
            raise EnvError(
                f"states: got {len(states)}, expected those of {self.num_envs} environments"
            )
        if self._runner is not None:
            self._runner.load_states(states)
            return
        for worker in self._workers:
            self._tell(worker, LOAD, json.dumps(states[worker.envs.start : worker.envs.stop]))
        self._collect(self._timeout, starting=False)

    def renew(self, seeds: Mapping[int, np.random.SeedSequence]) -> StepBatch:
        """Puts new environments in the place of some, wherever their games were.

        Args:
            seeds: Those of the new environments by their index, from 0 to `num_envs` - 1.

        Returns:
            As `recv`, with the first frames of the new environments; the others' rows stay as they
            were.

        Raises:
            EnvError: A step is under way, or this object is closed.
            WorkerError: As `recv`.
        """
        self._check_idle("renew")
        try:
            if self._runner is not None:
                self._runner.renew(seeds)
            else:
                for worker in self._workers:
                    self._tell(worker, RENEW, pack_seeds(seeds))
                self._collect(self._timeout, starting=False)
        except BaseException:
            self.close()
            raise
        return self._batch

    def lives(self) -> NDArray[np.int64]:
        """Returns the lives left in each environment, a new int64[E]; 0 in games that have none.

        Raises:
            EnvError: A step is under way, or this object is closed.
        """
        self._check_idle("lives")
        lives: NDArray[np.int64] = self._arrays.lives.copy()
        return lives

    def places(self) -> NDArray[np.int64]:
        """Returns where the player is in each environment, for reports; no agent sees it.

        Returns:
            A new int64[E], packed as `PlaceAddresses.pack`, of the step that was received last; -1
            in games without addresses and before the first step.

        Raises:
            EnvError: A step is under way, or this object is closed.
        """
        self._check_idle("places")
        places: NDArray[np.int64] = self._arrays.places.copy()
        return places

    def screens(self) -> NDArray[np.uint8]:
        """Returns the newest screen of each environment in colour, a new uint8[E, H, W, 3].

        Raises:
            EnvError: A step is under way, or this object is closed.
            WorkerError: As `recv`.
        """
        self._check_idle("screens")
        if self._runner is not None:
            return np.stack(self._runner.screens())
        pixels = np.frombuffer(bytearray().join(self._fetch(SHOW)), np.uint8)
        return pixels.reshape(self.num_envs, *self._screen_shape)

    @property
    def closed(self) -> bool:
        """Whether it was closed, as after an error in an environment or a worker."""
        return not self._close.alive

    def close(self) -> None:
        """Ends the workers; may be called again, and is when the object or the program ends."""
        self._close()

    def __enter__(self) -> VectorEnv:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if self.closed:
            raise EnvError("the vector environment is closed; make a new VectorEnv")

    def _check_idle(self, call: str) -> None:
        self._check_open()
        if self._sent:
            raise EnvError(f"{call}: a step is under way; call recv() first")

    def _tell(self, worker: Worker, command: bytes, message: str | None = None) -> None:
        """Sends a worker one byte, and a message if there is one."""
        try:
            os.write(worker.pipe.fileno(), command)
            if message is not None:
                worker.pipe.send_bytes(message.encode())
        except ConnectionError:
            self._fail(WorkerError(died(worker, starting=False)))

    def _fetch(self, command: bytes) -> list[bytes]:
        """Returns the workers' answers to `SAVE` or `SHOW`, in the order of their environments."""
        for worker in self._workers:
            self._tell(worker, command)
        self._collect(self._timeout, starting=False)
        answers = []
        for worker in self._workers:
            self._tell(worker, FETCH)
            if not Patience(self._timeout).wait(worker.pipe.poll):
                self._fail(WorkerError(silent([worker], self._timeout)))
            try:
                answers.append(worker.pipe.recv_bytes())
            except (EOFError, OSError):  # OSError: it died in the middle of an answer
                self._fail(WorkerError(died(worker, starting=False)))
        return answers

    def _check_actions(self, actions: NDArray[np.int64]) -> None:
        expected = f"int64[{self.num_envs}] of indices from 0 to {self.spec.num_actions - 1}"
        if not isinstance(actions, np.ndarray):
            raise EnvError(f"actions: got {type(actions).__name__}, expected numpy {expected}")
        if actions.dtype != np.int64 or actions.shape != (self.num_envs,):
            raise EnvError(
                f"actions: got {actions.dtype}{list(actions.shape)}, expected {expected}"
            )
        if actions.view(np.uint64).max() >= self.spec.num_actions:  # negative ones are huge here
            env = int(np.flatnonzero((actions < 0) | (actions >= self.spec.num_actions))[0])
            raise EnvError(f"actions: got {actions[env]} in environment {env}, expected {expected}")

    def _collect(self, timeout: float, *, starting: bool) -> None:
        """Waits until every worker has said that it is done."""
        patience = Patience(timeout)
        waiting = self._by_channel.copy()
        while waiting:
            ready = patience.wait(lambda seconds: self._answers.poll(seconds * 1000))
            if not ready:
                self._fail(WorkerError(silent(waiting.values(), timeout)))
            for channel, _ in ready:
                worker = self._by_channel[channel]
                try:
                    answer = os.read(channel, 1)
                    if answer == FAILED:
                        self._fail(*reported_error(worker, starting))
                except (EOFError, OSError):  # OSError: it died in the middle of an answer
                    answer = b""
                if not answer:
                    self._fail(WorkerError(died(worker, starting)))
                waiting.pop(channel, None)

    def _fail(self, error: Exception, cause: Exception | None = None) -> NoReturn:
        self.close()
        raise error from cause
