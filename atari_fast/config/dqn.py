"""The settings of the DQN family; `config.base` has those of all algorithms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any, Literal, TypeVar

from atari_fast.config.base import Config, OptimConfig, TorsoConfig, torso_problems
from atari_fast.config.ranges import (
    FRACTION,
    FRAMES_PER_STEP,
    NON_NEGATIVE,
    PERIOD,
    REAL_NON_NEGATIVE,
    REAL_POSITIVE,
    Range,
    number_text,
)
from atari_fast.errors import ConfigError

F = TypeVar("F", bound="DqnFamilyConfig")


@dataclass(frozen=True)
class NetConfig(TorsoConfig):
    """The network."""

    last_bias: Literal["each", "shared", "none"] = "each"
    """Bias of the last layer. each: one per action; shared: one for all actions (van Hasselt 2016,
    tuned), treated as `each` with dueling, noisy layers or least squares; none: no bias, but noisy
    layers keep the bias of their noise (Rainbow in google-deepmind/dqn_zoo)."""
    hidden: Annotated[int, Range(1, 1_048_576)] = 512
    """Units of the hidden layer; a dueling network has two such layers."""


Operator = Literal["none", "al", "pal", "persistent", "consistent", "lazy"]
ShiftOperator = Literal["none", "al", "pal", "persistent", "consistent"]
"""Operators that shift the target, and so can shift a distribution; `lazy` keeps a value."""


@dataclass(frozen=True)
class DqnFamilyAgentConfig:
    """The algorithm and its options: those that every algorithm of the DQN family has."""

    algorithm: str = ""
    """Algorithm of the DQN family. It estimates the mean of the return (dqn, Mnih 2015), the
    probabilities of fixed values (c51, Bellemare 2017), fixed quantiles (qr-dqn, Dabney 2018a) or
    any quantile (iqn, Dabney 2018b). Choosing one other than the preset's keeps the values of the
    settings that both have."""
    discount: Annotated[float, FRACTION] = 0.99
    """Discount factor gamma of one agent step."""
    double: bool = False
    """Double Q-learning: the online network chooses the action, the target network values it (van
    Hasselt 2016)."""
    dueling: bool = False
    """Dueling network: Q = V + A - mean A (Wang 2016)."""
    dueling_gradient: Annotated[float, FRACTION] = 1.0
    """Factor on the gradient that both streams of a dueling network send into the torso."""
    noisy: bool = False
    """Linear layers with learned noise, by which the agent explores (Fortunato 2018)."""
    noisy_sigma: Annotated[float, Range(0, 1e3)] = 0.5
    """Initial scale sigma of the noise."""
    n_step: Annotated[int, Range(1, 65_536)] = 1
    """Number of rewards in the n-step return, before the bootstrap."""
    reward_clip: Annotated[float, REAL_NON_NEGATIVE] = 1.0
    """Rewards are clipped to [-x, x] in the learner's batch; 0 disables clipping."""
    operator: Operator = "none"
    """Operator on the target that widens the action gap (Bellemare 2016). al: advantage learning;
    pal: persistent advantage learning; persistent: the second branch of pal alone; consistent: the
    consistent Bellman operator; lazy: the alpha-lazy operator (only dqn)."""
    operator_alpha: Annotated[float, Range(0, 1 - 1e-9)] = 0.9
    """Coefficient alpha of the operator, below 1."""
    operator_next: Literal["alpha", "gamma"] = "alpha"
    """Factor of the next state's gap in pal and persistent: alpha as in the published agents, or
    gamma as the operator is defined."""
    target_period: Annotated[int, PERIOD] = 40_000
    """Frames between copies of the online network into the target network."""
    epsilon_start: Annotated[float, FRACTION] = 1.0
    """Probability of a random action at the first frame."""
    epsilon_end: Annotated[float, FRACTION] = 0.1
    """Probability of a random action from frame `epsilon_frames` on."""
    epsilon_frames: Annotated[int, NON_NEGATIVE] = 4_000_000
    """Frames of the linear decay of epsilon, counted from the first frame of learning."""


@dataclass(frozen=True)
class MunchausenAgentConfig(DqnFamilyAgentConfig):
    """The algorithm and its options: those of algorithms that can have Munchausen targets.

    In c51 the entropy would move the atoms of each action by another amount.
    """

    munchausen: bool = False
    """Munchausen targets: the policy's scaled log-probability is added to the reward, and the next
    state has its soft value (Vieillard 2020)."""
    munchausen_alpha: Annotated[float, FRACTION] = 0.9
    """Scale alpha of the added log-probability."""
    munchausen_temperature: Annotated[float, Range(1e-6, 1e6)] = 0.03
    """Temperature tau of the softmax policy."""
    munchausen_clip: Annotated[float, Range(-1e6, 0)] = -1.0
    """Lower bound l0 of tau times the log-probability."""


@dataclass(frozen=True)
class DqnAgentConfig(MunchausenAgentConfig):
    """The algorithm and its options."""

    algorithm: Literal["dqn"] = "dqn"
    loss: Literal["huber", "squared", "clipped"] = "huber"
    """Loss of a TD error. huber: quadratic up to 1, linear beyond (Mnih 2015); squared: half its
    square; clipped: half its square with the gradient clipped to [-1, 1] after the importance
    weight is applied (prioritized DQN in google-deepmind/dqn_zoo)."""


@dataclass(frozen=True)
class C51AgentConfig(DqnFamilyAgentConfig):
    """The algorithm and its options."""

    algorithm: Literal["c51"] = "c51"
    operator: ShiftOperator = "none"
    atoms: Annotated[int, Range(2, 65_536)] = 51
    """Number of atoms, the equidistant values of the support."""
    v_max: Annotated[float, Range(1e-6, 1e6)] = 10.0
    """The support is [-v_max, v_max]."""


@dataclass(frozen=True)
class QrDqnAgentConfig(MunchausenAgentConfig):
    """The algorithm and its options."""

    algorithm: Literal["qr-dqn"] = "qr-dqn"
    operator: ShiftOperator = "none"
    quantiles: Annotated[int, Range(2, 65_536)] = 200
    """Number of quantiles, N."""


@dataclass(frozen=True)
class IqnAgentConfig(MunchausenAgentConfig):
    """The algorithm and its options."""

    algorithm: Literal["iqn"] = "iqn"
    operator: ShiftOperator = "none"
    taus: Annotated[int, Range(1, 65_536)] = 64
    """Number of quantile levels drawn in an update for each of the two distributions, N and N'."""
    taus_acting: Annotated[int, Range(1, 65_536)] = 32
    """Number of quantile levels drawn to choose an action, K."""
    cosines: Annotated[int, Range(1, 65_536)] = 64
    """Number of cosine features in the embedding of a quantile level."""


@dataclass(frozen=True)
class LeastSquaresConfig:
    """Least-squares updates of the last layer of dqn (Levine et al. 2017)."""

    method: Literal["none", "fqi", "lstdq"] = "none"
    """How the last layer is solved for: fitted Q iteration, or LSTD-Q; none: never."""
    period: Annotated[int, PERIOD] = 2_000_000
    """Frames between the solutions, from the first frame of learning on."""
    samples: Annotated[int, NON_NEGATIVE] = 0
    """Transitions in a solution, drawn from the replay; 0: all of it."""
    prior: Annotated[float, REAL_NON_NEGATIVE] = 1.0
    """Precision lambda of the Bayesian prior around the current weights; the data terms are means
    over the samples."""
    clip: Annotated[float, REAL_NON_NEGATIVE] = 0.0
    """Bellman residuals are clipped to [-x, x]: boosted FQI (Tosatto et al. 2017); 0: never."""
    bootstrap: Literal["target", "online"] = "target"
    """Network that computes the bootstrap values of FQI; LSTD-Q always uses the online network."""
    conditional: bool = False
    """Keep the new weights only if they score better in full games on the same seeds."""
    games: Annotated[int, Range(2, 1_000_000)] = 20
    """Games played with the old weights and with the new ones. The number is doubled while the
    means differ by less than two standard errors, up to four times this number."""
    epsilon: Annotated[float, FRACTION] = 0.01
    """Probability of a random action in those games."""
    moments: Literal["reset", "keep"] = "reset"
    """Whether the optimizer's moments of the replaced weights are reset or kept."""
    batch_size: Annotated[int, Range(1, 16_384)] = 2_048
    """Transitions in a batch whose features are computed together."""


@dataclass(frozen=True)
class ReplayConfig:
    """The replay memory."""

    capacity: Annotated[int, Range(1, 10**10)] = 1_000_000
    """Capacity in frames (one agent step of one environment stores one)."""
    min_frames: Annotated[int, NON_NEGATIVE] = 200_000
    """Emulator frames of play before learning begins."""
    prioritized: bool = False
    """Proportional prioritized replay (Schaul 2016) instead of uniform draws."""
    alpha: Annotated[float, FRACTION] = 0.6
    """Exponent of the priorities."""
    beta_start: Annotated[float, FRACTION] = 0.4
    """Exponent of the importance weights when learning begins."""
    beta_end: Annotated[float, FRACTION] = 1.0
    """Exponent of the importance weights at the end of the run."""
    priority_epsilon: Annotated[float, REAL_POSITIVE] = 1e-6
    """Added to the absolute TD error before the exponent."""
    uniform_mix: Annotated[float, FRACTION] = 1e-3
    """Fraction of the draws that are uniform over the memory."""
    stratified: bool = True
    """Draw one sample from each of `batch_size` equal segments of the total priority instead of
    independent samples. Uniform draws (no prioritization) are always independent."""
    weights_over: Literal["batch", "buffer"] = "batch"
    """Importance weights are divided by the maximum over the batch or over the whole memory."""
    frame_gb: Annotated[float, Range(0, 1e6)] = 0.0
    """Gigabytes that compressed frames may take, beyond which the oldest are dropped early; 0: an
    eighth of the raw frames, four times what most games need."""
    threads: Annotated[int, Range(1, 256)] = 1
    """Threads that gather a batch; the results do not depend on it."""


@dataclass(frozen=True)
class DqnOptimConfig(OptimConfig):
    """The learner's update."""

    random_shift: Annotated[int, Range(0, 84)] = 0
    """Random shift of the frames of each transition in an update, in pixels at most, as data
    augmentation (DrQ, Kostrikov 2021, with 4); 0: no shift."""
    update_period: Annotated[int, PERIOD] = 16
    """Frames of play, over all environments, for each update (16 frames = 4 agent steps)."""


@dataclass(frozen=True)
class DqnFamilyConfig(Config):
    """All settings of a run of the DQN family; there is a subclass for each algorithm."""

    net: NetConfig = field(default_factory=NetConfig)
    agent: DqnFamilyAgentConfig = field(default_factory=DqnFamilyAgentConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    optim: DqnOptimConfig = field(default_factory=DqnOptimConfig)

    def problems(self) -> Iterator[str]:
        """See `Config.problems`."""
        yield from super().problems()
        yield from torso_problems(self.net)
        yield from _size_problems(self)
        yield from _agent_problems(self.agent)


@dataclass(frozen=True)
class DqnConfig(DqnFamilyConfig):
    """All settings of a run of DQN."""

    agent: DqnAgentConfig = field(default_factory=DqnAgentConfig)
    ls: LeastSquaresConfig = field(default_factory=LeastSquaresConfig)

    def problems(self) -> Iterator[str]:
        """See `Config.problems`."""
        yield from super().problems()
        yield from _least_squares_problems(self)


@dataclass(frozen=True)
class C51Config(DqnFamilyConfig):
    """All settings of a run of C51."""

    agent: C51AgentConfig = field(default_factory=C51AgentConfig)


@dataclass(frozen=True)
class QrDqnConfig(DqnFamilyConfig):
    """All settings of a run of QR-DQN."""

    agent: QrDqnAgentConfig = field(default_factory=QrDqnAgentConfig)


@dataclass(frozen=True)
class IqnConfig(DqnFamilyConfig):
    """All settings of a run of IQN."""

    agent: IqnAgentConfig = field(default_factory=IqnAgentConfig)


DQN_FAMILY: Mapping[str, type[DqnFamilyConfig]] = {
    "dqn": DqnConfig,
    "c51": C51Config,
    "qr-dqn": QrDqnConfig,
    "iqn": IqnConfig,
}
"""The class of settings of each algorithm of the family."""


def with_algorithm(config: DqnFamilyConfig, algorithm: str) -> DqnFamilyConfig:
    """The settings for an algorithm of the family that is given by name; see `convert`."""
    if algorithm not in DQN_FAMILY:
        names = ", ".join(DQN_FAMILY)
        raise ConfigError(f"agent.algorithm: expected one of {names}, got {algorithm!r}")
    return convert(config, DQN_FAMILY[algorithm])


def convert(config: DqnFamilyConfig, cls: type[F]) -> F:
    """The settings for another algorithm of the family; those that both have keep their values.

    Raises:
        ConfigError: Munchausen targets or least squares are on, which the other one does not have.
    """
    default = cls()
    name = default.agent.algorithm
    munchausen = isinstance(config.agent, MunchausenAgentConfig) and config.agent.munchausen
    if munchausen and not isinstance(default.agent, MunchausenAgentConfig):
        raise ConfigError(
            f"agent.munchausen: {name} has no Munchausen targets; begin from settings without them"
        )
    least_squares = isinstance(config, DqnConfig) and config.ls.method != "none"
    if least_squares and not isinstance(default, DqnConfig):
        raise ConfigError(
            f"ls.method: {name} has no least-squares updates; begin from settings without them"
        )
    agent = replace(default.agent, **_shared(config.agent, default.agent, but="algorithm"))
    return replace(default, **_shared(config, default, but="agent"), agent=agent)


def _shared(
    given: object, other: DqnFamilyAgentConfig | DqnFamilyConfig, but: str
) -> dict[str, Any]:
    """Values of `given` for the fields that `other` has too."""
    names = (f.name for f in fields(other) if f.name != but and hasattr(given, f.name))
    return {name: getattr(given, name) for name in names}


def _size_problems(config: DqnFamilyConfig) -> Iterator[str]:
    """Sizes and periods that do not fit each other."""
    env, agent, replay, optim = config.env, config.agent, config.replay, config.optim
    rows = env.num_envs * (agent.n_step + config.net.stack + 1)
    if replay.capacity < rows:
        yield (
            "replay.capacity: expected at least env.num_envs * (agent.n_step + net.stack + 1) = "
            f"{rows}, got {replay.capacity}"
        )
    if optim.batch_size > replay.capacity:
        yield (
            f"optim.batch_size: expected at most replay.capacity = {replay.capacity}, "
            f"got {optim.batch_size}"
        )
    least = FRAMES_PER_STEP * env.num_envs * (agent.n_step + 1)
    most = FRAMES_PER_STEP * replay.capacity
    if not least <= replay.min_frames <= most:
        yield (
            f"replay.min_frames: expected {least} (a transition in each of env.num_envs = "
            f"{env.num_envs}) to {most} (replay.capacity = {replay.capacity}), "
            f"got {replay.min_frames}"
        )
    if config.total_frames <= replay.min_frames:
        yield (
            f"total_frames: expected more than replay.min_frames = {replay.min_frames}, "
            f"after which learning begins, got {config.total_frames}"
        )
    if agent.target_period < optim.update_period:
        yield (
            f"agent.target_period: expected at least optim.update_period = {optim.update_period}, "
            f"got {agent.target_period}"
        )


def _agent_problems(agent: DqnFamilyAgentConfig) -> Iterator[str]:
    """Options of the agent that do not go together."""
    if isinstance(agent, MunchausenAgentConfig) and agent.munchausen:
        if agent.double:
            yield "agent.double: a soft value has no maximum to choose; drop it or munchausen"
        if agent.operator != "none":
            yield (
                f"agent.operator: munchausen widens the action gap itself, got {agent.operator} "
                "beside it; drop one of them"
            )
    if agent.operator == "consistent" and agent.n_step > 1:
        yield f"agent.n_step: the consistent operator is of one step, got {agent.n_step}"
    if agent.dueling_gradient != 1 and not agent.dueling:
        yield (
            "agent.dueling_gradient: expected 1 where agent.dueling is off, "
            f"got {number_text(agent.dueling_gradient)}"
        )


def _least_squares_problems(config: DqnConfig) -> Iterator[str]:
    """Least-squares options beside others that they cannot be combined with."""
    agent, ls = config.agent, config.ls
    if config.net.last_bias == "none" and ls.method != "none":
        yield (
            "net.last_bias: the least-squares updates solve for a bias of each action, so expected "
            f"each where ls.method is {ls.method}, got none"
        )
    if ls.method == "none" and (ls.conditional or ls.clip > 0):
        name = "ls.conditional" if ls.conditional else "ls.clip"
        yield f"{name}: nothing is solved for while ls.method is none; set --ls.method fqi"
    last = config.total_frames - config.replay.min_frames - FRAMES_PER_STEP * config.env.num_envs
    if ls.method != "none" and last < 1:
        yield (
            "total_frames: expected more than replay.min_frames + 4 * env.num_envs = "
            f"{config.total_frames - last}, after which the last layer is solved for, "
            f"got {config.total_frames}"
        )
    elif ls.method != "none" and ls.period > last:
        yield (
            "ls.period: expected at most total_frames - replay.min_frames - 4 * env.num_envs = "
            f"{last}, after which no step follows, got {ls.period}"
        )
    if ls.method == "lstdq":
        for name, other in (
            ("agent.dueling", agent.dueling),
            ("agent.munchausen", agent.munchausen),
            ("agent.operator", agent.operator != "none"),
            ("ls.clip", ls.clip > 0),
            ("ls.bootstrap", ls.bootstrap == "online"),
        ):
            if other:
                yield (
                    f"{name}: LSTD-Q solves for the fixed point of plain targets; "
                    "use --ls.method fqi"
                )
