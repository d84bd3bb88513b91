"""Trained agents for Python programs: `atari_fast.load_agent`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from atari_fast.agents.agent import Actor, ActorSpec
from atari_fast.agents.restore import TrainedAgent
from atari_fast.agents.restore import load_agent as restore
from atari_fast.config import Config
from atari_fast.envs.gymnasium_env import AtariFastVectorEnv
from atari_fast.errors import ConfigError
from atari_fast.runtime.device import Autocast, select_device
from atari_fast.types import Flag, StepBatch


class Player:
    """A trained agent that chooses actions.

    An agent with a memory (R2D2) remembers what it saw in earlier calls of `act` until `starts`
    says that an episode begins; others look at the present observations alone.
    """

    def __init__(self, agent: TrainedAgent, device: torch.device) -> None:
        self._agent = agent
        self._device = device
        self._autocast = Autocast(device, agent.config.precision)
        self._spec = ActorSpec(0, "evaluate", np.random.default_rng(), self._autocast)
        self._actor: Actor | None = None

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
            config.game,
            num_envs,
            config=env,
            stack=self._agent.agent.stack,
            render_mode=render_mode,
        )

    def q_values(self, observations: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Action values float32[E, A] of observations uint8[E, S, H, W].

        Raises:
            ConfigError: the observations have another dtype or shape, or the agent has a memory or
                learns a policy instead.
        """
        network = self._agent.agent.q_values
        if network is None:
            raise ConfigError(
                "q_values: this agent has no action values of single observations; use `act`"
            )
        batch = self._observations(observations)
        with torch.inference_mode(), self._autocast():
            values: NDArray[np.float32] = network(batch).float().cpu().numpy()
        return values

    def act(
        self,
        observations: NDArray[np.uint8],
        epsilon: float = 0.0,
        *,
        rewards: NDArray[np.floating[Any]] | None = None,
        starts: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.int64]:
        """Chooses an action for each environment.

        Args:
            observations: uint8[E, S, H, W], as `AtariFastVectorEnv` delivers them.
            epsilon: probability of a random action instead of the agent's, from 0 to 1.
            rewards: raw rewards [E] that arrived with the observations, which recurrent agents
                see; default: 0.
            starts: bool[E], where the observation is the first one of an episode, so that an agent
                with a memory begins anew; default: only in the first call for E environments. With
                `make_env` these are the previous step's terminations | truncations.

        Returns:
            int64[E], indices of actions.

        Raises:
            ConfigError: the observations have another dtype or shape, `rewards` or `starts` are not
                of shape [E], or epsilon is out of range.
        """
        if not 0 <= epsilon <= 1:
            raise ConfigError(f"epsilon: expected a number from 0 to 1, got {epsilon}")
        batch = self._observations(observations)
        num_envs = len(batch)
        for name, given in (("rewards", rewards), ("starts", starts)):
            if given is not None and np.shape(given) != (num_envs,):
                raise ConfigError(f"{name}: expected [{num_envs}], got {list(np.shape(given))}")
        flags = np.zeros(num_envs, np.uint8)
        if self._actor is None or self._spec.num_envs != num_envs:
            self._spec.num_envs = num_envs
            self._actor = self._agent.agent.make_actor(self._spec)
            flags[:] = Flag.FIRST
        if starts is not None:
            flags[np.asarray(starts, np.bool_)] = Flag.FIRST
        raw = np.zeros(num_envs) if rewards is None else np.asarray(rewards)
        self._spec.epsilon = epsilon
        step = StepBatch(observations[:, -1], raw.astype(np.float32), flags)
        return self._actor.act(batch, step, self._agent.frames).actions

    def seed(self, seed: int) -> None:
        """Begins the random numbers of `act` anew, and forgets what the agent saw."""
        self._spec.rng = np.random.default_rng(seed)
        self._actor = None

    def _observations(self, observations: NDArray[np.uint8]) -> torch.Tensor:
        """The observations on the device, checked."""
        frames = np.asarray(observations)
        shape = (self._agent.agent.stack, *self._agent.spec.frame_shape)
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != shape:
            sides = ", ".join(map(str, shape))
            raise ConfigError(
                f"observations: expected uint8[E, {sides}], got {frames.dtype}{list(frames.shape)}"
            )
        return torch.tensor(frames, device=self._device)


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
