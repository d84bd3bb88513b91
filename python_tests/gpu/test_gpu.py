"""Runs on the device that AF_TEST_DEVICE names, by default a GPU; `cpu` is a dry run of the tests.

Sums of kernels have one order here (torch.use_deterministic_algorithms, and for cuBLAS the
environment variable CUBLAS_WORKSPACE_CONFIG), so that equal runs are equal bit for bit.
"""

from __future__ import annotations

import os

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used

import contextlib
import dataclasses
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from atari_fast import load_agent
from atari_fast.agents.agent import tensors_of
from atari_fast.agents.registry import build
from atari_fast.agents.restore import load_agent as restore
from atari_fast.runtime import action_gap
from atari_fast.runtime.device import Autocast, select_device
from atari_fast.runtime.evaluation import evaluate
from atari_fast.runtime.prefetcher import Prefetcher, to_device
from atari_fast.runtime.trainer import Trainer
from atari_fast.seeding import stream
from atari_fast.train import main
from atari_fast.types import EnvSpec
from commands import outcome
from device_runs import A3C, AGENT57, DQN, NOISY, PPO, R2D2, filled, run_in, with_sizes

pytestmark = pytest.mark.gpu

NAME = os.environ.get("AF_TEST_DEVICE", "cuda")
BF16 = torch.finfo(torch.bfloat16).eps
AGENTS = {"dqn": DQN, "noisy": NOISY, "r2d2": R2D2, "agent57": AGENT57}
RUNS = {**AGENTS, "ppo": PPO}


@contextlib.contextmanager
def without_tf32() -> Iterator[None]:
    """cuDNN computes float32 in float32, which is not its default."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some versions of torch have other names for it
        before = torch.backends.cudnn.allow_tf32
        torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


@pytest.fixture
def device() -> Iterator[torch.device]:
    """The device, where equal inputs give equal results."""
    chosen = select_device(NAME)
    torch.use_deterministic_algorithms(True)
    try:
        with without_tf32():
            yield chosen
    finally:
        torch.use_deterministic_algorithms(False)


def generators(device: torch.device) -> list[torch.Tensor]:
    """States of the generators that a run depends on."""
    states = [torch.get_rng_state()]
    return states + ([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])


@pytest.mark.parametrize("config", [DQN, R2D2, AGENT57], ids=["dqn", "r2d2", "agent57"])
def test_a_prefetched_batch_is_what_the_memory_drew(config: Any, device: torch.device) -> None:
    """A second memory with the same rows and seed says what was drawn, and in which order."""
    _, memory = filled(config, device)
    _, reference = filled(config, device)
    size = config.optim.batch_size
    prefetcher = Prefetcher(memory, size, device)
    expected = reference.new_batch(size, pinned=False)
    for _ in range(5):
        batch = prefetcher.next(0.6)
        reference.sample_into(expected, 0.6)
        assert batch.ids.device.type == "cpu"
        for found, drawn in zip(tensors_of(batch), tensors_of(expected), strict=True):
            assert found.device.type == device.type or found is batch.ids
            assert torch.equal(found.cpu(), drawn)
        prefetcher.prefetch(0.6)
    assert expected.frames.any()


@pytest.mark.parametrize("name", RUNS)
def test_a_run_in_two_pieces_ends_as_a_run_in_one(
    name: str, device: torch.device, tmp_path: Path
) -> None:
    """Networks, optimizer, memory, generators: all files of the last checkpoint are equal."""
    whole = Trainer(run_in(RUNS[name], tmp_path / "whole", NAME))
    assert whole.run()
    pieces = Trainer(run_in(RUNS[name], tmp_path / "pieces", NAME))
    take = pieces._take

    def take_and_stop(result: Any) -> None:
        take(result)
        pieces.interrupt.requested |= pieces.frames >= pieces.config.run.replay_period

    pieces._take = take_and_stop
    assert not pieces.run()
    assert 0 < pieces.driver.updates < whole.driver.updates
    torch.manual_seed(0)  # what is not restored differs from here on
    assert main(["--resume", str(tmp_path / "pieces")]) == 0
    assert outcome(tmp_path / "pieces") == outcome(tmp_path / "whole")


def test_workers_of_a3c_learn_on_the_device(tmp_path: Path) -> None:
    """With shared weights in main memory."""
    trainer = Trainer(run_in(A3C, tmp_path / "run", NAME))
    before = [weight.clone() for weight in trainer.agent.nets["online"].parameters()]
    assert trainer.run()
    assert trainer.driver.updates > 20
    for weight, first in zip(trainer.agent.nets["online"].parameters(), before, strict=True):
        assert weight.device.type == "cpu"
        assert torch.isfinite(weight).all()
        assert not torch.equal(weight, first)


@pytest.mark.parametrize("name", AGENTS)
def test_bfloat16_losses_are_near_those_in_float32(name: str, device: torch.device) -> None:
    """Errors are at most those of 16 roundings, relative to the largest loss or to 1.

    Two networks of five layers round their inputs, weights and outputs once each, most errors
    cancel, and TD errors near 1 have a loss whose slope is at most 1.
    """
    config = with_sizes(AGENTS[name])
    agent, memory = filled(config, device, learned=True, steps=60)
    batch = memory.new_batch(32, pinned=False)
    memory.sample_into(batch, 0.6)
    losses = {}
    for precision in ("fp32", "bf16"):
        torch.manual_seed(1)  # the same noise
        with Autocast(device, precision)():
            out = agent.objectives[0].loss(to_device(batch, device))
        assert out.losses.dtype == out.priorities.dtype == torch.float32
        losses[precision] = out.losses
        out.losses.mean().backward()
    exact, rounded = losses["fp32"].detach(), losses["bf16"].detach()
    assert not torch.equal(exact, rounded)
    assert (rounded - exact).abs().max() <= 16 * BF16 * max(1.0, float(exact.max()))
    for parameter in agent.objectives[0].net.parameters():
        assert parameter.dtype == torch.float32
        assert parameter.grad is not None
        assert parameter.grad.dtype == torch.float32
        assert parameter.grad.device.type == device.type


@pytest.mark.parametrize("name", RUNS)
def test_an_evaluation_repeats_itself_and_leaves_generators_alone(
    name: str, device: torch.device
) -> None:
    config = RUNS[name]
    agent, _ = filled(config, device)
    spec = EnvSpec((10, 5), ("LEFT", "STAY", "RIGHT"))
    before = generators(device)
    scores = [
        evaluate(
            agent,
            config,
            spec,
            device,
            Autocast(device, "fp32"),
            episodes=12,
            epsilon=0.8,
            seed=5,
            num_envs=num_envs,
        ).scores
        for num_envs in (4, 4, 2)
    ]
    assert scores[0] == scores[1] == scores[2]
    assert len(set(scores[0])) > 1
    for state, saved in zip(generators(device), before, strict=True):
        assert torch.equal(state, saved)


def test_the_learner_unrolls_the_network_as_the_actor_steps_it(device: torch.device) -> None:
    """cuDNN computes whole sequences, the actor's cell a row at a time."""
    torch.manual_seed(0)
    net = build(R2D2, EnvSpec((10, 5), tuple("ABC")), device).nets["online"]
    inputs = torch.randn(40, 8, net.lstm.input_size, device=device)
    state = net.initial_state(8)
    rows = []
    with torch.no_grad():
        unrolled = net.unroll(inputs, state)
        for row in inputs:
            state = net.step(row, state)
            rows.append(state[0])
    torch.testing.assert_close(unrolled, torch.stack(rows), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["dqn", "r2d2", "agent57"])
def test_a_trained_agent_plays(name: str, device: torch.device, tmp_path: Path) -> None:
    """Loaded from a run directory: by observations, and in a study of action gaps."""
    trainer = Trainer(run_in(AGENTS[name], tmp_path / "run", NAME))
    assert trainer.run()
    player = load_agent(tmp_path / "run", "last", device=NAME)
    rng = np.random.default_rng(0)
    observations = rng.integers(0, 256, (3, trainer.agent.stack, 10, 5), np.uint8)
    player.seed(0)
    actions = player.act(observations)
    player.seed(0)
    assert (player.act(observations) == actions).all()
    trained = restore(tmp_path / "run", "last", device)
    played = action_gap.play(
        trained, device, epsilon=0.1, games=2, states=8, seed=stream(1, "study")
    )
    assert len(played.scores) == 2
    assert played.observations.device.type == "cpu"
    if name == "dqn":
        gaps = action_gap.measure({"dqn": trained}, played.observations, device)
        assert all(values.shape == (1, 8) for values in gaps.values())


def test_a_trained_network_is_on_the_device(device: torch.device, tmp_path: Path) -> None:
    trainer = Trainer(run_in(dataclasses.replace(DQN, total_frames=800), tmp_path, NAME))
    trainer.driver.envs.close()
    for net in trainer.agent.nets.values():
        assert {weight.device.type for weight in net.parameters()} == {device.type}
