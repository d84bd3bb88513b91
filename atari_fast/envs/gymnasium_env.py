"""The vector environment behind the interface of gymnasium."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from atari_fast.config import FRAMES_PER_STEP, EnvConfig
from atari_fast.envs.atari_env import make_env
from atari_fast.envs.vector_env import VectorEnv
from atari_fast.errors import ConfigError, EnvError
from atari_fast.games import canonical_name
from atari_fast.seeding import child, stream
from atari_fast.types import Flag, StepBatch

_Observations = NDArray[np.uint8]
_Infos = dict[str, Any]


class AtariFastVectorEnv(
    gymnasium.vector.VectorEnv[_Observations, NDArray[np.int64], NDArray[Any]]
):
    """Many copies of a game; observations are uint8[E, stack, 84, 84], rewards are the game's own.

    The observation that comes with a termination or truncation is the true last one; the step after
    it ignores its action and returns the first observation of the next episode. Frames before the
    start of an episode are zero.

    The infos hold one value for each copy, and under `_<name>` bool[E] which copies have it:
    `lives` int64[E], lives left, 0 in games that have none; `life_lost` bool[E], which follows
    `config.life_loss`.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        "autoreset_mode": AutoresetMode.NEXT_STEP,
        "render_modes": ["rgb_array"],
        "render_fps": 60 // FRAMES_PER_STEP,
    }
    _envs: VectorEnv | None = None  # gymnasium 1.1 closes what its construction refused, too

    def __init__(
        self,
        game: str,
        num_envs: int = 8,
        *,
        config: EnvConfig | None = None,
        stack: int = 4,
        render_mode: str | None = None,
    ):
        """Loads the game once, for its spaces; the first `reset` makes all copies.

        Args:
            game: Name of the game: `ms_pacman`, `MsPacman`, `ALE/MsPacman-v5`; or a toy.
            num_envs: Number of copies, E; replaces `config.num_envs`.
            config: Protocol, mode and difficulty of the game, and number of worker processes.
            stack: Frames in an observation, the newest last.
            render_mode: `rgb_array` for `render`, or None.

        Raises:
            EnvError: The game is unknown or its ROM is unusable.
            ConfigError: A number is out of range, or the render mode is unknown.
        """
        if num_envs < 1 or stack < 1:
            raise ConfigError(
                f"num_envs and stack: got {num_envs} and {stack}, expected at least 1 of each"
            )
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ConfigError(f"render_mode: got {render_mode!r}, expected rgb_array or None")
        self._game = canonical_name(game)
        self._config = dataclasses.replace(config or EnvConfig(), num_envs=num_envs)
        root = np.random.SeedSequence()
        self._roots = [(root, i) for i in range(num_envs)]
        self._resets = [0] * num_envs
        spec = make_env(self._game, self._config, root).spec
        shape = (stack, *spec.frame_shape)
        self._history = list(np.zeros((stack, num_envs, *spec.frame_shape), dtype=np.uint8))
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.action_names = spec.action_names
        self.single_observation_space = gymnasium.spaces.Box(0, 255, shape, np.uint8)
        self.single_action_space = gymnasium.spaces.Discrete(spec.num_actions)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.spec = EnvSpec(
            f"atari_fast/{self._game}",
            vector_entry_point=f"{__name__}:{type(self).__name__}",
            kwargs={"game": game, "config": config, "stack": stack, "render_mode": render_mode},
        )

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[_Observations, _Infos]:
        """Starts all copies anew, or some.

        Args:
            seed: Root of all random numbers from here on; or one for each copy, which then plays as
                the only copy of an environment with that seed; None goes on with those there are.
            options: `reset_mask` bool[E]: only these copies start anew (and are seeded).

        Returns:
            Observations uint8[E, stack, 84, 84], of copies that started anew the first, and the
            infos of those copies.

        Raises:
            ConfigError: A seed is negative or their number is not E, the mask has another shape or
                nothing in it, or there is an unknown option.
            TypeError: A seed is no integer, or the mask is no array of bool.
            EnvError: The environment is closed, or the first reset is one of some copies.
            WorkerError: A worker failed.
        """
        if self.closed:
            raise EnvError("reset: the environment is closed; make a new AtariFastVectorEnv")
        mask = self._reset_mask(options or {})
        self._seed(seed, mask)
        seeds = {}
        for index in np.flatnonzero(mask).tolist():
            root, i = self._roots[index]
            seeds[index] = child(child(root, self._resets[index]), i)
            self._resets[index] += 1
        if self._envs is not None and not self._envs.closed:
            batch = self._envs.renew(seeds)
        else:
            self._envs = VectorEnv(self._game, self._config, list(seeds.values()))
            batch = self._envs.step(np.zeros(self.num_envs, dtype=np.int64))
        for frames in self._history:
            frames[mask] = 0
        self._history[-1][mask] = batch.frames[mask]
        return np.stack(self._history, axis=1), self._infos(self._envs, batch, mask)

    def _reset_mask(self, options: Mapping[str, Any]) -> NDArray[np.bool_]:
        """Returns which copies start anew, bool[E]."""
        unknown = set(options) - {"reset_mask"}
        if unknown:
            raise ConfigError(f"options: got {min(unknown)!r}, expected none but 'reset_mask'")
        mask = options.get("reset_mask", np.ones(self.num_envs, np.bool_))
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
            got = mask.dtype if isinstance(mask, np.ndarray) else type(mask).__name__
            raise TypeError(f"options['reset_mask']: got {got}, expected a numpy array of bool")
        if mask.shape != (self.num_envs,) or not mask.any():
            raise ConfigError(
                f"options['reset_mask']: got {mask}, expected bool[{self.num_envs}], one value a "
                "copy, with at least one True"
            )
        if not mask.all() and (self._envs is None or self._envs.closed):
            raise EnvError("reset: some copies have no games yet; reset all of them first")
        return mask

    def _seed(self, seed: int | Sequence[int | None] | None, mask: NDArray[np.bool_]) -> None:
        """Sets the random numbers of the copies in `mask`."""
        if seed is None:
            return
        single = isinstance(seed, (int, np.integer))
        seeds = [seed] * self.num_envs if single else list(seed)  # type: ignore[arg-type]
        if len(seeds) != self.num_envs:
            raise ConfigError(
                f"seed: got a list of {len(seeds)}, expected one for each of {self.num_envs} copies"
            )
        for number in seeds:
            if number is not None and not isinstance(number, (int, np.integer)):
                raise TypeError(f"seed: got {number!r}, expected integers")
            if number is not None and number < 0:
                raise ConfigError(f"seed: got {number}, expected 0 or above")
        if single:
            super().reset(seed=int(seed))  # type: ignore[arg-type]
        for index in np.flatnonzero(mask).tolist():
            number = seeds[index]
            if number is not None:
                root = stream(int(number), "env")
                self._roots[index] = (root, index if single else 0)
                self._resets[index] = 0

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[_Observations, NDArray[Any], NDArray[Any], NDArray[Any], _Infos]:
        """Plays one agent step of every copy.

        Args:
            actions: Integers [E], the index of an action for each copy.

        Returns:
            Observations uint8[E, stack, 84, 84], raw rewards float64[E], terminations bool[E],
            truncations bool[E], and infos.

        Raises:
            EnvError: `reset` was not called, or the actions are wrong.
            WorkerError: A worker failed.
        """
        envs = self._games("step")
        actions = np.asarray(actions)
        if actions.dtype.kind in "iu":
            actions = actions.astype(np.int64)
        batch = envs.step(actions)
        oldest = self._history.pop(0)
        first = np.flatnonzero(batch.flags & Flag.FIRST)
        for frames in self._history:
            frames[first] = 0
        oldest[...] = batch.frames
        self._history.append(oldest)
        return (
            np.stack(self._history, axis=1),  # a new array, which the caller may keep
            batch.rewards.astype(np.float64),
            (batch.flags & Flag.TERMINATED) != 0,
            (batch.flags & Flag.TRUNCATED) != 0,
            self._infos(envs, batch, np.ones(self.num_envs, np.bool_)),
        )

    def render(self) -> tuple[NDArray[np.uint8], ...]:
        """Returns the newest screen of each copy in colour, uint8[210, 160, 3].

        Raises:
            EnvError: The render mode is None, or `reset` was not called.
            WorkerError: A worker failed.
        """
        if self.render_mode is None:
            raise EnvError(
                "render: got render_mode None; make the environment with render_mode='rgb_array'"
            )
        return tuple(self._games("render").screens())

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Calls a method of each copy, or reads an attribute, as gymnasium's environments do.

        Args:
            name: `render`, `get_action_meanings`, `lives`, `action_names`, `action_space`,
                `observation_space`, `metadata`, `render_mode` or `spec`.
            args: None of these takes any.
            kwargs: None of these takes any.

        Returns:
            What each copy gives, E values.

        Raises:
            AttributeError: The copies have no such attribute.
            TypeError: There are arguments.
            EnvError: `reset` was not called, and `name` is `render` or `lives`.
        """
        if args or kwargs:
            raise TypeError(f"{name}: got arguments, expected none")
        if name == "render":
            return self.render()
        if name == "lives":
            return tuple(self._games("lives").lives().tolist())
        shared = {
            "get_action_meanings": list(self.action_names),
            "action_names": self.action_names,
            "action_space": self.single_action_space,
            "observation_space": self.single_observation_space,
            "metadata": self.metadata,
            "render_mode": self.render_mode,
            "spec": self.spec,
        }
        if name not in shared:
            raise AttributeError(
                f"{name}: the copies have no such attribute; they have render, lives, "
                f"{', '.join(shared)}"
            )
        return (shared[name],) * self.num_envs

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """Reads an attribute of each copy; see `call`."""
        return self.call(name)

    def set_attr(self, name: str, values: Any) -> None:
        """Raises AttributeError: what a copy is, is settled when the environment is made."""
        raise AttributeError(
            f"{name}: got {values!r}, but copies cannot be changed; make a new AtariFastVectorEnv "
            "with another config"
        )

    def close_extras(self, **kwargs: Any) -> None:  # noqa: ARG002
        """Ends the worker processes."""
        if self._envs is not None:
            self._envs.close()

    def _games(self, call: str) -> VectorEnv:
        """Returns the vector environment; raises EnvError where there is none."""
        if self._envs is None or self._envs.closed:
            raise EnvError(f"{call}: the environment has no games; call reset() first")
        return self._envs

    def _infos(self, envs: VectorEnv, batch: StepBatch, mask: NDArray[np.bool_]) -> _Infos:
        """Returns the infos of the copies in `mask`."""
        lost = (batch.flags & Flag.LIFE_LOST) != 0
        return {
            "lives": np.where(mask, envs.lives(), 0),
            "_lives": mask.copy(),
            "life_lost": lost & mask,
            "_life_lost": mask.copy(),
        }
