"""The lanes as a vector environment of gymnasium."""

from __future__ import annotations

import dataclasses
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from atari_fast.config import EnvConfig
from atari_fast.envs.lane import make_lane
from atari_fast.envs.pool import LanePool
from atari_fast.errors import ConfigError, EnvError
from atari_fast.seeding import child, stream
from atari_fast.types import Flag, StepBatch

_Observations = NDArray[np.uint8]
_Infos = dict[str, Any]


class AtariFastVectorEnv(VectorEnv[_Observations, NDArray[np.int64], NDArray[Any]]):
    """Many copies of a game; observations are uint8[E, stack, 84, 84], rewards are the game's own.

    The observation that comes with a termination or truncation is the true last one; the step after
    it ignores its action and returns the first observation of the next episode. Frames before the
    start of an episode are zero.
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(
        self, game: str, num_envs: int = 8, *, config: EnvConfig | None = None, stack: int = 4
    ):
        """Loads the game once, for its spaces; `reset` makes all copies.

        Args:
            game: Name of the game: `ms_pacman`, `MsPacman`, `ALE/MsPacman-v5`; or a toy.
            num_envs: Number of copies, E; replaces `config.lanes`.
            config: Protocol and number of worker processes.
            stack: Frames in an observation, the newest last.

        Raises:
            EnvError: The game is unknown or its ROM is unusable.
            ConfigError: A number is out of range.
        """
        if num_envs < 1 or stack < 1:
            raise ConfigError(
                f"num_envs and stack: got {num_envs} and {stack}, expected at least 1 of each"
            )
        self._game = game
        self._config = dataclasses.replace(config or EnvConfig(), lanes=num_envs)
        self._seed = np.random.SeedSequence()
        self._resets = 0
        self._pool: LanePool | None = None
        spec = make_lane(game, self._config, self._seed).spec
        shape = (stack, *spec.frame_shape)
        self._history = list(np.zeros((stack, num_envs, *spec.frame_shape), dtype=np.uint8))
        self.num_envs = num_envs
        self.action_names = spec.action_names
        self.single_observation_space = gymnasium.spaces.Box(0, 255, shape, np.uint8)
        self.single_action_space = gymnasium.spaces.Discrete(spec.num_actions)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[_Observations, _Infos]:
        """Starts every copy anew.

        Args:
            seed: Root of all random numbers from here on; None goes on with those there are.
            options: Not used.

        Returns:
            First observations uint8[E, stack, 84, 84] and the infos of `step`.
        """
        super().reset(seed=seed, options=options)
        if seed is not None:
            self._seed, self._resets = stream(seed, "env"), 0
        self._close_pool()
        self._pool = LanePool(self._game, self._config, child(self._seed, self._resets))
        self._resets += 1
        batch = self._pool.step(np.zeros(self.num_envs, dtype=np.int64))
        return self._stack(batch), _infos(batch)

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[_Observations, NDArray[Any], NDArray[Any], NDArray[Any], _Infos]:
        """Plays one agent step of every copy.

        Args:
            actions: int64[E].

        Returns:
            Observations uint8[E, stack, 84, 84], raw rewards float64[E], terminations bool[E],
            truncations bool[E], and infos, whose `life_lost` bool[E] follows `config.life_loss`.

        Raises:
            EnvError: `reset` was not called, or the actions are wrong.
        """
        if self._pool is None:
            raise EnvError("step: the environment has no games yet; call reset() first")
        batch = self._pool.step(np.asarray(actions, dtype=np.int64))
        return (
            self._stack(batch),
            batch.rewards.astype(np.float64),
            (batch.flags & Flag.TERMINATED) != 0,
            (batch.flags & Flag.TRUNCATED) != 0,
            _infos(batch),
        )

    def close_extras(self, **kwargs: Any) -> None:  # noqa: ARG002
        """Ends the worker processes."""
        self._close_pool()

    def _stack(self, batch: StepBatch) -> _Observations:
        """Returns the observations after `batch` in a new array, which the caller may keep."""
        oldest = self._history.pop(0)
        first = np.flatnonzero(batch.flags & Flag.FIRST)
        for frames in self._history:
            frames[first] = 0
        oldest[...] = batch.frames
        self._history.append(oldest)
        return np.stack(self._history, axis=1)

    def _close_pool(self) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None


def _infos(batch: StepBatch) -> _Infos:
    return {"life_lost": (batch.flags & Flag.LIFE_LOST) != 0}
