"""The settings of agents that learn from rollouts: A2C, PPO, PQN."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal

from atari_fast.config.base import (
    Config,
    EnvConfig,
    OptimizerConfig,
    TorsoConfig,
    torso_problems,
)
from atari_fast.config.ranges import (
    FRACTION,
    NON_NEGATIVE,
    REAL_NON_NEGATIVE,
    Range,
)


@dataclass(frozen=True)
class RolloutNetConfig(TorsoConfig):
    """The network: a torso, a linear layer, an LSTM or none, and the outputs."""

    hidden: Annotated[int, Range(0, 1_048_576)] = 512
    """Units of the linear layer after the torso, which has layer normalization too if `layer_norm`;
    0: there is none."""
    lstm: Annotated[int, Range(0, 65_536)] = 0
    """Units of the LSTM after it; 0: there is none."""


@dataclass(frozen=True)
class RolloutConfig:
    """How rollouts are collected and learned from. Defaults: A2C."""

    steps: Annotated[int, Range(1, 65_536)] = 20
    """Agent steps of a rollout in each environment, T."""


@dataclass(frozen=True)
class WorkerRolloutConfig(RolloutConfig):
    """Rollouts of workers that learn on their own (A3C)."""

    worker_steps: Annotated[tuple[int, ...], Range(1, 65_536)] = ()
    """Agent steps of the rollouts of each worker, beginning anew with worker 0 where there are more
    workers than numbers; empty: `steps` in all of them."""
    worker_restarts: Annotated[int, NON_NEGATIVE] = 10
    """How many workers may die before the run ends; each is replaced by a new one."""


@dataclass(frozen=True)
class SplitRolloutConfig(RolloutConfig):
    """Rollouts that are learned from in parts."""

    minibatches: Annotated[int, Range(1, 65_536)] = 1
    """Updates in each epoch, M. Each learns from another M-th of the transitions, or with an LSTM
    of the environments."""


@dataclass(frozen=True)
class ReusedRolloutConfig(SplitRolloutConfig):
    """Rollouts that are learned from several times. Defaults: PPO (Schulman 2017)."""

    steps: Annotated[int, Range(1, 65_536)] = 128
    """Agent steps of a rollout in each environment, T."""
    minibatches: Annotated[int, Range(1, 65_536)] = 4
    """Updates in each epoch, M. Each learns from another M-th of the transitions, or with an LSTM
    of the environments."""
    epochs: Annotated[int, Range(1, 1_000)] = 4
    """How often each rollout is learned from, K."""


@dataclass(frozen=True)
class RolloutFamilyAgentConfig:
    """Options of every agent that learns from rollouts."""

    discount: Annotated[float, FRACTION] = 0.99
    """Discount factor gamma of one agent step."""
    reward_clip: Annotated[float, REAL_NON_NEGATIVE] = 1.0
    """Rewards are clipped to [-x, x] in returns; 0 disables clipping."""


@dataclass(frozen=True)
class ActorCriticAgentConfig(RolloutFamilyAgentConfig):
    """Options of A2C and PPO."""

    gae_lambda: Annotated[float, FRACTION] = 0.95
    """Lambda of generalized advantage estimation; 1: plain returns."""
    entropy_weight: Annotated[float, REAL_NON_NEGATIVE] = 0.01
    """Weight of the policy's entropy, which is maximised."""
    value_weight: Annotated[float, REAL_NON_NEGATIVE] = 0.5
    """Weight of half the squared error of the value."""
    normalize_advantages: bool = False
    """Shift and scale the advantages of each minibatch to mean 0 and variance 1."""
    evaluation: Literal["sample", "greedy"] = "sample"
    """How evaluations choose actions: by the policy's probabilities, or the most probable one."""


@dataclass(frozen=True)
class A2cAgentConfig(ActorCriticAgentConfig):
    """The algorithm and its options."""

    algorithm: Literal["a2c"] = "a2c"
    """Advantage actor-critic (Mnih 2016, with batched environments)."""
    gae_lambda: Annotated[float, FRACTION] = 1.0
    """Lambda of generalized advantage estimation; 1: plain returns."""


@dataclass(frozen=True)
class A3cAgentConfig(ActorCriticAgentConfig):
    """The algorithm and its options."""

    algorithm: Literal["a3c"] = "a3c"
    """Asynchronous advantage actor-critic (Mnih 2016)."""
    gae_lambda: Annotated[float, FRACTION] = 1.0
    """Lambda of generalized advantage estimation; 1: plain returns."""


@dataclass(frozen=True)
class PpoAgentConfig(ActorCriticAgentConfig):
    """The algorithm and its options."""

    algorithm: Literal["ppo"] = "ppo"
    """Proximal policy optimization (Schulman 2017)."""
    clip: Annotated[float, Range(1e-6, 1e6)] = 0.1
    """Epsilon: probability ratios count as at most this far from 1."""
    clip_value: bool = True
    """Count the value as at most `clip` away from that of the actor, where that is worse."""


@dataclass(frozen=True)
class PqnAgentConfig(RolloutFamilyAgentConfig):
    """The algorithm and its options."""

    algorithm: Literal["pqn"] = "pqn"
    """Parallelised Q-network (Gallici 2024): Q(lambda) without replay and target network."""
    q_lambda: Annotated[float, FRACTION] = 0.65
    """Lambda of the Q(lambda) returns."""
    epsilon_start: Annotated[float, FRACTION] = 1.0
    """Probability of a random action at the start."""
    epsilon_end: Annotated[float, FRACTION] = 0.001
    """Probability of a random action after `epsilon_frames`."""
    epsilon_frames: Annotated[int, NON_NEGATIVE] = 20_000_000
    """Frames over which it falls on a line."""


@dataclass(frozen=True)
class SharedOptimizerConfig(OptimizerConfig):
    """The optimizer of workers that change shared weights."""

    shared: bool = True
    """All workers have the moving averages and the step count of the optimizer in common (Mnih
    2016); without, each has its own."""


@dataclass(frozen=True)
class RolloutFamilyConfig(Config):
    """All settings of a run of an agent that learns from rollouts."""

    in_turn = True

    env: EnvConfig = field(default_factory=EnvConfig)
    net: RolloutNetConfig = field(default_factory=lambda: RolloutNetConfig(init="orthogonal"))
    agent: RolloutFamilyAgentConfig = field(default_factory=RolloutFamilyAgentConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    optim: OptimizerConfig = field(default_factory=OptimizerConfig)

    @property
    def items(self) -> int:
        """Items that a minibatch is drawn from: environments with an LSTM, else transitions."""
        return self.env.num_envs * (1 if self.net.lstm else self.rollout.steps)

    def problems(self) -> Iterator[str]:
        """See `Config.problems`."""
        yield from super().problems()
        yield from torso_problems(self.net, rollouts=True)
        rollout = self.rollout
        if isinstance(rollout, SplitRolloutConfig) and self.items % rollout.minibatches:
            what = "env.num_envs" if self.net.lstm else "env.num_envs * rollout.steps"
            yield (
                f"rollout.minibatches: expected a divisor of {what} = {self.items}, "
                f"got {rollout.minibatches}"
            )


@dataclass(frozen=True)
class HogwildConfig(RolloutFamilyConfig):
    """Settings of a run whose workers play and learn, each on its own, with shared weights.

    `env.num_envs` environments are divided among `env.num_workers` processes.
    """

    rollout: WorkerRolloutConfig = field(default_factory=WorkerRolloutConfig)
    optim: SharedOptimizerConfig = field(default_factory=SharedOptimizerConfig)

    def problems(self) -> Iterator[str]:
        """See `Config.problems`."""
        yield from super().problems()
        workers, lengths = self.env.num_workers, len(self.rollout.worker_steps)
        if workers == 0:
            yield "env.num_workers: expected at least 1, since the workers learn, got 0"
        if 0 < workers < lengths:
            yield (
                f"rollout.worker_steps: expected at most one for each of env.num_workers = "
                f"{workers}, got {lengths}"
            )


@dataclass(frozen=True)
class ActorCriticConfig(RolloutFamilyConfig):
    """All settings of a run of A2C or PPO."""

    agent: ActorCriticAgentConfig = field(default_factory=ActorCriticAgentConfig)


@dataclass(frozen=True)
class A2cConfig(ActorCriticConfig):
    """All settings of a run of A2C."""

    agent: A2cAgentConfig = field(default_factory=A2cAgentConfig)
    rollout: SplitRolloutConfig = field(default_factory=SplitRolloutConfig)


@dataclass(frozen=True)
class A3cConfig(HogwildConfig, ActorCriticConfig):
    """All settings of a run of A3C."""

    agent: A3cAgentConfig = field(default_factory=A3cAgentConfig)


@dataclass(frozen=True)
class PpoConfig(ActorCriticConfig):
    """All settings of a run of PPO."""

    agent: PpoAgentConfig = field(default_factory=PpoAgentConfig)
    rollout: ReusedRolloutConfig = field(default_factory=ReusedRolloutConfig)


@dataclass(frozen=True)
class PqnConfig(RolloutFamilyConfig):
    """All settings of a run of PQN."""

    agent: PqnAgentConfig = field(default_factory=PqnAgentConfig)
    net: RolloutNetConfig = field(
        default_factory=lambda: RolloutNetConfig(init="orthogonal", layer_norm=True)
    )
    rollout: ReusedRolloutConfig = field(default_factory=lambda: ReusedRolloutConfig(32, 32, 2))
