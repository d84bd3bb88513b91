"""What an agent is: one record and a few interfaces, which are all that the runtime knows of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from atari_fast.config import OptimizerConfig
from atari_fast.types import Acted, Episode, StepBatch

SMALLEST_SHARE = 8
"""Fewest transitions, or short sequences, that are worth a thread of their own."""
QValues = Callable[[torch.Tensor], torch.Tensor]
"""Observations uint8[E, S, H, W] -> action values float32[E, A]."""


class PerEnvRandom:
    """Random numbers of which each environment draws its own, from a generator of its own."""

    def __init__(self, rngs: list[np.random.Generator]) -> None:
        self.rngs = rngs

    def random(self, size: int) -> NDArray[np.float64]:
        """A number in [0, 1) for each of `size` environments."""
        return np.array([rng.random() for rng in self.rngs[:size]])

    def integers(self, high: int, *, size: int) -> NDArray[np.int64]:
        """A whole number below `high` for each of `size` environments."""
        return np.array([rng.integers(high) for rng in self.rngs[:size]])


Random: TypeAlias = np.random.Generator | PerEnvRandom


class Batch(Protocol):
    """A named tuple of tensors, or of tuples of tensors, with B items."""

    @property
    def weights(self) -> torch.Tensor:
        """Importance weights, float32[B]."""

    @property
    def ids(self) -> torch.Tensor:
        """What `Memory.update_priorities` takes, int64[B], always on the CPU."""

    def slice(self, begin: int, end: int) -> Any:
        """Items [begin, end) of the batch, as views."""

    def _asdict(self) -> dict[str, Any]:
        """The fields by name."""


B = TypeVar("B", bound=Batch)


class Stateful(Protocol):
    """Something whose state belongs in checkpoints."""

    def state(self) -> dict[str, Any]:
        """Nested dicts, lists, tensors and plain values."""

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""


@dataclass
class ActorSpec:
    """What an actor is made for; it reads `epsilon` at every step."""

    num_envs: int
    """E, number of environments."""
    mode: Literal["train", "evaluate"]
    """train: explore as the algorithm does; evaluate: play as well as possible, except for
    `epsilon`."""
    rng: Random
    """Source of random actions."""
    autocast: Callable[[], contextlib.AbstractContextManager[object]]
    """Context in which the networks compute."""
    epsilon: float = 0.0
    """Probability of a random action in mode `evaluate`."""
    fixed_batches: bool = False
    """Compute in batches of one size, so that actions do not depend on E through rounding."""


class Actor(Stateful, Protocol):
    """Chooses actions for E environments, and owns everything it carries from step to step."""

    def act(self, observations: torch.Tensor, step: StepBatch, frames: int) -> Acted:
        """Choose the actions that follow a step.

        Args:
            observations: stacks of frames on the device, zero before an episode's first frame.
                uint8[E, S, H, W]
            step: what the environments delivered. Where it is FIRST, an episode begins.
            frames: emulator frames of the run so far.
        """

    def episodes_finished(self, episodes: Sequence[Episode]) -> None:
        """Take in the games that ended with the last step."""

    def metrics(self) -> Mapping[str, float]:
        """Scalars of the last step to log."""


class Memory(Protocol[B]):
    """Turns rows into batches."""

    def __len__(self) -> int:
        """Number of items, or for rollouts of batches, that can be drawn; 0: nothing can."""

    @property
    def prioritized(self) -> bool:
        """Whether draws follow the priorities that the learner returns."""

    @property
    def bytes_used(self) -> int:
        """Bytes that the memory takes now."""

    def append(self, step: StepBatch, acted: Acted) -> object:
        """Store what arrived in E environments and what the actor made of it."""

    def due(self, frames: int, updates: int) -> int:
        """Number of updates to do now, after `frames` emulator frames and `updates` updates."""

    def beta(self, progress: float) -> float:
        """Importance exponent after a fraction `progress` of the run's learning, 0 to 1."""

    def new_batch(self, size: int, pinned: bool) -> B:
        """Allocate a batch of `size` items on the CPU, in page-locked memory if `pinned`."""

    def sample_into(self, batch: B, beta: float) -> None:
        """Draw items into a batch of `new_batch`, with importance exponent `beta`."""

    def update_priorities(self, ids: torch.Tensor, priorities: torch.Tensor) -> int:
        """Set the priorities of ids int64[B] to float32[B]; return how many items were gone."""

    def save(self, path: Path, *, split: bool = False, previous: Path | None = None) -> None:
        """Write all rows to a file; see `TransitionReplay.save`."""

    def load(self, path: Path) -> None:
        """Read what `save` wrote."""

    def state(self) -> dict[str, Any]:
        """What `save` does not write."""

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""


class LossOutput(NamedTuple):
    """Losses, priorities and metrics of a batch of B items."""

    losses: torch.Tensor
    """float32[B], differentiable; the learner weights and averages them."""
    priorities: torch.Tensor
    """float32[B], detached, at least 0: absolute TD errors, or the losses of a distribution."""
    metrics: Mapping[str, torch.Tensor]
    """Detached scalars to log, on the device."""


@dataclass(frozen=True)
class Objective(Generic[B]):
    """Something that is trained on every batch."""

    name: str
    """Its loss is logged as `loss/<name>`."""
    net: nn.Module
    """Module whose parameters its optimizer owns."""
    optim: OptimizerConfig
    """Settings of its optimizer."""
    loss: Callable[[B], LossOutput]
    """The algorithm's mathematics: a pure function of the networks and the batch."""


class Interrupted(Exception):
    """The run is about to end: a hook must roll back its changes, and is called again later."""


class Services(Protocol):
    """What the runtime does for a periodic part of an algorithm."""

    @property
    def memory(self) -> Any:
        """The agent's memory."""

    @property
    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        """Optimizer of each objective, by the objective's name."""

    @property
    def frames(self) -> int:
        """Emulator frames of the run so far."""

    def play(self, games: int, epsilon: float, seed: str) -> Sequence[float]:
        """Scores of full games with the networks as they are, on the seeds that `seed` names.

        Raises:
            Interrupted: a signal arrived.
        """

    def show(self, text: str) -> None:
        """Display what is being done while it takes long; raises as `play` does."""

    def log(self, values: Mapping[str, float], note: str) -> None:
        """Log values at the present frame and display a line."""


class Hook(NamedTuple):
    """A periodic part of an algorithm, called between updates."""

    period: int
    """Emulator frames after learning begins, or updates, between calls."""
    call: Callable[[Services], None]
    unit: Literal["frames", "updates"] = "frames"
    """What `period` counts. A hook that counts updates must not play or show anything."""


class MemoryNeed(NamedTuple):
    """Something that takes much main memory, checked before a run begins."""

    bytes: int
    """The most that it takes."""
    setting: str
    """Setting that asks for it."""
    remedy: str
    """How a user can need less."""


@dataclass(frozen=True)
class Agent(Generic[B]):
    """One agent, as the `build` function of its algorithm makes it."""

    nets: Mapping[str, nn.Module]
    """Every network by name; all of them go into checkpoints. Zoo files have `online`."""
    make_actor: Callable[[ActorSpec], Actor]
    """Makes actors for training, evaluation, recording and Python programs."""
    make_memory: Callable[[int], Memory[B]]
    """Makes the memory; the argument seeds its random numbers."""
    memory_needs: tuple[MemoryNeed, ...]
    """What takes much main memory; the first is the memory of `make_memory`."""
    batch_type: type[B]
    """Class of the memory's batches."""
    objectives: tuple[Objective[B], ...]
    """What is trained on each batch, in this order; the first one sets priorities."""
    stack: int
    """S, frames of an observation."""
    batch_size: int
    """B, items of a batch."""
    learning_starts: int
    """Emulator frames before the first update."""
    parallel: bool = True
    """Whether an update is large enough to be shared by several threads."""
    smallest_share: int = SMALLEST_SHARE
    """Fewest items of a batch that a thread computes; fewer cost more than they save."""
    hooks: tuple[Hook, ...] = ()
    """Periodic parts, in the order in which they are called."""
    parts: Mapping[str, Stateful] = field(default_factory=dict)
    """Further parts, by name, whose state goes into checkpoints, such as a bandit."""
    q_values: QValues | None = None
    """Action values of observations; None for an agent that needs more than one observation."""


def tensors_of(batch: Any) -> Iterator[torch.Tensor]:
    """All tensors of a batch, in order."""
    for value in batch:
        if isinstance(value, tuple):
            yield from tensors_of(value)
        else:
            yield value


def map_batch(function: Callable[[Any], Any], batch: B) -> B:
    """A batch of the same kind whose tensors are `function` of those of `batch`."""

    def mapped(value: Any) -> Any:
        if not isinstance(value, tuple):
            return function(value)
        return getattr(type(value), "_make", tuple)(map(mapped, value))

    made: B = mapped(batch)
    return made
