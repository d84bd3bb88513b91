"""Tiny games with known answers, for tests that learn in seconds, as environments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atari_fast.errors import EnvError
from atari_fast.types import EnvSpec, Flag

FIRST, TERMINATED, TRUNCATED = (int(flag) for flag in (Flag.FIRST, Flag.TERMINATED, Flag.TRUNCATED))


def check_action(action: int, spec: EnvSpec) -> None:
    """Raises EnvError unless the action is an index."""
    if not 0 <= action < spec.num_actions:
        raise EnvError(f"action: got {action}, expected an index from 0 to {spec.num_actions - 1}")


def draw_screen(spec: EnvSpec, draw: Callable[[NDArray[np.uint8]], None]) -> NDArray[np.uint8]:
    """Returns what `draw` draws, with squares of 16 pixels, as a screen in colour."""
    frame = np.zeros(spec.frame_shape, np.uint8)
    draw(frame)
    return np.repeat(np.repeat(np.repeat(frame[..., None], 3, 2), 16, 0), 16, 1)


class Catch:
    """A ball falls through 10 rows of 5 columns; the paddle in the last row must be under it.

    Reward 1 when it is caught and -1 when it is not, at the end of an episode of 9 steps. A frame
    is uint8[10, 5], 255 at the ball and the paddle. (The game of the bsuite benchmark.)
    """

    ROWS, COLUMNS = 10, 5
    lives = 0
    place = -1

    def __init__(self, seed: np.random.SeedSequence):
        """Makes the game; `seed` draws the columns that balls fall in."""
        self.spec = EnvSpec((self.ROWS, self.COLUMNS), ("LEFT", "NOOP", "RIGHT"))
        self._rng = np.random.Generator(np.random.PCG64(seed))
        self._row = self._column = self._paddle = 0
        self._over = True

    def step(self, action: int, out: NDArray[np.uint8]) -> tuple[float, int]:
        """Plays one step; see `Env.step`."""
        reward, flags = 0.0, 0
        if self._over:
            self._row, self._column = 0, int(self._rng.integers(self.COLUMNS))
            self._paddle = self.COLUMNS // 2
            self._over = False
            flags = FIRST
        else:
            check_action(action, self.spec)
            self._row += 1
            self._paddle = min(max(self._paddle + action - 1, 0), self.COLUMNS - 1)
            if self._row == self.ROWS - 1:
                reward = 1.0 if self._paddle == self._column else -1.0
                self._over = True
                flags = TERMINATED
        self._draw(out)
        return reward, flags

    def _draw(self, out: NDArray[np.uint8]) -> None:
        out.fill(0)
        out[self._row, self._column] = out[self.ROWS - 1, self._paddle] = 255

    def screen_rgb(self) -> NDArray[np.uint8]:
        """Returns the frame in squares, a new uint8[160, 80, 3]."""
        return draw_screen(self.spec, self._draw)

    def state(self) -> dict[str, Any]:
        """See `Env.state`."""
        where = [self._row, self._column, self._paddle]
        return {"where": where, "over": self._over, "rng": self._rng.bit_generator.state}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """See `Env.load_state`."""
        row, column, paddle = state["where"]
        self._row = range(self.ROWS).index(row)
        self._column, self._paddle = map(range(self.COLUMNS).index, (column, paddle))
        self._over = bool(state["over"])
        self._rng.bit_generator.state = state["rng"]


class Chain:
    """States 0 to n - 1 in a row; the episode ends with reward 1 on arrival in the last one.

    RIGHT goes one state on and LEFT one back. A frame is uint8[1, n], 255 at the state. The value
    of state s under optimal play is gamma^(n - 2 - s); with `step_reward` r in an `endless` chain
    the value of every state is r / (1 - gamma), whatever the cap, since a cap is truncation.
    """

    lives = 0
    place = -1

    def __init__(
        self,
        length: int = 8,
        *,
        step_reward: float = 0.0,
        endless: bool = False,
        max_steps: int = 27_000,
    ):
        """Makes the game, which has no chance in it.

        Args:
            length: Number of states n, at least 2.
            step_reward: Reward of every step.
            endless: The last state neither ends the episode nor is rewarded.
            max_steps: Cap of an episode in agent steps; reaching it is truncation.
        """
        self.spec = EnvSpec((1, length), ("LEFT", "RIGHT"))
        self._length, self._step_reward = length, step_reward
        self._endless, self._max_steps = endless, max_steps
        self._state = self._steps = 0
        self._over = True

    def step(self, action: int, out: NDArray[np.uint8]) -> tuple[float, int]:
        """Plays one step; see `Env.step`."""
        reward, flags = 0.0, 0
        if self._over:
            self._state = self._steps = 0
            self._over = False
            flags = FIRST
        else:
            check_action(action, self.spec)
            last = self._length - 1
            self._state = min(max(self._state + 2 * action - 1, 0), last)
            self._steps += 1
            reward = self._step_reward
            if self._state == last and not self._endless:
                reward += 1.0
                flags = TERMINATED
            elif self._steps == self._max_steps:
                flags = TRUNCATED
            self._over = flags != 0
        self._draw(out)
        return reward, flags

    def _draw(self, out: NDArray[np.uint8]) -> None:
        out.fill(0)
        out[0, self._state] = 255

    def screen_rgb(self) -> NDArray[np.uint8]:
        """Returns the frame in squares, a new uint8[16, 16 * n, 3]."""
        return draw_screen(self.spec, self._draw)

    def state(self) -> dict[str, Any]:
        """See `Env.state`."""
        return {"state": self._state, "steps": self._steps, "over": self._over}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """See `Env.load_state`."""
        self._state = range(self._length).index(state["state"])
        self._steps, self._over = int(state["steps"]), bool(state["over"])
