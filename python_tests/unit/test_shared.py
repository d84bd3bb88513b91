"""Weights that workers change: each current gradient arrives, by the steps of a plain optimizer."""

from __future__ import annotations

import copy
import multiprocessing

import pytest
import torch
from torch import nn

from atari_fast.config import OptimizerConfig, SharedOptimizerConfig
from atari_fast.runtime.optimizers import begin, make_optimizer
from atari_fast.runtime.shared import LocalCopy, SharedTraining

NAMES = ("adam", "amsgrad", "radam", "rmsprop", "rmsprop-uncentred")
CONTEXT = multiprocessing.get_context("spawn")


def make_net() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(72, 3))
    made: nn.Module = net.to(memory_format=torch.channels_last)
    return made


def backward(net: nn.Module, seed: int) -> None:
    """New gradients, as the learner computes them."""
    inputs = torch.randn(4, 2, 5, 5, generator=torch.Generator().manual_seed(seed))
    net.zero_grad(set_to_none=True)
    net.eval()(inputs).square().sum().backward()


def make_shared(config: SharedOptimizerConfig, workers: int) -> tuple[nn.Module, SharedTraining]:
    net = make_net()
    return net, SharedTraining(net, config, workers, context=CONTEXT)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_one_worker_takes_the_steps_of_the_plain_optimizer(name: str, shared: bool) -> None:
    """Bit for bit; of Adam those of `torch.optim.Adam`."""
    config = SharedOptimizerConfig(name=name, lr=1e-2, eps=1e-5, shared=shared)
    plain = make_net()
    if name == "adam":
        optimizer = torch.optim.Adam(plain.parameters(), lr=1e-2, eps=1e-5, fused=True)
    else:
        optimizer = make_optimizer(plain, config)
    net, training = make_shared(config, 1)
    mine = make_net()
    local = LocalCopy(mine, config, 1, training.memory)
    step = local.optimizer(0).step
    for turn in range(20):
        backward(plain, turn)
        optimizer.step()
        local.pull()
        backward(mine, turn)
        step()
    for ours, theirs in zip(net.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("shared", [True, False])
def test_the_shared_weights_receive_the_current_gradient_of_each_worker(shared: bool) -> None:
    """Not the first one again and again, as where `.grad` is set only while it is None."""
    config = SharedOptimizerConfig(name="rmsprop-uncentred", lr=1e-2, eps=1e-5, shared=shared)
    net, training = make_shared(config, 2)
    mine = [make_net(), make_net()]
    local = [LocalCopy(one, config, 2, training.memory) for one in mine]
    steps = [one.optimizer(i).step for i, one in enumerate(local)]
    plain = make_net()
    optimizers = [make_optimizer(plain, config) for _ in range(1 if shared else 2)]
    for turn in range(12):
        worker = turn % 2
        local[worker].pull()
        backward(mine[worker], turn)
        steps[worker]()
        backward(plain, turn)
        optimizers[worker % len(optimizers)].step()
    for ours, theirs in zip(net.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert len(training.state()) == len(optimizers)


def test_buffers_go_both_ways() -> None:
    config = SharedOptimizerConfig()
    net, training = make_shared(config, 1)
    mine = make_net()
    local = LocalCopy(mine, config, 1, training.memory)
    mine[1].running_mean.fill_(3.0)
    mine[1].num_batches_tracked.fill_(7)
    local.push_buffers()
    assert net[1].running_mean.eq(3.0).all()
    assert net[1].num_batches_tracked == 7
    net[1].running_mean.fill_(5.0)
    local.pull()
    assert mine[1].running_mean.eq(5.0).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_state_that_is_made_early_changes_no_step(name: str) -> None:
    config = OptimizerConfig(name=name, lr=1e-2, eps=1e-5)
    early, late = make_net(), make_net()
    first, second = make_optimizer(early, config), make_optimizer(late, config)
    begin(first)
    for p, q in zip(early.parameters(), late.parameters(), strict=True):
        assert torch.equal(p, q)
    for turn in range(8):
        for net, optimizer in ((early, first), (late, second)):
            backward(net, turn)
            optimizer.step()
    for p, q in zip(early.parameters(), late.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("shared", [True, False])
def test_statistics_go_on_from_a_state(shared: bool) -> None:
    config = SharedOptimizerConfig(lr=1e-2, shared=shared)
    net, training = make_shared(config, 2)
    for worker in range(2):
        backward(net, worker)
        training.optimizer(worker).step()
    state, weights = copy.deepcopy(training.state()), copy.deepcopy(net.state_dict())
    other, again = make_shared(config, 2)
    other.load_state_dict(weights)
    again.load_state(state)
    for one, its in ((net, training), (other, again)):
        backward(one, 5)
        its.optimizer(1).step()
    for p, q in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)
    state[0][0] = {name: value[None] for name, value in state[0][0].items()}
    with pytest.raises(ValueError, match="expected torch"):
        again.load_state(state)
