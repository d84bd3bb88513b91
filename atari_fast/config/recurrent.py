"""The settings that recurrent algorithms share: R2D2, NGU, Agent57."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal

from atari_fast.config.base import Config, EnvConfig, OptimConfig, TorsoConfig, torso_problems
from atari_fast.config.ranges import (
    FRACTION,
    FRAMES_PER_STEP,
    NON_NEGATIVE,
    POSITIVE,
    REAL_NON_NEGATIVE,
    REAL_POSITIVE,
    Range,
)


@dataclass(frozen=True)
class RecurrentNetConfig(TorsoConfig):
    """The recurrent network."""

    hidden: Annotated[int, Range(1, 1_048_576)] = 512
    """Units of the linear layer after the torso, and of the hidden layer of each dueling stream."""
    lstm: Annotated[int, Range(1, 65_536)] = 512
    """Units of the LSTM."""
    reward_input: Literal["raw", "rescaled"] = "raw"
    """The previous reward as the LSTM sees it. raw: as the game gives it (the paper); rescaled: by
    the value rescaling function h, for games with large rewards."""


@dataclass(frozen=True)
class RecurrentAgentConfig:
    """Options of every agent that learns from sequences."""

    discount: Annotated[float, Range(0, 1 - 1e-9)] = 0.997
    """Discount factor gamma of one agent step, below 1; that of policy 0 where there are
    several."""
    rescaling: Annotated[float, Range(1e-6, 1.0)] = 1e-3
    """Epsilon of the value rescaling h(z) = sign(z) (sqrt(|z| + 1) - 1) + epsilon z."""
    target_period: Annotated[int, POSITIVE] = 2_500
    """Updates between copies of the online network into the target network."""
    epsilon_base: Annotated[float, Range(0, 1)] = 0.4
    """Probability of a random action in environment i of E is base^(1 + alpha i / (E - 1))."""
    epsilon_alpha: Annotated[float, REAL_NON_NEGATIVE] = 7.0
    """That alpha."""
    policies: Annotated[int, Range(1, 1_024)] = 1
    """Number of policies, each with a discount of its own. With more than one the network sees
    which policy acts."""
    discount_min: Annotated[float, Range(0, 1 - 1e-9)] = 0.99
    """Discount factor of the last policy."""


@dataclass(frozen=True)
class BanditConfig:
    """The bandits that choose a policy for each episode (Badia 2020, Agent57)."""

    bandit_groups: Annotated[int, NON_NEGATIVE] = 0
    """Number of bandits, each for a group of environments with similar epsilons; 0: one for each
    environment."""
    bandit_window: Annotated[int, Range(1, 1_000_000)] = 160
    """Last episodes that a bandit takes into account."""
    bandit_beta: Annotated[float, REAL_NON_NEGATIVE] = 1.0
    """Weight of the bandit's bonus for policies that were played rarely."""
    bandit_epsilon: Annotated[float, FRACTION] = 0.5
    """Probability that the bandit chooses a random policy."""


@dataclass(frozen=True)
class SequenceReplayConfig:
    """The sequence replay. Defaults: R2D2 (Kapturowski 2019, table 2).

    The table does not state `tail`, `max_sequences`, `priority_epsilon`, `uniform_mix`,
    `buffer_max_weights`, `stratified`, `frame_gb` and `threads`; their defaults are ours.
    """

    capacity: Annotated[int, Range(1, 10**10)] = 4_000_000
    """Rows kept over all environments (one agent step of one environment stores one)."""
    burn_in: Annotated[int, Range(0, 4_096)] = 40
    """Rows before the unroll window that only produce a recurrent state."""
    unroll: Annotated[int, Range(1, 4_096)] = 80
    """L, rows that are learned from; 160 for Agent57."""
    period: Annotated[int, Range(1, 4_096)] = 40
    """Steps from one start to the next, at most L."""
    tail: Literal["shift", "mask"] = "shift"
    """At an episode's end: one start shifted back until its window is full, or short windows."""
    max_sequences: Annotated[int, NON_NEGATIVE] = 0
    """Sequences kept over all environments; 0: 1.25 capacity / period + 2 per environment."""
    prioritized: bool = True
    """Proportional prioritized replay (Schaul 2016) instead of uniform draws."""
    alpha: Annotated[float, FRACTION] = 0.9
    """Exponent of the priorities."""
    eta: Annotated[float, FRACTION] = 0.9
    """Fraction of the largest |delta| in a priority, beside the mean."""
    priority_epsilon: Annotated[float, REAL_POSITIVE] = 1e-6
    """Added to a priority before the exponent."""
    uniform_mix: Annotated[float, FRACTION] = 0.0
    """Fraction of the draws that are uniform over the memory."""
    buffer_max_weights: bool = False
    """Divide importance weights by the largest of the memory instead of the batch."""
    stratified: bool = True
    """Draw one sequence from each of B equal segments of the total priority; uniform draws are
    always independent."""
    frame_gb: Annotated[float, Range(0, 1e6)] = 0.0
    """Gigabytes that compressed frames may take, beyond which the oldest are dropped early; 0: an
    eighth of the raw frames."""
    threads: Annotated[int, Range(1, 256)] = 1
    """Threads that gather a batch; results do not depend on it."""


@dataclass(frozen=True)
class RecurrentReplayConfig(SequenceReplayConfig):
    """The sequence replay and how often the learner draws from it."""

    min_frames: Annotated[int, NON_NEGATIVE] = 200_000
    """Emulator frames of play before learning begins."""
    beta: Annotated[float, FRACTION] = 0.6
    """Exponent of the importance weights."""
    replay_ratio: Annotated[float, Range(1e-6, 1e3)] = 1.0
    """How often each agent step is learned from on average: updates * B * L / agent steps. The
    paper replays each observation about 0.8 times."""
    state_dtype: Literal["float32", "float16"] = "float16"
    """Type in which recurrent states are stored."""


@dataclass(frozen=True)
class RecurrentConfig(Config):
    """All settings of a run of a recurrent algorithm; a subclass for each has its `agent`."""

    env: EnvConfig = field(default_factory=lambda: EnvConfig(action_set="full", num_envs=256))
    net: RecurrentNetConfig = field(default_factory=RecurrentNetConfig)
    agent: RecurrentAgentConfig = field(default_factory=RecurrentAgentConfig)
    replay: RecurrentReplayConfig = field(default_factory=RecurrentReplayConfig)
    optim: OptimConfig = field(
        default_factory=lambda: OptimConfig(lr=1e-4, eps=1e-3, batch_size=64, max_grad_norm=40.0)
    )

    @property
    def bootstrap_steps(self) -> int:
        """Rows after the unroll window from which targets bootstrap."""
        return 1

    @property
    def unroll_states(self) -> bool:
        """Whether sequences also keep the recurrent state before their first unroll row."""
        return False

    @property
    def update_period(self) -> int:
        """Emulator frames for each update: 4 B L / replay ratio."""
        steps = self.optim.batch_size * self.replay.unroll / self.replay.replay_ratio
        return max(1, round(FRAMES_PER_STEP * steps))

    def problems(self) -> Iterator[str]:
        """See `Config.problems`."""
        yield from super().problems()
        yield from torso_problems(self.net)
        env, agent, replay = self.env, self.agent, self.replay
        if replay.period > replay.unroll:
            yield (
                f"replay.period: expected at most replay.unroll = {replay.unroll}, "
                f"got {replay.period}"
            )
        after = self.bootstrap_steps
        rows = self.net.stack + replay.burn_in + replay.unroll + replay.period + after
        if replay.capacity < env.num_envs * rows:
            yield (
                "replay.capacity: expected at least env.num_envs * (net.stack + replay.burn_in + "
                f"replay.unroll + replay.period + {after}) = {env.num_envs * rows}, "
                f"got {replay.capacity}"
            )
        least = FRAMES_PER_STEP * env.num_envs * (replay.unroll + after + 1)
        if replay.min_frames < least:
            yield (
                f"replay.min_frames: expected at least {least}, a sequence in each of "
                f"env.num_envs = {env.num_envs}, got {replay.min_frames}"
            )
        if self.total_frames <= replay.min_frames:
            yield (
                f"total_frames: expected more than replay.min_frames = {replay.min_frames}, "
                f"after which learning begins, got {self.total_frames}"
            )
        if 0 < replay.max_sequences < env.num_envs:
            yield (
                f"replay.max_sequences: expected 0 or at least env.num_envs = {env.num_envs}, "
                f"got {replay.max_sequences}"
            )
        if agent.policies > 1 and agent.discount_min > agent.discount:
            yield (
                f"agent.discount_min: expected at most agent.discount = {agent.discount}, "
                f"got {agent.discount_min}"
            )
        if isinstance(agent, BanditConfig):
            yield from self._bandit_problems(agent)

    def _bandit_problems(self, agent: BanditConfig) -> Iterator[str]:
        policies, num_envs = self.agent.policies, self.env.num_envs
        if agent.bandit_window < policies:
            yield (
                f"agent.bandit_window: expected at least agent.policies = {policies}, "
                f"got {agent.bandit_window}"
            )
        if agent.bandit_groups > num_envs:
            yield (
                f"agent.bandit_groups: expected at most env.num_envs = {num_envs}, "
                f"got {agent.bandit_groups}"
            )
