"""Tiny games that random actions hardly ever win, for tests of exploration that take seconds."""

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

    def __init__(self, seed: np.random.SeedSequence):
        """Makes the game; `seed` draws the noise. The doors are the same in all games."""
        self.spec = EnvSpec((3, self.ROOMS), ("NORTH", "EAST", "SOUTH", "WEST"))
        self._doors = np.random.default_rng(57).integers(4, size=self.ROOMS)
        self._rng = np.random.Generator(np.random.PCG64(seed))
        self.room = self._steps = 0
        self._noise = np.zeros((2, self.ROOMS), np.uint8)
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
            reward = float(self.room == self.ROOMS - 1)
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
        self.room = range(self.ROOMS).index(room)
        self._steps = range(self.STEPS + 1).index(steps)
        self._over = bool(state["over"])
        self._noise[:] = state["noise"]
        self._rng.bit_generator.state = state["rng"]


class KeyDoor:
    """A hall with a key at its left end and a door at its right end; the agent starts between them.

    Actions move by one field; walls stop. Reward 1, and the end of the episode, on arrival at the
    door with the key; an episode of 48 steps ends without it. The shortest way takes 21 steps. A
    frame is uint8[5, 15]: 255 at the agent, 128 at the key, or in the corner when it was taken, and
    64 at the door.
    """

    HEIGHT, WIDTH, STEPS = 5, 15, 48
    KEY, DOOR, START, CORNER = (2, 0), (2, 14), (2, 7), (0, 7)
    MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
    lives = 0
    place = -1

    def __init__(self, seed: np.random.SeedSequence):
        """Makes the game, which has no chance in it."""
        del seed
        self.spec = EnvSpec((self.HEIGHT, self.WIDTH), ("UP", "RIGHT", "DOWN", "LEFT"))
        self._row, self._column = self.START
        self._steps, self._has_key, self._over = 0, False, True

    def step(self, action: int, out: NDArray[np.uint8]) -> tuple[float, int]:
        """Plays one step; see `Env.step`."""
        reward, flags = 0.0, 0
        if self._over:
            self._row, self._column = self.START
            self._steps, self._has_key, self._over = 0, False, False
            flags = FIRST
        else:
            check_action(action, self.spec)
            self._steps += 1
            down, right = self.MOVES[action]
            self._row = min(max(self._row + down, 0), self.HEIGHT - 1)
            self._column = min(max(self._column + right, 0), self.WIDTH - 1)
            self._has_key |= (self._row, self._column) == self.KEY
            reward = float(self._has_key and (self._row, self._column) == self.DOOR)
            self._over = reward > 0 or self._steps == self.STEPS
            flags = TERMINATED if self._over else 0
        self._draw(out)
        return reward, flags

    def _draw(self, out: NDArray[np.uint8]) -> None:
        out.fill(0)
        out[self.DOOR] = 64
        out[self.CORNER if self._has_key else self.KEY] = 128
        out[self._row, self._column] = 255

    def screen_rgb(self) -> NDArray[np.uint8]:
        """Returns the frame in squares, a new uint8[80, 240, 3]."""
        return draw_screen(self.spec, self._draw)

    def state(self) -> dict[str, Any]:
        """See `Env.state`."""
        where = [self._row, self._column, self._steps]
        return {"where": where, "key": self._has_key, "over": self._over}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """See `Env.load_state`."""
        row, column, steps = state["where"]
        self._row = range(self.HEIGHT).index(row)
        self._column = range(self.WIDTH).index(column)
        self._steps = range(self.STEPS + 1).index(steps)
        self._has_key, self._over = bool(state["key"]), bool(state["over"])


class RandomCoin:
    """An empty room with a coin, as in the study of separate networks for Agent57 (4.2).

    The agent begins in the middle of 9 x 9 fields and the coin in a random other one. Actions move
    by one field; walls stop. Reward 1, and the end of the episode, on arrival at the coin; an
    episode of 40 steps ends without it. A frame is uint8[9, 9]: 255 at the agent, 128 at the coin.
    """

    SIDE, STEPS = 9, 40
    MOVES = KeyDoor.MOVES
    lives = 0
    place = -1

    def __init__(self, seed: np.random.SeedSequence):
        """Makes the game; `seed` draws where coins are."""
        self.spec = EnvSpec((self.SIDE, self.SIDE), ("UP", "RIGHT", "DOWN", "LEFT"))
        self._rng = np.random.Generator(np.random.PCG64(seed))
        self._row = self._column = self._coin = self._steps = 0
        self._over = True

    def step(self, action: int, out: NDArray[np.uint8]) -> tuple[float, int]:
        """Plays one step; see `Env.step`."""
        reward, flags = 0.0, 0
        if self._over:
            self._row = self._column = self.SIDE // 2
            others = [field for field in range(self.SIDE**2) if field != self._field]
            self._coin = others[self._rng.integers(len(others))]
            self._steps, self._over = 0, False
            flags = FIRST
        else:
            check_action(action, self.spec)
            self._steps += 1
            down, right = self.MOVES[action]
            self._row = min(max(self._row + down, 0), self.SIDE - 1)
            self._column = min(max(self._column + right, 0), self.SIDE - 1)
            reward = float(self._field == self._coin)
            self._over = reward > 0 or self._steps == self.STEPS
            flags = TERMINATED if self._over else 0
        self._draw(out)
        return reward, flags

    @property
    def _field(self) -> int:
        return self._row * self.SIDE + self._column

    def _draw(self, out: NDArray[np.uint8]) -> None:
        out.fill(0)
        out.flat[self._coin] = 128
        out.flat[self._field] = 255

    def screen_rgb(self) -> NDArray[np.uint8]:
        """Returns the frame in squares, a new uint8[144, 144, 3]."""
        return draw_screen(self.spec, self._draw)

    def state(self) -> dict[str, Any]:
        """See `Env.state`."""
        where = [self._row, self._column, self._coin, self._steps]
        return {"where": where, "over": self._over, "rng": self._rng.bit_generator.state}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """See `Env.load_state`."""
        row, column, coin, steps = state["where"]
        side = range(self.SIDE)
        self._row, self._column = side.index(row), side.index(column)
        self._coin = range(self.SIDE**2).index(coin)
        self._steps = range(self.STEPS + 1).index(steps)
        self._over = bool(state["over"])
        self._rng.bit_generator.state = state["rng"]
