"""The settings that all algorithms share.

Durations are emulator frames (4 frames = 1 agent step). The string under each field is its
documentation and its help text on the command line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal

from atari_fast.config.ranges import (
    FRACTION,
    FRAMES_PER_STEP,
    NON_NEGATIVE,
    PERIOD,
    POSITIVE,
    REAL_NON_NEGATIVE,
    REAL_POSITIVE,
    Range,
)

_IMPALA_OPTIONS = ("width", "spectral_norm", "pool")


@dataclass(frozen=True)
class EnvConfig:
    """The protocol of the game and how many copies of it run."""

    protocol: Literal["deepmind", "machado"] = "deepmind"
    """deepmind: no sticky actions, 1 to 30 no-op frames at the start of an episode (Mnih 2015);
    machado: sticky actions with probability 0.25, no no-ops (Machado 2018)."""
    action_set: Literal["minimal", "full"] = "minimal"
    """minimal: the actions that have an effect in the game; full: all 18."""
    mode: Annotated[int, Range(-1, 255)] = -1
    """Game mode, as numbered by the emulator; -1: the game's default mode."""
    difficulty: Annotated[int, Range(-1, 255)] = -1
    """Game difficulty, as numbered by the emulator; -1: the game's default difficulty."""
    life_loss: Literal["none", "zero_discount", "episodic"] = "none"
    """What the learner sees when a life is lost: nothing, discount 0 while the game goes on, or the
    end of a pseudo-episode."""
    max_episode_frames: Annotated[int, Range(FRAMES_PER_STEP, 2**31 - 1)] = 108_000
    """Cap of an episode in frames (30 minutes of play); reaching it is truncation."""
    crop: bool = False
    """Frames are the part of the screen in which the game is played, at 80x80 (A3C-LSTM), instead
    of the whole screen at 84x84."""
    num_envs: Annotated[int, Range(1, 65_536)] = 8
    """Number of environments, E; each delivers one row of data per agent step."""
    num_workers: Annotated[int, Range(-1, 65_536)] = -1
    """Number of worker processes that step the environments; 0 steps them in this process. With -1
    the train command chooses a number from the available cores, and Python programs use 0. Results
    do not depend on it. A3C learns in its workers: it needs one, has one for each core with -1, and
    its results depend on their number."""
    worker_timeout: Annotated[float, REAL_POSITIVE] = 60.0
    """Seconds without an answer after which a worker process is considered hung. Time during which
    this process was itself stopped or suspended is not counted. A worker may take this long to
    start, or 60 seconds plus one second per environment if that is longer."""


@dataclass(frozen=True)
class TorsoConfig:
    """The part of a network that sees frames."""

    torso: Literal["nature", "nips", "impala", "pooled", "mlp"] = "nature"
    """nature: three convolutions for 84x84 frames (Mnih 2015); nips: two (Mnih 2013, A3C); impala:
    fifteen, with residual blocks (Espeholt 2018); pooled: four, each with max-pooling (A3C-LSTM);
    mlp: one hidden layer (toys)."""
    pixels: Literal["scale", "standardize", "running"] = "scale"
    """How convolutions take pixels. scale: over 255 (Mnih 2015); standardize: each observation
    shifted and scaled to mean 0 and variance 1, from which a network learns small moving things
    much sooner; running: shifted and scaled by moving averages of the frames' means and standard
    deviations (A3C-LSTM), in agents that learn from rollouts and have the pooled torso."""
    channels: Annotated[tuple[int, int, int], Range(1, 65_536)] = (32, 64, 64)
    """Filters of the three convolutions of the nature torso."""
    padding: Literal["valid", "same"] = "valid"
    """Padding of the nature torso's convolutions. valid: no padding, 7x7 feature maps (Mnih 2015);
    same: zero padding as in TensorFlow, 11x11 feature maps (Dopamine). Other torsos ignore it."""
    init: Literal["uniform", "xavier", "fan-in", "orthogonal", "normalized-columns"] = "uniform"
    """Initialisation of convolutional and linear layers, uniform in [-x, x] but for orthogonal.
    uniform: x = 1 / sqrt(inputs), also for biases (the Torch of Mnih 2015); xavier: x = sqrt(6 /
    (inputs + outputs)), biases 0 (Dopamine's DQN); fan-in: x = 3^(1/4) / sqrt(inputs), biases 0
    (Dopamine's Rainbow and IQN); orthogonal: orthogonal matrices times sqrt(2), biases 0 (OpenAI's
    PPO); normalized-columns: x = sqrt(2 / inputs), biases 0, and the weights of each output scaled
    to norm 0.01 (policy) or 1 (A3C-LSTM), in agents that learn from rollouts. Noisy layers are
    always initialised as in Fortunato 2018."""
    width: Annotated[int, Range(1, 256)] = 1
    """The impala torso's three sections have this times 16, 32 and 32 filters."""
    layer_norm: bool = False
    """Layer normalization behind each convolution of the nature torso, before its ReLU, or behind
    each section of the impala torso; in agents that learn from rollouts also of the linear layer
    behind the torso."""
    spectral_norm: bool = False
    """Spectral normalization of the convolutions in the impala torso's residual blocks (Clark
    2024)."""
    pool: Annotated[int, Range(0, 11)] = 0
    """Side to which the impala torso's last maps (11x11 for 84x84 frames) are max-pooled, 6 in
    Clark 2024; 0: they are not."""
    stack: Annotated[int, Range(1, 255)] = 4
    """Frames in an observation."""


@dataclass(frozen=True)
class OptimizerConfig:
    """An objective's optimizer."""

    name: Literal["adam", "amsgrad", "radam", "rmsprop", "rmsprop-uncentred"] = "adam"
    """adam; amsgrad: Adam that divides by the largest second moment so far (Reddi 2018); radam:
    rectified Adam (Liu 2020); rmsprop: the centred RMSProp of Mnih 2015;
    rmsprop-uncentred: that of A3C (Mnih 2016), whose moving average begins at 1 as in
    TensorFlow."""
    lr: Annotated[float, REAL_POSITIVE] = 6.25e-5
    """Learning rate when learning begins."""
    lr_final_fraction: Annotated[float, FRACTION] = 1.0
    """Learning rate at the end of the run as a fraction of `lr`; it changes linearly."""
    eps: Annotated[float, REAL_POSITIVE] = 1.5e-4
    """Term added to the denominator of the update."""
    decay: Annotated[float, Range(0, 1 - 1e-9)] = 0.95
    """Decay of RMSProp's moving averages (Adam and RAdam use 0.9 and 0.999)."""
    max_grad_norm: Annotated[float, REAL_NON_NEGATIVE] = 0.0
    """Gradients are scaled down to this global norm; 0 switches it off."""


@dataclass(frozen=True)
class OptimConfig(OptimizerConfig):
    """The optimizer of an agent that draws batches from a replay."""

    batch_size: Annotated[int, POSITIVE] = 32
    """Transitions in an update, B."""


@dataclass(frozen=True)
class RunConfig:
    """Where results go and how often."""

    dir: str = ""
    """Run directory; empty: runs/<game>-<preset>-s<seed>-<time>."""
    log_period: Annotated[int, PERIOD] = 20_000
    """Frames between lines of metrics."""
    checkpoint_period: Annotated[int, PERIOD] = 400_000
    """Frames between checkpoints."""
    replay_period: Annotated[int, NON_NEGATIVE] = 400_000
    """Frames between checkpoints that also hold the replay and the games in flight, from which
    --resume goes on bit for bit; 0 switches them off."""
    eval_period: Annotated[int, Range(0, multiple=FRAMES_PER_STEP)] = 400_000
    """Frames between evaluations; 0 switches them off."""
    eval_episodes: Annotated[int, Range(1, 1_000_000)] = 10
    """Full games of one evaluation."""
    eval_epsilon: Annotated[float, FRACTION] = 0.01
    """Probability of a random action in an evaluation."""
    tensorboard: bool = True
    """Also write TensorBoard events."""
    finish: bool = True
    """At the end draw the learning curve and record a game of the best checkpoint."""


@dataclass(frozen=True)
class Config:
    """Settings that every algorithm has; a subclass for each adds its own sections."""

    in_turn = False
    """Whether playing and learning take turns, with updates between rollouts alone."""

    game: str = "pong"
    """Game in snake_case, one of the 57 (or a toy: catch, chain, t_maze, recall,
    noisy_corridor); MsPacman and ALE/MsPacman-v5 are understood too."""
    preset: str = "dqn-nature"
    """Name of the preset that these settings began as; set by the command line."""
    seed: Annotated[int, NON_NEGATIVE] = 1
    """Root of all random numbers of the run."""
    total_frames: Annotated[int, Range(FRAMES_PER_STEP)] = 200_000_000
    """Emulator frames of the run, over all environments."""
    device: str = "auto"
    """Torch device of the networks; auto: CUDA where it is there, else the CPU."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the networks; auto: bfloat16 where the hardware computes in it, else
    float32."""
    threads: Annotated[int, Range(0, 4096)] = 0
    """Learner threads on the CPU. Each computes the gradient of its share of the batch, so results
    depend on this number. 0: one per available core, or the number that a resumed run started
    with. Workers of A3C have one each."""
    overlap: bool = True
    """Step the emulators of worker processes while the learner computes. Results do not depend on
    it."""
    env: EnvConfig = field(default_factory=EnvConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def problems(self) -> Iterator[str]:
        """What settings say against each other, as sentences with the path of a field."""
        env = self.env
        if env.num_workers > env.num_envs:
            yield (
                f"env.num_workers: expected at most one for each of env.num_envs = {env.num_envs}, "
                f"got {env.num_workers}"
            )


def torso_problems(net: TorsoConfig, *, rollouts: bool = False) -> Iterator[str]:
    """Options of a torso beside another; `rollouts`: for an agent that learns from rollouts."""
    given = [name for name in _IMPALA_OPTIONS if getattr(net, name) != getattr(TorsoConfig(), name)]
    if given and net.torso != "impala":
        names = " and ".join(f"net.{name}" for name in given)
        yield f"{names}: expected net.torso = impala, which alone has this, got {net.torso}"
    if net.layer_norm and net.torso not in ("nature", "impala") and not rollouts:
        yield f"net.layer_norm: expected net.torso = nature or impala, got {net.torso}"
    if net.pixels == "running" and net.torso != "pooled":
        yield f"net.pixels = running: expected net.torso = pooled, got {net.torso}"
    for name, value in (("pixels", "running"), ("init", "normalized-columns")):
        if getattr(net, name) == value and not rollouts:
            yield f"net.{name}: expected another value than {value}, which needs rollouts"
