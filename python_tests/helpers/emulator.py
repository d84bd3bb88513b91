"""The bare emulator beside an environment, and what an environment executes on its own."""

from __future__ import annotations

from typing import Any

import ale_py
import cv2
import numpy as np
from ale_py import roms

from atari_fast.envs.atari_env import AtariEnv

Frame = np.ndarray[Any, np.dtype[np.uint8]]


def emulator(game: str, sticky: float = 0.0) -> Any:
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    ale = ale_py.ALEInterface()
    ale.setInt("random_seed", 11)
    ale.setFloat("repeat_action_probability", sticky)
    ale.setInt("frame_skip", 1)
    ale.loadROM(roms.get_rom_path(game))
    ale.reset_game()
    return ale


def resize(older: Frame, newest: Frame) -> Frame:
    return cv2.resize(np.maximum(older, newest), (84, 84), interpolation=cv2.INTER_AREA)


def record(env: AtariEnv) -> list[int]:
    """Returns a list to which the environment appends every action that the emulator executes."""
    act, executed = env._act, []

    def recorded(code: int) -> int:
        executed.append(code)
        return act(code)

    env._act = recorded
    return executed
