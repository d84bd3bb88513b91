"""The side of a worker: its environments, and how it serves `VectorEnv` through a pipe."""

from __future__ import annotations

import json
import os
import signal
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from atari_fast.config import EnvConfig
from atari_fast.envs.atari_env import AtariEnv, Env
from atari_fast.errors import EnvError

MakeEnv = Callable[[str, EnvConfig, np.random.SeedSequence], Env]

GO = b"g"
SAVE = b"s"
SHOW = b"v"
FETCH = b"t"
LOAD = b"l"
RENEW = b"r"
DONE = b"d"
FAILED = b"f"
"""What goes through a pipe: single bytes, and messages: behind `LOAD` the states of environments,
behind `RENEW` the seeds of new ones, after `FAILED` what failed. All but `FETCH` are answered
`DONE`; the answer to `FETCH` is what the last `SAVE` (states of environments) or `SHOW` (their
screens) asked for."""
NOT_FOR_WORKERS = {
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2,
}  # fmt: skip
"""Signals for the main process, which saves the environments' states and closes the pipes."""
_MESSAGE_LIMIT = 30_000
"""Bytes of a worker's last message, which a pipe takes without waiting for a reader."""


class Task(NamedTuple):
    """What a worker is told when it starts."""

    game: str
    config: EnvConfig
    make: MakeEnv
    envs: range
    seeds: list[np.random.SeedSequence]
    """One for each of its environments."""

    def env(self, seed: np.random.SeedSequence) -> Env:
        """Makes an environment."""
        return self.make(self.game, self.config, seed)


class Arrays(NamedTuple):
    """What environments deliver, and what they are told."""

    frames: NDArray[np.uint8]
    """uint8[E, H, W]"""
    rewards: NDArray[np.float32]
    """float32[E]"""
    flags: NDArray[np.uint8]
    """uint8[E]"""
    lives: NDArray[np.int64]
    """int64[E], lives left"""
    places: NDArray[np.int64]
    """int64[E], see `Env.place`; written in games that have places"""
    actions: NDArray[np.int64]
    """int64[E]"""


class Buffers(NamedTuple):
    """The memory that the processes of a `VectorEnv` share."""

    frames: Any
    rewards: Any
    flags: Any
    lives: Any
    places: Any
    actions: Any

    def arrays(self, frame_shape: tuple[int, int], envs: range) -> Arrays:
        """Returns the rows of some environments."""
        rows = slice(envs.start, envs.stop)
        return Arrays(
            np.frombuffer(self.frames, np.uint8).reshape(-1, *frame_shape)[rows],
            np.frombuffer(self.rewards, np.float32)[rows],
            np.frombuffer(self.flags, np.uint8)[rows],
            np.frombuffer(self.lives, np.int64)[rows],
            np.frombuffer(self.places, np.int64)[rows],
            np.frombuffer(self.actions, np.int64)[rows],
        )


class Runner:
    """Some of the environments and the rows of the buffers that they fill."""

    def __init__(self, task: Task, buffers: Buffers):
        self._task = task
        self._envs = [task.env(seed) for seed in task.seeds]
        for env in self._envs:
            self._share_memory(env)
        arrays = buffers.arrays(self._envs[0].spec.frame_shape, task.envs)
        frames, self._rewards, self._flags, self._lives, self._places, self._actions = arrays
        self._has_places = self._envs[0].place >= 0
        self._steps = [env.step for env in self._envs]
        self._frames = list(frames)

    def _share_memory(self, env: Env) -> None:
        first = self._envs[0]
        if isinstance(env, AtariEnv) and isinstance(first, AtariEnv):
            env.share_memory(first)

    def renew(self, seeds: Mapping[int, np.random.SeedSequence]) -> None:
        """Puts new environments in the place of some and delivers their first frames.

        Args:
            seeds: Those of the new environments, by their index among all; indices of other workers
                are left out.
        """
        for row, index in enumerate(self._task.envs):
            if index in seeds:
                env = self._task.env(seeds[index])
                self._share_memory(env)
                self._envs[row], self._steps[row] = env, env.step
                self._rewards[row], self._flags[row] = env.step(0, self._frames[row])
                self._lives[row], self._places[row] = env.lives, env.place

    def screens(self) -> list[NDArray[np.uint8]]:
        """The newest screen of each environment in colour, uint8[H, W, 3]."""
        return [env.screen_rgb() for env in self._envs]

    def states(self) -> list[dict[str, Any]]:
        """The states of the environments."""
        return [env.state() for env in self._envs]

    def load_states(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Sets the states of the environments; raises EnvError where one is of another kind."""
        for index, (env, state) in enumerate(zip(self._envs, states, strict=True)):
            try:
                env.load_state(state)
            except Exception as error:  # ale-py raises SystemError
                raise EnvError(
                    f"states[{index}]: not the state of an environment of this game ({error!r})"
                ) from error

    def step(self) -> None:
        """Plays one agent step of every environment."""
        results = [
            step(action, frame)
            for step, action, frame in zip(
                self._steps, self._actions.tolist(), self._frames, strict=True
            )
        ]
        self._rewards[...], self._flags[...] = zip(*results, strict=True)
        self._lives[...] = [env.lives for env in self._envs]
        if self._has_places:
            self._places[...] = [env.place for env in self._envs]


def pack_seeds(seeds: Mapping[int, np.random.SeedSequence]) -> str:
    """Returns seeds by the index of their environment as JSON has them."""
    return json.dumps([[i, seed.entropy, seed.spawn_key] for i, seed in seeds.items()])


def unpack_seeds(text: bytes) -> dict[int, np.random.SeedSequence]:
    """Returns what `pack_seeds` packed."""
    return {
        index: np.random.SeedSequence(entropy, spawn_key=key)
        for index, entropy, key in json.loads(text)
    }


def serve(task: Task, buffers: Buffers, pipe: Connection) -> None:
    """Runs a worker until `VectorEnv` closes the pipe or dies."""
    for number in NOT_FOR_WORKERS:
        signal.signal(number, signal.SIG_IGN)
    channel = pipe.fileno()
    try:
        try:
            runner = Runner(task, buffers)
            os.write(channel, DONE)
            saved = b""
            while command := os.read(channel, 1):
                if command == FETCH:
                    pipe.send_bytes(saved)
                    continue
                if command == GO:
                    runner.step()
                elif command == SAVE:
                    saved = json.dumps(runner.states()).encode()
                elif command == SHOW:
                    saved = b"".join(screen.tobytes() for screen in runner.screens())
                elif command == RENEW:
                    runner.renew(unpack_seeds(pipe.recv_bytes()))
                else:
                    runner.load_states(json.loads(pipe.recv_bytes()))
                os.write(channel, DONE)
        except ConnectionError:
            raise
        except Exception as error:
            os.write(channel, FAILED)
            pipe.send_bytes(_describe(error))
    except ConnectionError:
        return


def _describe(error: Exception) -> bytes:
    """Returns what a worker says of the exception that ends it."""
    kind = "" if isinstance(error, EnvError) else f"{type(error).__name__}: "
    report = {
        "environment": isinstance(error, EnvError),
        "text": (kind + str(error))[:_MESSAGE_LIMIT],
        "trace": traceback.format_exc()[-_MESSAGE_LIMIT:],
    }
    return json.dumps(report).encode()
