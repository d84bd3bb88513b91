"""Tiny games that only an agent with a memory can play, for tests that learn in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atari_fast.envs.toy import FIRST, TERMINATED, check_action, draw_screen
from atari_fast.types import EnvSpec


class TMaze:
    """A corridor that ends in a junction; the first frame alone tells where the goal is.

    The agent starts at the left. RIGHT takes it one column on; at the junction, the last column, UP
    and DOWN end the episode with reward 1 if the goal is there and -1 if not. Elsewhere UP and DOWN
    do nothing. An episode that takes three times as many steps as there are columns ends with
    reward -1. A frame is uint8[3, length]: 255 at the agent, and in the first frame of an episode
    also in the corner above or below it, on the side of the goal (Bakker 2002, "Reinforcement
    learning with long short-term memory", section 4).
    """

    LENGTH = 10
    lives = 0
    place = -1

    def __init__(self, seed: np.random.SeedSequence):
        """Makes the game; `seed` draws the sides of the goals."""
        self.spec = EnvSpec((3, self.LENGTH), ("UP", "RIGHT", "DOWN"))
        self._rng = np.random.Generator(np.random.PCG64(seed))
        self._goal = self._column = self._steps = 0
        self._over = True

    def step(self, action: int, out: NDArray[np.uint8]) -> tuple[float, int]:
        """Plays one step; see `Env.step`."""
        reward, flags = 0.0, 0
        if self._over:
            self._goal, self._column, self._steps = 2 * int(self._rng.integers(2)), 0, 0
            self._over = False
            flags = FIRST
        else:
            check_action(action, self.spec)
            self._steps += 1
            at_junction = self._column == self.LENGTH - 1
            if at_junction and action != 1:
                reward = 1.0 if action == self._goal else -1.0
            elif self._steps == 3 * self.LENGTH:
                reward = -1.0
            elif action == 1 and not at_junction:
                self._column += 1
            self._over = reward != 0
            flags = TERMINATED if self._over else 0
        self._draw(out)
        return reward, flags

    def _draw(self, out: NDArray[np.uint8]) -> None:
        out.fill(0)
        out[1, self._column] = 255
        if self._steps == 0:
            out[self._goal, 0] = 255

    def screen_rgb(self) -> NDArray[np.uint8]:
        """Returns the frame in squares, a new uint8[48, 16 * length, 3]."""
        return draw_screen(self.spec, self._draw)

    def state(self) -> dict[str, Any]:
        """See `Env.state`."""
        where = [self._goal, self._column, self._steps]
        return {"where": where, "over": self._over, "rng": self._rng.bit_generator.state}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """See `Env.load_state`."""
        goal, column, steps = state["where"]
        self._goal = (0, 2)[(0, 2).index(goal)]
        self._column = range(self.LENGTH).index(column)
        self._steps = range(3 * self.LENGTH + 1).index(steps)
        self._over = bool(state["over"])
        self._rng.bit_generator.state = state["rng"]


class Recall:
    """One of four symbols is shown; the action of the last step, 15 steps later, must name it.

    A frame is uint8[2, 4]: 255 in the upper row at the symbol, in the first frame of an episode
    alone, and everywhere in the lower row when the answer is due. The answer ends the episode with
    reward 1 if it is right and 0 if not; other actions do nothing.
    """

    SYMBOLS, DELAY = 4, 15
    lives = 0
    place = -1

    def __init__(self, seed: np.random.SeedSequence):
        """Makes the game; `seed` draws the symbols."""
        self.spec = EnvSpec((2, self.SYMBOLS), tuple(f"SYMBOL{i}" for i in range(self.SYMBOLS)))
        self._rng = np.random.Generator(np.random.PCG64(seed))
        self._symbol = self._steps = 0
        self._over = True

    def step(self, action: int, out: NDArray[np.uint8]) -> tuple[float, int]:
        """Plays one step; see `Env.step`."""
        reward, flags = 0.0, 0
        if self._over:
            self._symbol, self._steps = int(self._rng.integers(self.SYMBOLS)), 0
            self._over = False
            flags = FIRST
        else:
            check_action(action, self.spec)
            if self._steps == self.DELAY:
                reward = float(action == self._symbol)
                self._over = True
                flags = TERMINATED
            self._steps += 1
        self._draw(out)
        return reward, flags

    def _draw(self, out: NDArray[np.uint8]) -> None:
        out.fill(0)
        if self._steps == 0:
            out[0, self._symbol] = 255
        if self._steps == self.DELAY:
            out[1] = 255

    def screen_rgb(self) -> NDArray[np.uint8]:
        """Returns the frame in squares, a new uint8[32, 64, 3]."""
        return draw_screen(self.spec, self._draw)

    def state(self) -> dict[str, Any]:
        """See `Env.state`."""
        where = [self._symbol, self._steps]
        return {"where": where, "over": self._over, "rng": self._rng.bit_generator.state}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """See `Env.load_state`."""
        symbol, steps = state["where"]
        self._symbol = range(self.SYMBOLS).index(symbol)
        self._steps = range(self.DELAY + 2).index(steps)
        self._over = bool(state["over"])
        self._rng.bit_generator.state = state["rng"]
