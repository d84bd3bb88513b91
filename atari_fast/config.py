"""The settings of a run: frozen dataclasses, checked all at once, stored as JSON.

Durations are emulator frames (4 frames = 1 agent step). The string under each field is its
documentation and its help text on the command line.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

FRAMES_PER_STEP = 4
"""Emulator frames of one agent step (action repeat)."""


@dataclass(frozen=True)
class EnvConfig:
    """The protocol of the game and how many copies of it run."""

    protocol: Literal["deepmind", "machado"] = "deepmind"
    """deepmind: no sticky actions, 1 to 30 no-op frames at the start of an episode (Mnih 2015);
    machado: sticky actions with probability 0.25, no no-ops (Machado 2018)."""
    action_set: Literal["minimal", "full"] = "minimal"
    """minimal: the actions that have an effect in the game; full: all 18."""
    mode: int = -1
    """Game mode, as numbered by the emulator; -1: the game's default mode."""
    difficulty: int = -1
    """Game difficulty, as numbered by the emulator; -1: the game's default difficulty."""
    life_loss: Literal["none", "zero_discount", "episodic"] = "none"
    """What the learner sees when a life is lost: nothing, discount 0 while the game goes on, or the
    end of a pseudo-episode."""
    max_episode_frames: int = 108_000
    """Cap of an episode in frames (30 minutes of play); reaching it is truncation."""
    num_envs: int = 8
    """Number of environments, E; each delivers one row of data per agent step."""
    num_workers: int = -1
    """Number of worker processes that step the environments; 0 steps them in this process. With -1
    the train command chooses a number from the available cores, and Python programs use 0. Results
    do not depend on it."""
    worker_timeout: float = 60.0
    """Seconds without an answer after which a worker process is considered hung. Time during which
    this process was itself stopped or suspended is not counted. A worker may take this long to
    start, or 60 seconds plus one second per environment if that is longer."""


@dataclass(frozen=True)
class NetConfig:
    """The network."""

    torso: Literal["nature", "impala", "mlp"] = "nature"
    """nature: three convolutions for 84x84 frames (Mnih 2015); impala: fifteen, with residual
    blocks (Espeholt 2018); mlp: one hidden layer (toys)."""
    pixels: Literal["scale", "standardize"] = "scale"
    """How nature and impala take pixels: over 255 (Mnih 2015), or each observation shifted and
    scaled to mean 0 and variance 1, from which a network learns small moving things much sooner."""
    channels: tuple[int, int, int] = (32, 64, 64)
    """Filters of the three convolutions of the nature torso."""
    padding: Literal["valid", "same"] = "valid"
    """Padding of the nature torso's convolutions. valid: no padding, 7x7 feature maps (Mnih 2015);
    same: zero padding as in TensorFlow, 11x11 feature maps (Dopamine). Other torsos ignore it."""
    init: Literal["uniform", "xavier", "fan-in"] = "uniform"
    """Initialisation of convolutional and linear layers, uniform in [-x, x]. uniform: x = 1 /
    sqrt(inputs), also for biases (the Torch of Mnih 2015); xavier: x = sqrt(6 / (inputs +
    outputs)), biases 0 (Dopamine's DQN); fan-in: x = 3^(1/4) / sqrt(inputs), biases 0 (Dopamine's
    Rainbow and IQN). Noisy layers are always initialised as in Fortunato 2018."""
    last_bias: Literal["each", "shared", "none"] = "each"
    """Bias of the last layer. each: one per action; shared: one for all actions (van Hasselt 2016,
    tuned), treated as `each` with dueling, noisy layers or least squares; none: no bias, but noisy
    layers keep the bias of their noise (Rainbow in google-deepmind/dqn_zoo)."""
    width: int = 1
    """The impala torso's three sections have this times 16, 32 and 32 filters."""
    layer_norm: bool = False
    """Layer normalization behind each section of the impala torso."""
    spectral_norm: bool = False
    """Spectral normalization of the convolutions in the impala torso's residual blocks (Clark
    2024)."""
    pool: int = 0
    """Side to which the impala torso's last maps (11x11 for 84x84 frames) are max-pooled, 6 in
    Clark 2024; 0: they are not."""
    hidden: int = 512
    """Units of the hidden layer; a dueling network has two such layers."""
    stack: int = 4
    """Frames in an observation."""


@dataclass(frozen=True)
class AgentConfig:
    """The algorithm and its options."""

    algorithm: Literal["dqn", "c51", "qr-dqn", "iqn"] = "dqn"
    """What the network estimates of the return: its mean (dqn), the probabilities of fixed values
    (c51, Bellemare 2017), fixed quantiles (qr-dqn, Dabney 2018a), or any quantile (iqn, Dabney
    2018b)."""
    discount: float = 0.99
    """Discount factor gamma of one agent step."""
    double: bool = False
    """Double Q-learning: the online network chooses the action, the target network values it (van
    Hasselt 2016)."""
    dueling: bool = False
    """Dueling network: Q = V + A - mean A (Wang 2016)."""
    dueling_gradient: float = 1.0
    """Factor on the gradient that both streams of a dueling network send into the torso."""
    noisy: bool = False
    """Linear layers with learned noise, by which the agent explores (Fortunato 2018)."""
    noisy_sigma: float = 0.5
    """Scale of that noise at the beginning."""
    n_step: int = 1
    """Steps of reward before the bootstrap."""
    reward_clip: float = 1.0
    """Rewards are clipped to [-x, x] in the learner's batch; 0 switches it off."""
    loss: Literal["huber", "squared", "clipped"] = "huber"
    """Loss of a TD error in dqn. huber: quadratic up to 1, linear beyond (Mnih 2015); squared: half
    its square; clipped: half its square with the gradient clipped to [-1, 1] after the importance
    weight is applied (prioritized DQN in google-deepmind/dqn_zoo). Other algorithms ignore it."""
    operator: Literal["none", "al", "pal", "persistent", "consistent", "lazy"] = "none"
    """Operator around the target that widens the action gap (Bellemare 2016): advantage learning,
    persistent advantage learning, its second branch alone, the consistent Bellman operator,
    alpha-lazy."""
    operator_alpha: float = 0.9
    """Its alpha, below 1."""
    operator_next: Literal["alpha", "gamma"] = "alpha"
    """Factor of the next state's gap in pal and persistent: alpha as in the published agents, or
    gamma as the operator is defined."""
    munchausen: bool = False
    """Munchausen targets: the policy's logarithm is added to the reward, and the next state has
    its soft value (Vieillard 2020)."""
    munchausen_alpha: float = 0.9
    """Scale of the added logarithm."""
    munchausen_temperature: float = 0.03
    """Temperature tau of the softmax policy."""
    munchausen_clip: float = -1.0
    """Lowest value l0 of tau times the logarithm."""
    atoms: int = 51
    """Values of the return in c51."""
    v_max: float = 10.0
    """They lie from -x to x."""
    quantiles: int = 200
    """Quantiles of qr-dqn."""
    taus: int = 64
    """Quantiles that iqn draws of the return, N and N'."""
    taus_acting: int = 32
    """Quantiles that iqn averages when it acts, K."""
    cosines: int = 64
    """Cosines that stand for a quantile's level in iqn."""
    target_period: int = 40_000
    """Frames between copies of the online network into the target network."""
    epsilon_start: float = 1.0
    """Probability of a random action at the first frame."""
    epsilon_end: float = 0.1
    """Probability of a random action from frame `epsilon_frames` on."""
    epsilon_frames: int = 4_000_000
    """Frames of the linear decay of epsilon, counted from the first frame of learning."""


@dataclass(frozen=True)
class LeastSquaresConfig:
    """Least-squares updates of the last layer of dqn (Levine et al. 2017)."""

    method: Literal["none", "fqi", "lstdq"] = "none"
    """How the last layer is solved for: fitted Q iteration, or LSTD-Q; none: never."""
    period: int = 2_000_000
    """Frames between the solutions, from the first frame of learning on."""
    samples: int = 0
    """Transitions in a solution, drawn from the replay; 0: all of it."""
    prior: float = 1.0
    """Precision lambda of the Bayesian prior around the present weights, beside means over the
    samples."""
    clip: float = 0.0
    """Bellman residuals are clipped to [-x, x]: boosted FQI (Tosatto et al. 2017); 0: never."""
    bootstrap: Literal["target", "online"] = "target"
    """Network whose values the targets of FQI have; LSTD-Q has none but the online network's."""
    conditional: bool = False
    """Keep the new weights only if they score better in full games on the same seeds."""
    games: int = 20
    """Games with the old and with the new weights each, twice as many while they do not differ by
    two standard errors, four times this number at the most."""
    epsilon: float = 0.01
    """Probability of a random action in those games."""
    moments: Literal["reset", "keep"] = "reset"
    """What becomes of the optimizer's moments of the weights that are replaced."""
    batch_size: int = 2_048
    """Transitions whose features are computed at a time."""


@dataclass(frozen=True)
class ReplayConfig:
    """The replay memory."""

    capacity: int = 1_000_000
    """Frames that are kept (one agent step of one environment stores one)."""
    min_frames: int = 200_000
    """Emulator frames of play before learning begins."""
    prioritized: bool = False
    """Proportional prioritized replay (Schaul 2016) instead of uniform draws."""
    alpha: float = 0.6
    """Exponent of the priorities."""
    beta_start: float = 0.4
    """Exponent of the importance weights when learning begins."""
    beta_end: float = 1.0
    """Exponent of the importance weights at the end of the run."""
    priority_epsilon: float = 1e-6
    """Added to the absolute TD error before the exponent."""
    uniform_mix: float = 1e-3
    """Share of the draws that are uniform over the memory."""
    stratified: bool = True
    """Draw one sample from each of `batch_size` equal segments of the total priority instead of
    independent samples. Uniform draws (no prioritization) are always independent."""
    weights_over: Literal["batch", "buffer"] = "batch"
    """Importance weights are divided by the largest of the batch or of the whole memory."""
    frame_gb: float = 0.0
    """Gigabytes that compressed frames may take, beyond which the oldest are dropped early; 0: an
    eighth of the raw frames, four times what most games need."""
    threads: int = 1
    """Threads that gather a batch; the results do not depend on it."""


@dataclass(frozen=True)
class OptimConfig:
    """The learner's update."""

    name: Literal["adam", "rmsprop"] = "adam"
    """adam, or the centred RMSProp of Mnih 2015."""
    lr: float = 6.25e-5
    """Learning rate when learning begins."""
    lr_final_fraction: float = 1.0
    """Learning rate at the end of the run as a fraction of `lr`; it changes linearly."""
    eps: float = 1.5e-4
    """Term added to the denominator of the update."""
    decay: float = 0.95
    """Decay of RMSProp's moving averages (Adam uses 0.9 and 0.999)."""
    max_grad_norm: float = 0.0
    """Gradients are scaled down to this global norm; 0 switches it off."""
    batch_size: int = 32
    """Transitions in an update, B."""
    random_shift: int = 0
    """The frames of each transition in an update are moved by up to this many pixels, by chance, so
    that fewer games teach more (DrQ, Kostrikov 2021, with 4); 0: not at all."""
    update_period: int = 16
    """Frames of play, over all environments, for each update (16 frames = 4 agent steps)."""


@dataclass(frozen=True)
class RunConfig:
    """Where results go and how often."""

    dir: str = ""
    """Run directory; empty: runs/<game>-<preset>-s<seed>-<time>."""
    log_period: int = 20_000
    """Frames between lines of metrics."""
    checkpoint_period: int = 400_000
    """Frames between checkpoints."""
    replay_period: int = 400_000
    """Frames between checkpoints that also hold the replay and the games in flight, from which
    --resume goes on bit for bit; 0 switches them off."""
    eval_period: int = 400_000
    """Frames between evaluations; 0 switches them off."""
    eval_episodes: int = 10
    """Full games of one evaluation."""
    eval_epsilon: float = 0.01
    """Probability of a random action in an evaluation."""
    tensorboard: bool = True
    """Also write TensorBoard events."""
    finish: bool = True
    """At the end draw the learning curve and record a game of the best checkpoint."""


@dataclass(frozen=True)
class Config:
    """All settings of a run."""

    game: str = "pong"
    """Game in snake_case, one of the 57 (or catch, a toy); MsPacman and ALE/MsPacman-v5 are
    understood too."""
    preset: str = "dqn-nature"
    """Name of the preset that these settings began as; set by the command line."""
    seed: int = 1
    """Root of all random numbers of the run."""
    total_frames: int = 200_000_000
    """Emulator frames of the run, over all environments."""
    device: str = "auto"
    """Torch device of the networks; auto: CUDA where it is there, else the CPU."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the networks; auto: bfloat16 where the hardware computes in it, else
    float32."""
    threads: int = 0
    """Learner threads on the CPU. Each computes the gradient of its share of the batch, so results
    depend on this number. 0: one per available core, or the number that a resumed run started
    with."""
    overlap: bool = True
    """Step the emulators of worker processes while the learner computes. Results do not depend on
    it."""
    env: EnvConfig = field(default_factory=EnvConfig)
    net: NetConfig = field(default_factory=NetConfig)
    agent: AgentConfig = field(default_factory=AgentConfig)
    ls: LeastSquaresConfig = field(default_factory=LeastSquaresConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=RunConfig)
