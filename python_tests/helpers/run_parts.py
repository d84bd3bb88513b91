"""The parts of a run on the CPU in float32, as tests put them together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from atari_fast.agents.parts import AgentParts
from atari_fast.config import Config, OptimConfig
from atari_fast.replay.transition import TransitionReplay
from atari_fast.runtime.actor import Actor
from atari_fast.runtime.device import Autocast
from atari_fast.runtime.learner import Learner
from atari_fast.types import EnvSpec

CPU = torch.device("cpu")
FP32 = Autocast(CPU, "fp32")


def make_replay(config: Config, frame_shape: tuple[int, int], seed: int = 0) -> TransitionReplay:
    return TransitionReplay(config.env, config.net, config.agent, config.replay, frame_shape, seed)


def make_learner(parts: AgentParts, replay: TransitionReplay, optim: OptimConfig) -> Learner:
    return Learner(parts, replay, optim, CPU, FP32)


def make_actor(
    q_values: Callable[[torch.Tensor], torch.Tensor],
    spec: EnvSpec,
    lanes: int,
    stack: int,
    seed: int = 0,
) -> Actor:
    return Actor(q_values, spec, lanes, stack, CPU, FP32, np.random.default_rng(seed))
