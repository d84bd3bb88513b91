"""Records that more than one layer speaks of."""

from __future__ import annotations

import enum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Flag(enum.IntFlag):
    """What arrived with a frame, as a bit set in a uint8.

    An environment's frames are one ordered stream. The frame that ends an episode is the true last
    one and carries TERMINATED or TRUNCATED; the next step of that environment ignores its action
    and delivers the first frame of the next episode, flagged FIRST.
    """

    FIRST = 1
    """First frame of an episode; the action sent before it was ignored."""
    TERMINATED = 2
    """The episode ended here: nothing may be bootstrapped from this frame."""
    TRUNCATED = 4
    """The frame cap was reached here: this frame is bootstrapped from, the next one is FIRST."""
    LIFE_LOST = 8
    """A life was lost and the game goes on. With TERMINATED (life mode `episodic`) only the
    pseudo-episode ended, not the game."""


class StepBatch(NamedTuple):
    """What E environments delivered for one agent step (4 emulator frames)."""

    frames: NDArray[np.uint8]
    """uint8[E, H, W], one preprocessed frame per environment."""
    rewards: NDArray[np.float32]
    """float32[E], raw game reward of the step, never clipped; put right where the game's counter
    passed its end."""
    flags: NDArray[np.uint8]
    """uint8[E], bit set of `Flag`."""


class Acted(NamedTuple):
    """What an actor chose in E environments, and what the memory needs to know about it."""

    actions: NDArray[np.int64]
    """int64[E], indices of actions."""
    columns: tuple[NDArray[Any], ...] = ()
    """[E, width] each: further columns of the rows, in the order of the memory's specs."""
    states: tuple[NDArray[Any], ...] = ()
    """[E, width] each: recurrent state before this step."""
    estimates: tuple[NDArray[np.float32], ...] = ()
    """float32[E] each: inputs of initial priorities, which are not stored, or what a rollout keeps
    of each row."""


class Episode(NamedTuple):
    """A finished game."""

    env: int
    """Index of its environment."""
    score: float
    """Sum of the raw rewards."""
    steps: int
    """Agent steps."""
    truncated: bool
    """Whether the frame cap ended it."""


class EnvSpec(NamedTuple):
    """What an agent must know of its environments."""

    frame_shape: tuple[int, int]
    """(height, width) of a frame in pixels."""
    action_names: tuple[str, ...]
    """Name of each action, in the order of its index."""

    @property
    def num_actions(self) -> int:
        """Number of actions, A."""
        return len(self.action_names)
