"""What only CUDA does: page-locked batches, copies on a stream of their own, late priorities."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from atari_fast.agents.agent import map_batch, tensors_of
from atari_fast.config import RecurrentConfig, ReusedRolloutConfig, RolloutFamilyConfig
from atari_fast.infra.checkpoint import latest_checkpoint, read_checkpoint
from atari_fast.infra.weights import unpack_state
from atari_fast.presets import PRESETS
from atari_fast.runtime import gradients
from atari_fast.runtime.device import Autocast
from atari_fast.runtime.learner import Learner
from atari_fast.runtime.prefetcher import Prefetcher
from atari_fast.runtime.trainer import Trainer
from device_runs import AGENT57, DQN, NOISY, PPO, R2D2, filled, run_in, with_sizes

pytestmark = pytest.mark.gpu

CUDA = torch.device("cuda")
SIZE = 64


def busy() -> None:
    """Some milliseconds of work on the current stream."""
    matrix = torch.ones(2048, 2048, device=CUDA)
    for _ in range(20):
        matrix = matrix @ matrix * 1e-4


@pytest.mark.parametrize("config", [DQN, R2D2, AGENT57], ids=["dqn", "r2d2", "agent57"])
def test_batches_are_page_locked_and_two_take_turns(config: Any) -> None:
    _, memory = filled(config, CUDA)
    prefetcher = Prefetcher(memory, SIZE, CUDA)
    first, second = prefetcher._buffers
    assert all(tensor.is_pinned() for buffer in (first, second) for tensor in tensors_of(buffer))
    assert first.frames.data_ptr() != second.frames.data_ptr()


@pytest.mark.parametrize("config", [DQN, R2D2, AGENT57], ids=["dqn", "r2d2", "agent57"])
def test_a_batch_is_whole_while_the_device_is_busy(config: Any) -> None:
    """Neither the next copy nor reused memory of the device may change a batch in use."""
    config = with_sizes(config)
    _, memory = filled(config, CUDA)
    _, reference = filled(config, CUDA)
    prefetcher = Prefetcher(memory, SIZE, CUDA)
    expected = reference.new_batch(SIZE, pinned=False)
    for _ in range(50):
        batch = prefetcher.next(0.6)
        busy()
        used = map_batch(torch.clone, batch)  # behind that work, on the same stream
        prefetcher.prefetch(0.6)
        del batch
        reference.sample_into(expected, 0.6)
        for found, drawn in zip(tensors_of(used), tensors_of(expected), strict=True):
            assert torch.equal(found.cpu(), drawn)


@pytest.mark.parametrize("config", [DQN, R2D2, AGENT57], ids=["dqn", "r2d2", "agent57"])
def test_a_batch_drawn_ahead_goes_through_a_checkpoint(config: Any) -> None:
    _, memory = filled(config, CUDA)
    prefetcher = Prefetcher(memory, SIZE, CUDA)
    prefetcher.prefetch(0.6)
    other = Prefetcher(memory, SIZE, CUDA)
    state = prefetcher.state()
    other.load_state({"ahead": [tensor.cpu() for tensor in state["ahead"]]})
    saved, loaded = prefetcher.next(0.6), other.next(0.6)
    for one, two in zip(tensors_of(saved), tensors_of(loaded), strict=True):
        assert one.device == two.device
        assert torch.equal(one, two)


@pytest.mark.parametrize("config", [DQN, R2D2, AGENT57], ids=["dqn", "r2d2", "agent57"])
def test_priorities_arrive_one_update_late_and_after_a_resume_too(config: Any) -> None:
    agent, memory = filled(config, CUDA)
    learner = Learner(agent, memory, CUDA, Autocast(CUDA, "fp32"))
    arrived: list[list[int]] = []
    real = memory.update_priorities

    def noted(ids: torch.Tensor, priorities: torch.Tensor) -> int:
        assert not priorities.is_cuda
        assert priorities.isfinite().all()
        arrived.append(ids.tolist())
        return real(ids, priorities)

    memory.update_priorities = noted
    drawn = []
    for update in range(4):
        assert arrived == drawn[: max(0, update - 1)]
        learner.update(0.6)
        assert learner.batch is not None
        assert not learner.batch.ids.is_cuda
        drawn.append(learner.batch.ids.tolist())
    assert arrived == drawn[:3]
    state = learner.state()
    assert arrived == drawn[:3]  # a save changes nothing
    resumed = Learner(agent, memory, CUDA, Autocast(CUDA, "fp32"))
    resumed.load_state(state)
    resumed.update(0.6)
    assert arrived == drawn


def test_priorities_are_those_of_the_losses() -> None:
    agent, memory = filled(DQN, CUDA)
    learner = Learner(agent, memory, CUDA, Autocast(CUDA, "fp32"))
    outputs, arrived = [], []
    step = learner._steps[0]
    gradients, real = step.gradients, memory.update_priorities

    def noted(batch: Any) -> Any:
        out = gradients(batch)
        outputs.append(out.priorities.clone())  # the next graph writes where they are
        busy()
        return out

    def noted_late(ids: torch.Tensor, priorities: torch.Tensor) -> int:
        arrived.append(priorities.clone())
        return real(ids, priorities)

    step.gradients, memory.update_priorities = noted, noted_late
    for _ in range(5):
        learner.update(0.6)
    assert len(arrived) == 4
    for out, priorities in zip(outputs, arrived, strict=False):
        assert torch.equal(out.cpu(), priorities)


@pytest.mark.parametrize(
    "preset",
    [
        *("dqn-nature", "double-dqn", "dueling", "per", "c51", "qr-dqn", "iqn", "m-dqn", "m-iqn"),
        *("rainbow", "al", "pal", "r2d2", "r2d2-bandit", "ngu", "agent57"),
        *("a2c-lstm", "ppo", "pqn", "pqn-lstm"),
    ],
)
def test_a_graph_computes_what_single_kernels_do(
    preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For every algorithm: bit for bit the same weights, whether updates are graphs or not."""
    config = PRESETS[preset]()
    if isinstance(config, RolloutFamilyConfig):
        lstm = PPO.net.lstm if config.net.lstm else 0
        net = dataclasses.replace(config.net, lstm=lstm)
        minibatches = 8 if preset == "a2c-lstm" else 2
        rollout = dataclasses.replace(config.rollout, steps=9, minibatches=minibatches)
        if isinstance(rollout, ReusedRolloutConfig):
            rollout = dataclasses.replace(rollout, epochs=4)
        env = dataclasses.replace(PPO.env, num_envs=8)
        config = dataclasses.replace(config, env=env, net=net, rollout=rollout)
    else:
        own = R2D2 if isinstance(config, RecurrentConfig) else DQN
        sizes = {"capacity": 1_000, "min_frames": 400}
        if isinstance(config, RecurrentConfig):
            sizes |= {"burn_in": 4, "unroll": 8, "period": 4}
        config = dataclasses.replace(
            config,
            env=own.env,
            net=dataclasses.replace(own.net, stack=config.net.stack),
            replay=dataclasses.replace(config.replay, **sizes),
            optim=dataclasses.replace(config.optim, batch_size=8),
        )
    weights, metrics = [], []
    torch.use_deterministic_algorithms(True)
    try:
        for eager in (10**9, 3):
            monkeypatch.setattr(gradients, "_EAGER_UPDATES", eager)
            agent, memory = filled(with_sizes(config), CUDA, steps=64)
            torch.manual_seed(1)
            learner = Learner(agent, memory, CUDA, Autocast(CUDA, "fp32"))
            for _ in range(8):
                learner.update(0.6)
            metrics.append(learner.take_metrics())
            weights.append(agent.nets["online"].state_dict())
    finally:
        torch.use_deterministic_algorithms(False)
    assert metrics[0] == metrics[1]
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name


def test_a_graph_gives_back_its_gradients() -> None:
    """Another user of the networks may have dropped them."""
    agent, memory = filled(DQN, CUDA)
    learner = Learner(agent, memory, CUDA, Autocast(CUDA, "fp32"))
    for _ in range(6):
        for parameter in agent.nets["online"].parameters():
            parameter.grad = None
        learner.update(0.6)
        assert all(parameter.grad is not None for parameter in agent.nets["online"].parameters())


def test_the_state_of_the_devices_generator_is_saved(tmp_path: Path) -> None:
    """It decides on the noise of a noisy network."""
    config = run_in(dataclasses.replace(NOISY, total_frames=800), tmp_path / "run", "cuda")
    trainer = Trainer(config)
    assert trainer.run()
    checkpoint = read_checkpoint(latest_checkpoint(tmp_path / "run" / "checkpoints"))
    state = unpack_state(checkpoint.tensors["state"], checkpoint.records["state"])["cuda_rng"]
    assert torch.equal(state, torch.cuda.get_rng_state(CUDA))
    observations = torch.zeros(4, 2, 10, 5, dtype=torch.uint8, device=CUDA)
    net = trainer.agent.nets["online"]
    with torch.no_grad():
        noise = net(observations, 4)
        assert not torch.equal(net(observations, 4), noise)
        torch.cuda.set_rng_state(state, CUDA)
        assert torch.equal(net(observations, 4), noise)


def test_recurrent_weights_are_one_block_of_memory() -> None:
    """Of the copied network too: otherwise cuDNN warns and copies them at every call."""
    agent, _ = filled(R2D2, CUDA, steps=2)
    for net in agent.nets.values():
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("error")
            net.unroll(torch.zeros(3, 2, net.lstm.input_size, device=CUDA), net.initial_state(2))


def test_automatic_choices_take_the_device_and_bfloat16(tmp_path: Path) -> None:
    changes = {"device": "auto", "precision": "auto"}
    config = dataclasses.replace(run_in(DQN, tmp_path / "run", "auto"), **changes)
    trainer = Trainer(config)
    trainer.driver.envs.close()
    assert trainer.device.type == "cuda"
    assert trainer.autocast.enabled == torch.cuda.is_bf16_supported(including_emulation=False)
