"""What a run does for the periodic parts of an algorithm (`agents.agent.Services`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from atari_fast.agents.agent import Agent, Interrupted, Memory
from atari_fast.config import Config
from atari_fast.runtime.device import Autocast
from atari_fast.runtime.evaluation import evaluate
from atari_fast.seeding import stream, to_int
from atari_fast.types import EnvSpec


@dataclass(frozen=True)
class RunServices:
    """The services of one run; see `agents.agent.Services`."""

    config: Config
    agent: Agent[Any]
    spec: EnvSpec
    device: torch.device
    autocast: Autocast
    memory: Memory[Any]
    optimizers: Mapping[str, torch.optim.Optimizer]
    now: Callable[[], int]
    stop: Callable[[], bool]
    busy: Callable[[str], None]
    log: Callable[[Mapping[str, float], str], None]

    @property
    def frames(self) -> int:
        """Emulator frames of the run so far."""
        return self.now()

    def show(self, text: str) -> None:
        """Says what is being done, or raises Interrupted."""
        if self.stop():
            raise Interrupted
        self.busy(text)

    def play(self, games: int, epsilon: float, seed: str) -> tuple[float, ...]:
        """Scores of full games with the networks as they are, or raises Interrupted."""
        result = evaluate(
            self.agent,
            self.config,
            self.spec,
            self.device,
            self.autocast,
            episodes=games,
            epsilon=epsilon,
            seed=to_int(stream(self.config.seed, seed), 31),
            stop=self.stop,
        )
        if self.stop():
            raise Interrupted
        return result.scores
