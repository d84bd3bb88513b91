"""Stacks of frames between the environments and an agent's actor: the one path of all acting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from atari_fast.agents.agent import ActorSpec, Agent, B
from atari_fast.infra.weights import checked_like
from atari_fast.types import Acted, EnvSpec, Flag, StepBatch


class StackedActor:
    """An agent's actor with the last S frames of each of its environments, kept on the device.

    Training, evaluation, recordings and studies act through it.
    """

    def __init__(
        self, agent: Agent[B], spec: ActorSpec, env: EnvSpec, device: torch.device
    ) -> None:
        """Make an actor for environments whose first steps are still to come."""
        self.actor = agent.make_actor(spec)
        """The agent's own actor."""
        shape = (spec.num_envs, agent.stack, *env.frame_shape)
        self.observations = torch.zeros(shape, dtype=torch.uint8, device=device)
        """The observations of the last step, uint8[E, S, H, W]."""

    def act(self, step: StepBatch, frames: int = 0) -> Acted:
        """Choose the actions that follow a step, after `frames` emulator frames of the run."""
        newest = torch.from_numpy(step.frames).to(self.observations.device)
        stacks = torch.cat((self.observations[:, 1:], newest[:, None]), dim=1)
        first = np.flatnonzero(step.flags & Flag.FIRST)
        if len(first):
            stacks[torch.from_numpy(first).to(stacks.device), :-1] = 0
        self.observations = stacks
        return self.actor.act(stacks, step, frames)

    def state(self) -> dict[str, Any]:
        """The stacks of frames, and the state of the agent's actor."""
        return {"observations": self.observations, **self.actor.state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`."""
        self.observations = checked_like(state["observations"], self.observations)
        self.actor.load_state(state)
