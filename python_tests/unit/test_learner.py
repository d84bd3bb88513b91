"""The learner: weights, priorities, gradients, optimizers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from atari_fast.agents.agent import LossOutput
from atari_fast.agents.registry import build
from atari_fast.config import (
    DqnConfig,
    DqnOptimConfig,
    EnvConfig,
    NetConfig,
    OptimizerConfig,
    ReplayConfig,
)
from atari_fast.errors import NumericError
from atari_fast.replay.transition import TransitionBatch, TransitionReplay
from atari_fast.runtime.device import Autocast
from atari_fast.runtime.learner import Learner
from atari_fast.runtime.optimizers import make_optimizer
from atari_fast.types import Acted, EnvSpec, Flag, StepBatch
from rounding import assert_rounded
from run_parts import CPU, FP32, TINY_PONG, make_agent, make_replay, with_agent


class OneWeight(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(1))


SPEC = EnvSpec((2, 3), ("A", "B"))


def learner_of(
    config: DqnConfig, replay: TransitionReplay, net: OneWeight, loss: Callable
) -> Learner:
    agent = make_agent(config, SPEC, net=net, loss=lambda batch: loss(net, batch))
    return Learner(agent, replay, CPU, FP32)


def learner_with(
    loss: Callable, optim: DqnOptimConfig, prioritized: bool
) -> tuple[Learner, OneWeight]:
    net = OneWeight()
    settings = ReplayConfig(capacity=200, prioritized=prioritized, uniform_mix=0.0)
    config = DqnConfig(
        env=EnvConfig(num_envs=1), net=NetConfig(stack=1), replay=settings, optim=optim
    )
    replay = make_replay(config, SPEC.frame_shape)
    for row in range(60):
        flags = np.array([Flag.FIRST if row == 0 else 0], np.uint8)
        frame = np.full((1, 2, 3), row, np.uint8)
        step = StepBatch(frame, np.zeros(1, np.float32), flags)
        replay.append(step, Acted(np.zeros(1, np.int64)))
    return learner_of(config, replay, net, loss), net


def test_learner_applies_importance_weights_once() -> None:
    """After unequal priorities the gradient is the weighted mean of the items' gradients."""
    captured: list[TransitionBatch] = []

    def loss(net: OneWeight, batch: TransitionBatch) -> LossOutput:
        captured.append(TransitionBatch(*(field.clone() for field in batch)))
        x = batch.frames[:, 0, 0, 0].float()
        return LossOutput(net.w * x, x + 1, {})

    learner, net = learner_with(loss, DqnOptimConfig(batch_size=16, lr=1e-3), prioritized=True)
    for _ in range(30):
        learner.update(beta=0.6)
    batch = captured[-1]
    assert batch.weights.max() == 1.0
    assert batch.weights.min() < 0.9
    expected = (batch.weights * batch.frames[:, 0, 0, 0].float()).mean()
    assert net.w.grad is not None
    assert_rounded(net.w.grad[0], expected, 16, 2)


def test_learner_shifts_the_frames_of_each_item() -> None:
    torch.manual_seed(0)
    captured: list[torch.Tensor] = []

    def loss(net: OneWeight, batch: TransitionBatch) -> LossOutput:
        captured.append(batch.frames)
        return LossOutput(net.w * batch.rewards, batch.rewards.abs(), {})

    optim = DqnOptimConfig(random_shift=1)
    config = DqnConfig(env=EnvConfig(num_envs=1), net=NetConfig(stack=1), optim=optim)
    replay, net = make_replay(config, SPEC.frame_shape), OneWeight()
    frame = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)
    for row in range(60):
        flags = np.array([Flag.FIRST if row == 0 else 0], np.uint8)
        step = StepBatch(frame, np.zeros(1, np.float32), flags)
        replay.append(step, Acted(np.zeros(1, np.int64)))
    learner_of(config, replay, net, loss).update(1.0)
    moved = {tuple(item[0].flatten().tolist()) for item in captured[0]}
    assert {(0, 1, 2, 3, 4, 5), (3, 4, 5, 3, 4, 5), (0, 0, 1, 3, 3, 4)} < moved
    assert len(moved) <= 9


def test_learner_draws_large_errors_more_often() -> None:
    counts = np.zeros(60)

    def loss(net: OneWeight, batch: TransitionBatch) -> LossOutput:
        rows = batch.frames[:, 0, 0, 0]
        np.add.at(counts, rows.numpy(), 1)
        x = rows.float()
        return LossOutput(net.w * 0 * x, torch.where(x < 30, 0.1, 10.0), {})

    learner, _ = learner_with(loss, DqnOptimConfig(batch_size=32), prioritized=True)
    for _ in range(300):
        learner.update(beta=0.4)
    ratio = counts[30:59].mean() / counts[:30].mean()
    assert 8 < ratio < 100**0.6 * 1.3  # (10 / 0.1)^0.6 = 15.8 once every priority is known


@pytest.mark.parametrize("prioritized", [False, True])
def test_learner_refuses_a_loss_that_is_not_finite(prioritized: bool) -> None:
    def loss(net: OneWeight, batch: TransitionBatch) -> LossOutput:
        bad = net.w * torch.full((len(batch.actions),), float("nan"))
        return LossOutput(bad, bad.detach(), {})

    learner, _ = learner_with(loss, DqnOptimConfig(), prioritized=prioritized)

    def update() -> None:
        learner.update(1.0)
        learner.take_metrics()

    with pytest.raises(NumericError, match="not finite at update 1"):
        update()
    with pytest.raises(NumericError, match="weights"):
        learner.check_finite()


@pytest.mark.parametrize(("most", "norm"), [(10.0, 10.0), (99.0, 99.0), (101.0, 100.0)])
def test_learner_clips_the_gradient_norm(most: float, norm: float) -> None:
    def loss(net: OneWeight, batch: TransitionBatch) -> LossOutput:
        x = torch.full((len(batch.actions),), 100.0)
        return LossOutput(net.w * x, x, {})

    learner, net = learner_with(loss, DqnOptimConfig(max_grad_norm=most), prioritized=False)
    learner.update(1.0)
    assert net.w.grad is not None
    assert float(net.w.grad) == pytest.approx(norm, rel=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("parts", ["", "double", "munchausen", "dueling noisy double"])
@pytest.mark.parametrize("algorithm", ["dqn", "c51", "qr-dqn", "iqn"])
def test_every_weight_gets_its_gradient(algorithm: str, parts: str, precision: str) -> None:
    """Autocast's cache of weights once lost the gradients of a double DQN in bfloat16."""
    options = set(parts.split()) - ({"munchausen"} if algorithm == "c51" else set())
    config = with_agent(TINY_PONG, algorithm, n_step=1, **dict.fromkeys(options, True))
    torch.manual_seed(0)
    built = build(config, EnvSpec((84, 84), tuple("ABCDEF")), CPU)
    batch = TransitionBatch(
        frames=torch.randint(0, 256, (16, 5, 84, 84), dtype=torch.uint8),
        actions=torch.randint(0, 6, (16,)),
        rewards=torch.randn(16),
        discounts=torch.full((16,), 0.99),
        steps=torch.ones(16, dtype=torch.int64),
        weights=torch.ones(16),
        ids=torch.arange(16),
    )
    with Autocast(CPU, precision)():
        out = built.objectives[0].loss(batch)
    out.losses.mean().backward()
    for name, parameter in built.nets["online"].named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_rmsprop_is_the_centred_one_of_the_paper() -> None:
    net = OneWeight()
    optimizer = make_optimizer(net, DqnOptimConfig(name="rmsprop", lr=0.1, eps=0.01, decay=0.95))
    w, mean, square = 1.0, 0.0, 0.0
    for g in (2.0, -1.0, 0.5):
        net.w.grad = torch.tensor([g])
        optimizer.step()
        mean, square = 0.95 * mean + 0.05 * g, 0.95 * square + 0.05 * g * g
        w -= 0.1 * g / np.sqrt(square - mean**2 + 0.01)
        assert float(net.w.detach()) == pytest.approx(w, rel=1e-5)


def test_uncentred_rmsprop_is_that_of_a3c_with_a_first_average_of_1() -> None:
    net = torch.nn.Linear(3, 2)
    config = OptimizerConfig(name="rmsprop-uncentred", lr=0.1, eps=0.01, decay=0.9)
    optimizer = make_optimizer(net, config)
    rng = torch.Generator().manual_seed(0)
    weight, square = net.weight.detach().double(), torch.ones(2, 3, dtype=torch.float64)
    for _ in range(5):
        gradient = torch.randn(2, 3, generator=rng)
        net.weight.grad = gradient.clone()
        optimizer.step()
        square = 0.9 * square + 0.1 * gradient.double() ** 2
        weight = weight - 0.1 * gradient.double() / (square + 0.01).sqrt()
        assert torch.allclose(net.weight.double(), weight, atol=1e-6)


def test_radam_is_that_of_torch() -> None:
    net = torch.nn.Linear(3, 2)
    optimizer = make_optimizer(net, OptimizerConfig(name="radam", lr=0.1, eps=1e-6))
    assert isinstance(optimizer, torch.optim.RAdam)
    assert optimizer.defaults["lr"] == 0.1
    assert optimizer.defaults["eps"] == 1e-6
