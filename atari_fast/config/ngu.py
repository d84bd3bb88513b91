"""The settings of NGU and Agent57; `config.recurrent` has those that they share with R2D2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal

from atari_fast.config.base import OptimConfig
from atari_fast.config.ranges import (
    FRACTION,
    POSITIVE,
    REAL_NON_NEGATIVE,
    REAL_POSITIVE,
    Range,
)
from atari_fast.config.recurrent import (
    BanditConfig,
    RecurrentAgentConfig,
    RecurrentConfig,
    RecurrentNetConfig,
    RecurrentReplayConfig,
)


@dataclass(frozen=True)
class NoveltyConfig:
    """The intrinsic reward. Defaults: NGU (Badia 2020, tables 6 and 8)."""

    embedding: Annotated[int, Range(1, 4_096)] = 32
    """Numbers of an embedding, the controllable state."""
    embedding_hidden: Annotated[int, POSITIVE] = 128
    """Units of the hidden layer that predicts the action between two embeddings."""
    embedding_l2: Annotated[float, REAL_NON_NEGATIVE] = 1e-5
    """Weight of the squared weights in the loss of the embedding."""
    embedding_period: Annotated[int, POSITIVE] = 400
    """An episode's frozen embedding network is copied from the trained one at its first step,
    unless the newest copy is younger than this number of agent steps, which then serves too. The
    published actors got new parameters every 400 environment steps (R2D2, table 2)."""
    memory: Annotated[int, Range(1, 10_000_000)] = 30_000
    """Embeddings that the episodic memory of an environment holds."""
    neighbours: Annotated[int, Range(1, 4_096)] = 10
    """Nearest neighbours k."""
    kernel_epsilon: Annotated[float, REAL_POSITIVE] = 1e-4
    """Epsilon of the kernel; section 2 of the paper prints 1e-3."""
    cluster_distance: Annotated[float, REAL_NON_NEGATIVE] = 0.008
    """Squared distance, in units of its running mean, up to which states count as the same."""
    pseudo_count: Annotated[float, REAL_POSITIVE] = 1e-3
    """Constant c added to the similarity."""
    max_similarity: Annotated[float, REAL_POSITIVE] = 8.0
    """Similarity above which a state has no episodic reward."""
    short_memory: Literal["use", "zero", "scale"] = "scale"
    """The reward while an environment holds k' < k embeddings: from the sum over them, none, or
    from that sum times k / k'."""
    life_long: bool = True
    """Multiply the episodic reward with the life-long novelty of random network distillation."""
    life_long_max: Annotated[float, Range(1, 1e6)] = 5.0
    """Largest factor L of the life-long novelty."""
    life_long_features: Annotated[int, POSITIVE] = 128
    """Outputs of the random network and of its predictor."""
    statistics_rate: Annotated[float, Range(1e-9, 1)] = 1e-4
    """Rate, for each observation, of the moving mean and variance of prediction errors; plain ones
    until as many observations as its inverse were seen. Those of pixels are always plain ones."""
    input_scale: Annotated[float, REAL_NON_NEGATIVE] = 1.0
    """Factor of the intrinsic reward that the networks see, after `net.reward_input`. Intrinsic
    rewards of 30 are usual; where they are large beside a small network's other inputs, its first
    policies take the same action all the time."""
    rows: Annotated[int, POSITIVE] = 5
    """Last transitions of each sequence that the embedding and the predictor are trained on."""
    lr: Annotated[float, REAL_POSITIVE] = 5e-4
    """Learning rate of both."""


@dataclass(frozen=True)
class FamilyAgentConfig(RecurrentAgentConfig):
    """Options of the agents with an intrinsic reward."""

    policies: Annotated[int, Range(1, 1_024)] = 32
    """Number of policies N: policy 0 exploits, policy N - 1 explores most."""
    target_period: Annotated[int, POSITIVE] = 1_500
    """Updates between copies of the online network into the target network."""
    intrinsic_scale: Annotated[float, REAL_NON_NEGATIVE] = 0.3
    """Largest weight beta of the intrinsic reward, that of policy N - 1."""
    retrace_lambda: Annotated[float, FRACTION] = 0.95
    """Lambda of the Retrace targets."""
    target_epsilon: Annotated[float, FRACTION] = 0.01
    """Epsilon of the target policy."""


@dataclass(frozen=True)
class NguAgentConfig(FamilyAgentConfig):
    """The algorithm and its options. A policy is drawn uniformly for each episode."""

    algorithm: Literal["ngu"] = "ngu"
    """Never give up (Badia 2020)."""


@dataclass(frozen=True)
class Agent57AgentConfig(BanditConfig, FamilyAgentConfig):
    """The algorithm and its options. Bandits choose a policy for each episode."""

    algorithm: Literal["agent57"] = "agent57"
    """Agent57 (Badia 2020b): networks for extrinsic and intrinsic rewards, and bandits."""
    discount: Annotated[float, Range(0, 1 - 1e-9)] = 0.9999
    """Discount factor of policy 0."""
    discount_middle: Annotated[float, Range(0, 1 - 1e-9)] = 0.997
    """Discount factor of policy 7, from which on discounts fall to `discount_min`."""


@dataclass(frozen=True)
class FamilyConfig(RecurrentConfig):
    """All settings of a run of an agent with an intrinsic reward."""

    net: RecurrentNetConfig = field(default_factory=lambda: RecurrentNetConfig(stack=1))
    agent: FamilyAgentConfig = field(default_factory=FamilyAgentConfig)
    novelty: NoveltyConfig = field(default_factory=NoveltyConfig)
    replay: RecurrentReplayConfig = field(
        default_factory=lambda: RecurrentReplayConfig(capacity=5_000_000, burn_in=0)
    )
    optim: OptimConfig = field(
        default_factory=lambda: OptimConfig(lr=1e-4, eps=1e-4, batch_size=64, max_grad_norm=40.0)
    )

    def problems(self) -> Iterator[str]:
        """See `Config.problems`."""
        yield from super().problems()
        if self.novelty.memory < self.novelty.neighbours:
            yield (
                f"novelty.memory: expected at least novelty.neighbours = "
                f"{self.novelty.neighbours}, got {self.novelty.memory}"
            )
        if self.novelty.rows > self.replay.unroll:
            yield (
                f"novelty.rows: expected at most replay.unroll = {self.replay.unroll}, "
                f"got {self.novelty.rows}"
            )


@dataclass(frozen=True)
class NguConfig(FamilyConfig):
    """All settings of a run of NGU."""

    agent: NguAgentConfig = field(default_factory=NguAgentConfig)


@dataclass(frozen=True)
class Agent57Config(FamilyConfig):
    """All settings of a run of Agent57."""

    agent: Agent57AgentConfig = field(default_factory=Agent57AgentConfig)
    replay: RecurrentReplayConfig = field(
        default_factory=lambda: RecurrentReplayConfig(
            capacity=5_000_000, burn_in=0, unroll=160, period=80, beta=0.0
        )
    )

    def problems(self) -> Iterator[str]:
        """See `Config.problems`."""
        yield from super().problems()
        agent = self.agent
        if not agent.discount_min <= agent.discount_middle <= agent.discount:
            yield (
                "agent.discount_middle: expected a number from agent.discount_min = "
                f"{agent.discount_min} to agent.discount = {agent.discount}, "
                f"got {agent.discount_middle}"
            )
