"""The side of a worker: its lanes, and the service of what the pool asks through a pipe."""

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
from atari_fast.envs.lane import AtariLane, Lane
from atari_fast.errors import EnvError

MakeLane = Callable[[str, EnvConfig, np.random.SeedSequence], Lane]

GO = b"g"
SAVE = b"s"
SHOW = b"v"
FETCH = b"t"
LOAD = b"l"
RENEW = b"r"
DONE = b"d"
FAILED = b"f"
"""What goes through a pipe: single bytes, and messages: behind `LOAD` the states of lanes, behind
`RENEW` the seeds of new ones, after `FAILED` what failed. All but `FETCH` are answered `DONE`; the
answer to `FETCH` is what the last `SAVE` (states of lanes) or `SHOW` (their screens) asked for."""
NOT_FOR_WORKERS = {
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2,
}  # fmt: skip
"""Signals for the main process, which saves the lanes' states and closes the pipes."""
_MESSAGE_LIMIT = 30_000
"""Bytes of a worker's last message, which a pipe takes without waiting for a reader."""


class Task(NamedTuple):
    """What a worker is told when it starts."""

    game: str
    config: EnvConfig
    make: MakeLane
    lanes: range
    seeds: list[np.random.SeedSequence]
    """One for each of its lanes."""

    def lane(self, seed: np.random.SeedSequence) -> Lane:
        """Makes a lane."""
        return self.make(self.game, self.config, seed)


class Arrays(NamedTuple):
    """What lanes deliver, and what they are told."""

    frames: NDArray[np.uint8]
    """uint8[E, H, W]"""
    rewards: NDArray[np.float32]
    """float32[E]"""
    flags: NDArray[np.uint8]
    """uint8[E]"""
    lives: NDArray[np.int64]
    """int64[E], lives left"""
    actions: NDArray[np.int64]
    """int64[E]"""


class Buffers(NamedTuple):
    """The memory that a pool's processes share."""

    frames: Any
    rewards: Any
    flags: Any
    lives: Any
    actions: Any

    def arrays(self, frame_shape: tuple[int, int], lanes: range) -> Arrays:
        """Returns the rows of some lanes."""
        rows = slice(lanes.start, lanes.stop)
        return Arrays(
            np.frombuffer(self.frames, np.uint8).reshape(-1, *frame_shape)[rows],
            np.frombuffer(self.rewards, np.float32)[rows],
            np.frombuffer(self.flags, np.uint8)[rows],
            np.frombuffer(self.lives, np.int64)[rows],
            np.frombuffer(self.actions, np.int64)[rows],
        )


class Runner:
    """Some of the pool's lanes and the rows of the buffers that they fill."""

    def __init__(self, task: Task, buffers: Buffers):
        self._task = task
        self._lanes = [task.lane(seed) for seed in task.seeds]
        for lane in self._lanes:
            self._share_memory(lane)
        arrays = buffers.arrays(self._lanes[0].spec.frame_shape, task.lanes)
        frames, self._rewards, self._flags, self._lives, self._actions = arrays
        self._steps = [lane.step for lane in self._lanes]
        self._frames = list(frames)

    def _share_memory(self, lane: Lane) -> None:
        first = self._lanes[0]
        if isinstance(lane, AtariLane) and isinstance(first, AtariLane):
            lane.share_memory(first)

    def renew(self, seeds: Mapping[int, np.random.SeedSequence]) -> None:
        """Puts new lanes in the place of some and delivers their first frames.

        Args:
            seeds: Those of the new lanes, by their index in the pool; others' lanes are left out.
        """
        for row, index in enumerate(self._task.lanes):
            if index in seeds:
                lane = self._task.lane(seeds[index])
                self._share_memory(lane)
                self._lanes[row], self._steps[row] = lane, lane.step
                self._rewards[row], self._flags[row] = lane.step(0, self._frames[row])
                self._lives[row] = lane.lives

    def screens(self) -> list[NDArray[np.uint8]]:
        """The newest screen of each lane in colour, uint8[H, W, 3]."""
        return [lane.screen_rgb() for lane in self._lanes]

    def states(self) -> list[dict[str, Any]]:
        """The states of the lanes."""
        return [lane.state() for lane in self._lanes]

    def load_states(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Sets the states of the lanes; raises EnvError where one is none of such a lane."""
        for index, (lane, state) in enumerate(zip(self._lanes, states, strict=True)):
            try:
                lane.load_state(state)
            except Exception as error:  # ale-py raises SystemError
                raise EnvError(
                    f"states[{index}]: not the state of a lane of this game ({error!r})"
                ) from error

    def step(self) -> None:
        """Plays one agent step of every lane."""
        results = [
            step(action, frame)
            for step, action, frame in zip(
                self._steps, self._actions.tolist(), self._frames, strict=True
            )
        ]
        self._rewards[...], self._flags[...] = zip(*results, strict=True)
        self._lives[...] = [lane.lives for lane in self._lanes]


def pack_seeds(seeds: Mapping[int, np.random.SeedSequence]) -> str:
    """Returns seeds by the index of their lane as JSON has them."""
    return json.dumps([[i, seed.entropy, seed.spawn_key] for i, seed in seeds.items()])


def unpack_seeds(text: bytes) -> dict[int, np.random.SeedSequence]:
    """Returns what `pack_seeds` packed."""
    return {
        index: np.random.SeedSequence(entropy, spawn_key=key)
        for index, entropy, key in json.loads(text)
    }


def serve(task: Task, buffers: Buffers, pipe: Connection) -> None:
    """Runs a worker until the pool closes the pipe or dies."""
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
