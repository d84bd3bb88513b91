"""Environments that misbehave, for test_vector_env.py; workers import this file."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atari_fast.config import EnvConfig
from atari_fast.envs.toy import Catch
from atari_fast.errors import EnvError


def _in_worker() -> bool:
    return multiprocessing.parent_process() is not None


class Breaking(Catch):
    """Fails at its third step where the action is 2."""

    steps = 0

    def step(self, action: int, out: NDArray[np.uint8]) -> tuple[float, int]:
        self.steps += 1
        if self.steps == 3 and action == 2:
            raise ValueError("the joystick broke")
        return super().step(action, out)


class Complaining(Catch):
    """Raises an EnvError at its third step where the action is 2."""

    steps = 0

    def step(self, action: int, out: NDArray[np.uint8]) -> tuple[float, int]:
        self.steps += 1
        if self.steps == 3 and action == 2:
            raise EnvError("cartridge: got dust, expected contact; blow into it")
        return super().step(action, out)


class Sleeping(Catch):
    """Hangs at a step where the action is 2."""

    def step(self, action: int, out: NDArray[np.uint8]) -> tuple[float, int]:
        if action == 2:
            time.sleep(3600)
        return super().step(action, out)


class Waiting(Catch):
    """Waits at a step where the action is 2 until there is a file `go`."""

    def step(self, action: int, out: NDArray[np.uint8]) -> tuple[float, int]:
        while action == 2 and not Path("go").exists():
            time.sleep(0.01)
        return super().step(action, out)


class Heavy(Catch):
    """Has a state that no pipe takes without a reader."""

    def state(self) -> dict[str, Any]:
        return {**super().state(), "ballast": "x" * 5_000_000}


def heavy(game: str, config: EnvConfig, seed: np.random.SeedSequence) -> Catch:
    return Heavy(seed)


def breaking(game: str, config: EnvConfig, seed: np.random.SeedSequence) -> Catch:
    return Breaking(seed)


def complaining(game: str, config: EnvConfig, seed: np.random.SeedSequence) -> Catch:
    return Complaining(seed)


def sleeping(game: str, config: EnvConfig, seed: np.random.SeedSequence) -> Catch:
    return Sleeping(seed)


def waiting(game: str, config: EnvConfig, seed: np.random.SeedSequence) -> Catch:
    return Waiting(seed)


def starting_late(game: str, config: EnvConfig, seed: np.random.SeedSequence) -> Catch:
    if _in_worker():
        time.sleep(1)
    return Catch(seed)


def refusing(game: str, config: EnvConfig, seed: np.random.SeedSequence) -> Catch:
    if _in_worker():
        raise EnvError("game: the ROM of catch cannot be used")
    return Catch(seed)


def failing(game: str, config: EnvConfig, seed: np.random.SeedSequence) -> Catch:
    if _in_worker():
        raise ZeroDivisionError("no game today")
    return Catch(seed)
