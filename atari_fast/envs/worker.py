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
from atari_fast.seeding import child

MakeLane = Callable[[str, EnvConfig, np.random.SeedSequence], Lane]

GO = b"g"
SAVE = b"s"
FETCH = b"t"
LOAD = b"l"
DONE = b"d"
FAILED = b"f"
"""What goes through a pipe: single bytes, and messages: the states of lanes behind `LOAD` and as
the answer to `FETCH`, and after `FAILED` what failed. All but `FETCH` are answered `DONE`."""
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
    seed: np.random.SeedSequence
    make: MakeLane
    lanes: range


class Buffers(NamedTuple):
    """The memory that a pool's processes share."""

    frames: Any
    rewards: Any
    flags: Any
    actions: Any

    def arrays(
        self, frame_shape: tuple[int, int]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint8], NDArray[np.int64]]:
        """Returns frames uint8[E, H, W], rewards float32[E], flags uint8[E], actions int64[E]."""
        return (
            np.frombuffer(self.frames, np.uint8).reshape(-1, *frame_shape),
            np.frombuffer(self.rewards, np.float32),
            np.frombuffer(self.flags, np.uint8),
            np.frombuffer(self.actions, np.int64),
        )


class Runner:
    """Some of the pool's lanes and the rows of the buffers that they fill."""

    def __init__(self, task: Task, buffers: Buffers):
        lanes = [task.make(task.game, task.config, child(task.seed, i)) for i in task.lanes]
        for lane in lanes[1:]:
            if isinstance(lane, AtariLane) and isinstance(lanes[0], AtariLane):
                lane.share_memory(lanes[0])
        arrays = buffers.arrays(lanes[0].spec.frame_shape)
        frames, self._rewards, self._flags, self._actions = (
            array[task.lanes.start : task.lanes.stop] for array in arrays
        )
        self._lanes = lanes
        self._steps = [lane.step for lane in lanes]
        self._frames = list(frames)

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
