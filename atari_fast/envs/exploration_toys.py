"""A tiny game that random actions never win, for tests of exploration that take a minute."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atari_fast.envs.toy import FIRST, TERMINATED, check_action, draw_screen
from atari_fast.types import EnvSpec


class NoisyCorridor:
    """A row of rooms, each with one door that leads on, and a television of noise in all of them.

    One of four actions, which depends on the room, leads to the next room; any other leads nowhere.
    Random actions come to ten rooms in an episode of 40 steps. The last room has a reward of 1,
    which ends the episode. A frame is uint8[3, rooms]: in the first row 255 at the agent's room, in
    the other rows new random numbers at every step (the noisy television of Burda et al. 2018b,
    "Large-scale study of curiosity-driven learning", section 5).
    """

    ROOMS, STEPS = 24, 40
    lives = 0
    place = -1

    def __init__(self, seed: np.random.SeedSequence, rooms: int = ROOMS):
        """Makes the game; `seed` draws the noise. The doors are the same in all games."""
        self.spec = EnvSpec((3, rooms), ("NORTH", "EAST", "SOUTH", "WEST"))
        self._doors = np.random.default_rng(57).integers(4, size=rooms)
        self._rng = np.random.Generator(np.random.PCG64(seed))
        self.room = self._steps = 0
        self._noise = np.zeros((2, rooms), np.uint8)
        self._over = True

    def step(self, action: int, out: NDArray[np.uint8]) -> tuple[float, int]:
        """Plays one step; see `Env.step`."""
        reward, flags = 0.0, 0
        if self._over:
            self.room, self._steps, self._over = 0, 0, False
            flags = FIRST
        else:
            check_action(action, self.spec)
            self._steps += 1
            self.room += int(action == self._doors[self.room])
            reward = float(self.room == len(self._doors) - 1)
            self._over = reward > 0 or self._steps == self.STEPS
            flags = TERMINATED if self._over else 0
        self._noise = self._rng.integers(0, 256, self._noise.shape, np.uint8)
        self._draw(out)
        return reward, flags

    def _draw(self, out: NDArray[np.uint8]) -> None:
        out.fill(0)
        out[0, self.room] = 255
        out[1:] = self._noise

    def screen_rgb(self) -> NDArray[np.uint8]:
        """Returns the frame in squares, a new uint8[48, 16 * rooms, 3]."""
        return draw_screen(self.spec, self._draw)

    def state(self) -> dict[str, Any]:
        """See `Env.state`."""
        return {
            "where": [self.room, self._steps],
            "over": self._over,
            "noise": self._noise.tolist(),
            "rng": self._rng.bit_generator.state,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """See `Env.load_state`."""
        room, steps = state["where"]
        self.room = range(len(self._doors)).index(room)
        self._steps = range(self.STEPS + 1).index(steps)
        self._over = bool(state["over"])
        self._noise[:] = state["noise"]
        self._rng.bit_generator.state = state["rng"]
