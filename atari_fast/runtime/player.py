"""Trained agents for Python programs: `atari_fast.load_agent`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from atari_fast.agents.restore import TrainedAgent
from atari_fast.agents.restore import load_agent as restore
from atari_fast.config import Config
from atari_fast.envs.gymnasium_env import AtariFastVectorEnv
from atari_fast.errors import ConfigError
from atari_fast.runtime.device import Autocast, select_device


class Player:
    """A trained agent that chooses actions; it keeps nothing from one call to the next."""

    def __init__(self, agent: TrainedAgent, device: torch.device) -> None:
        self._agent = agent
        self._device = device
        self._autocast = Autocast(device, agent.config.precision)
        self._rng = np.random.default_rng()

    @property
    def config(self) -> Config:
        """The settings of its training."""
        return self._agent.config

    @property
    def action_names(self) -> tuple[str, ...]:
        """Name of each action, in the order of its index."""
        return self._agent.spec.action_names

    def make_env(self, num_envs: int = 1, render_mode: str | None = None) -> AtariFastVectorEnv:
        """The vector environment that the agent was trained for, in whole games.

        Args:
            num_envs: number of copies, E.
            render_mode: as for `AtariFastVectorEnv`.
        """
        config = self._agent.config
        env = dataclasses.replace(config.env, life_loss="none", num_workers=0)
        return AtariFastVectorEnv(
            config.game, num_envs, config=env, stack=config.net.stack, render_mode=render_mode
        )

    def q_values(self, observations: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Action values float32[E, A] of observations uint8[E, S, H, W].

        Raises:
            ConfigError: the observations have another dtype or shape.
        """
        frames = np.asarray(observations)
        stack, shape = self._agent.config.net.stack, self._agent.spec.frame_shape
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != (stack, *shape):
            sides = ", ".join(map(str, (stack, *shape)))
            raise ConfigError(
                f"observations: expected uint8[E, {sides}], got {frames.dtype}{list(frames.shape)}"
            )
        batch = torch.tensor(frames, device=self._device)
        with torch.inference_mode(), self._autocast():
            values: NDArray[np.float32] = self._agent.parts.q_values(batch).float().cpu().numpy()
        return values

    def act(self, observations: NDArray[np.uint8], epsilon: float = 0.0) -> NDArray[np.int64]:
        """Chooses an action for each environment.

        Args:
            observations: uint8[E, S, H, W], as `AtariFastVectorEnv` delivers them.
            epsilon: probability of a random action instead of the best one, from 0 to 1.

        Returns:
            int64[E], indices of actions.

        Raises:
            ConfigError: the observations have another dtype or shape, or epsilon is out of range.
        """
        if not 0 <= epsilon <= 1:
            raise ConfigError(f"epsilon: expected a number from 0 to 1, got {epsilon}")
        greedy = self.q_values(observations).argmax(axis=1)
        chance = self._rng.integers(len(self.action_names), size=len(greedy))
        explore = self._rng.random(len(greedy)) < epsilon
        actions: NDArray[np.int64] = np.where(explore, chance, greedy).astype(np.int64)
        return actions

    def seed(self, seed: int) -> None:
        """Begins the random numbers of `act` anew."""
        self._rng = np.random.default_rng(seed)


def load_agent(path: str | Path, which: str = "best", device: str = "auto") -> Player:
    """Loads a trained agent.

    Args:
        path: a run directory, a checkpoint in it, or a zoo file (.safetensors).
        which: `best` by evaluation or `last`; only for run directories.
        device: torch device; `auto` is CUDA where it is there, else the CPU.

    Raises:
        CheckpointError: nothing usable is there.
        ConfigError: there is no such device, or `which` is another word.
    """
    if which not in ("best", "last"):
        raise ConfigError(f"which: expected best or last, got {which!r}")
    place = select_device(device)
    return Player(restore(Path(path), which, place), place)
