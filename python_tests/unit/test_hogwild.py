"""Workers that learn with shared weights: one is plain A2C, and its settings act."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from atari_fast.agents.agent import ActorSpec
from atari_fast.agents.registry import build
from atari_fast.config import (
    A3cAgentConfig,
    A3cConfig,
    EnvConfig,
    RolloutNetConfig,
    SharedOptimizerConfig,
    WorkerRolloutConfig,
)
from atari_fast.config_io import from_record, validate
from atari_fast.envs.atari_env import make_env
from atari_fast.envs.vector_env import VectorEnv
from atari_fast.errors import ConfigError, NumericError
from atari_fast.infra.checkpoint import latest_checkpoint, read_checkpoint
from atari_fast.infra.logging import read_metrics
from atari_fast.runtime.acting import StackedActor
from atari_fast.runtime.crash import crashed_loss
from atari_fast.runtime.driver import SyncDriver
from atari_fast.runtime.hogwild import HogwildDriver
from atari_fast.runtime.hogwild_worker import HogwildTask, Player
from atari_fast.runtime.learner import Learner
from atari_fast.runtime.shared import SharedTraining
from atari_fast.runtime.trainer import Trainer
from atari_fast.seeding import child, stream, to_int
from device_runs import A3C_CATCH
from field_runs import CATCH
from run_parts import CPU, FP32

A3C = dataclasses.replace(A3C_CATCH, run=CATCH.run)


def weights(net: torch.nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in net.parameters()]


@pytest.fixture(name="config", params=["mlp", "pooled"])
def a3c_config(request: pytest.FixtureRequest) -> A3cConfig:
    if request.param == "mlp":
        return A3C
    net = RolloutNetConfig(torso="pooled", pixels="running", hidden=0, lstm=8, stack=1)
    env = EnvConfig(num_envs=2, num_workers=1, crop=True)
    return dataclasses.replace(A3C, game="pong", net=net, env=env, total_frames=480)


def test_one_worker_is_a2c(config: A3cConfig) -> None:
    """Bit for bit, from the same first weights: `SyncDriver` with a plain optimizer."""
    torch.manual_seed(1)
    spec = HogwildTask(config, 0, 1, "0/0", range(config.env.num_envs), None)
    own = spec.own_config()
    seed = stream(config.seed, "worker/0/0/0")
    with VectorEnv(config.game, own.env, child(seed, "envs")) as envs:
        plain = build(own, envs.spec, CPU)
        shared = build(config, envs.spec, CPU)
        shared.nets["online"].load_state_dict(plain.nets["online"].state_dict())
        memory = plain.make_memory(to_int(child(seed, "memory")))
        rng = np.random.default_rng(child(seed, "actor"))
        actor = StackedActor(plain, ActorSpec(envs.num_envs, "train", rng, FP32), envs.spec, CPU)
        learner = Learner(plain, memory, CPU, FP32, check_period=1)
        sync = SyncDriver(plain, envs, memory, actor, learner, total_frames=config.total_frames)
        expected = list(sync)
    driver: HogwildDriver[Any] = HogwildDriver(config, shared, note=print)
    found = list(driver)
    driver.rest()
    driver.close()
    assert [result.frames for result in found] == [result.frames for result in expected]
    episodes = [[result.episodes for result in results] for results in (found, expected)]
    assert episodes[0] == episodes[1]
    assert sum(map(len, episodes[0])) > 0 or config.game == "pong"
    assert driver.updates == learner.updates > 2
    assert found[-1].metrics == expected[-1].metrics
    assert found[-1].metrics["lr"] < 0.3 * config.optim.lr
    for mine, its in zip(
        shared.nets["online"].state_dict().values(),
        plain.nets["online"].state_dict().values(),
        strict=True,
    ):
        assert torch.equal(mine, its)
    metrics = driver.take_metrics()
    assert metrics.keys() == learner.take_metrics().keys()
    assert driver.take_metrics() == {}


def run(config: A3cConfig, folder: Path) -> Trainer:
    options = dataclasses.replace(config.run, dir=str(folder))
    validate(config)
    trainer = Trainer(dataclasses.replace(config, run=options))
    assert trainer.run()
    return trainer


def test_two_workers_share_the_environments(tmp_path: Path) -> None:
    config = dataclasses.replace(A3C, env=EnvConfig(num_envs=5, num_workers=2))
    trainer = run(config, tmp_path / "run")
    assert config.total_frames <= trainer.frames < config.total_frames + 4 * 5
    assert trainer.statistics.episodes > 10
    rows = read_metrics(tmp_path / "run")
    assert rows[-1]["train/updates"] == trainer.driver.updates > 10
    assert all(np.isfinite(row["loss/actor_critic"]) for row in rows[1:])
    assert all("policy/entropy" in row for row in rows[1:])
    envs = [member.envs for member in trainer.driver._members]
    assert envs == [range(2), range(2, 5)]


def test_finished_games_are_those_of_their_environment() -> None:
    config = dataclasses.replace(A3C, env=EnvConfig(num_envs=5, num_workers=2))
    torch.manual_seed(0)
    with VectorEnv("catch", EnvConfig(num_envs=1), stream(0, "spec")) as envs:
        agent = build(config, envs.spec, CPU)
    driver: HogwildDriver[Any] = HogwildDriver(config, agent, note=print)
    try:
        seen = {episode.env for result in driver for episode in result.episodes}
    finally:
        driver.close()
    assert seen == set(range(5))


def test_workers_have_rollouts_of_their_own_length() -> None:
    lengths = WorkerRolloutConfig(steps=9, worker_steps=(3, 7))
    config = dataclasses.replace(A3C, rollout=lengths)
    found = [
        HogwildTask(config, i, 3, "0/0", range(i, i + 1), None).own_config().rollout.steps
        for i in range(3)
    ]
    assert found == [3, 7, 3]
    one = HogwildTask(A3C, 2, 3, "0/0", range(1), None).own_config()
    assert one.rollout.steps == 9


def test_a_rollout_that_is_shorter_means_more_updates(tmp_path: Path) -> None:
    usual = run(A3C, tmp_path / "usual").driver.updates
    short = dataclasses.replace(A3C, rollout=WorkerRolloutConfig(9, (3,)))
    assert run(short, tmp_path / "short").driver.updates > 2.5 * usual


def test_a_seed_gives_the_same_run_of_one_worker_again(tmp_path: Path) -> None:
    one, again, other = (
        weights(run(dataclasses.replace(A3C, seed=seed), tmp_path / name).agent.nets["online"])
        for seed, name in ((1, "one"), (1, "again"), (2, "other"))
    )
    assert all(map(torch.equal, one, again))
    assert not all(map(torch.equal, one, other))


def test_every_worker_has_random_numbers_of_its_own() -> None:
    """Also one that takes the place of another, or that a resumed run begins."""
    context = multiprocessing.get_context("spawn")
    spec = make_env("catch", A3C.env, stream(0, "spec")).spec
    net = build(A3C, spec, CPU).nets["online"]
    memory = SharedTraining(net, A3C.optim, 3, context=context).memory
    played = []
    for number, begin in ((0, "0/0"), (0, "0/0"), (1, "0/0"), (0, "0/1"), (0, "400/0")):
        player = Player(HogwildTask(A3C, number, 3, begin, range(4), memory))
        player._weights._shared.optimizer(number).step = lambda: None  # the weights stay
        player.rollout(0)
        played.append(player.driver.batch.actions.flatten().tolist())
    assert played[0] == played[1]
    assert len(set(map(tuple, played))) == 4


def test_averages_of_pixels_count_the_frames_of_all_workers() -> None:
    """Each worker adds what it has seen since it copied them."""
    env = EnvConfig(num_envs=4, num_workers=2, crop=True)
    net = RolloutNetConfig(torso="pooled", pixels="running", hidden=0, lstm=4, stack=1)
    config = dataclasses.replace(A3C, game="pong", env=env, net=net, total_frames=1_600)
    spec = make_env("pong", env, stream(0, "spec")).spec
    agent = build(config, spec, CPU)
    driver: HogwildDriver[Any] = HogwildDriver(config, agent, print)
    with contextlib.closing(driver):
        for _ in driver:
            pass
        driver.rest()
        reported = sum(len(report.steps) for _, report in driver._reports)
    steps = (driver.frames + 4 * 2 * reported) / 4
    mean, deviation, weight = agent.nets["online"].torso.running.averages
    assert float(weight) == pytest.approx(1 - 0.9999**steps, rel=0.1)
    assert 60 < mean / weight < 110  # Pong's background is 87 of 255
    assert 1 < deviation / weight < 40


@pytest.mark.parametrize("shared", [True, False])
def test_a_resumed_run_has_weights_statistics_and_counts(shared: bool, tmp_path: Path) -> None:
    optim = dataclasses.replace(A3C.optim, shared=shared)
    options = dataclasses.replace(A3C.run, checkpoint_period=1_600, replay_period=1_600)
    env = EnvConfig(num_envs=4, num_workers=2)
    config = dataclasses.replace(A3C, optim=optim, run=options, env=env)
    trainer = run(config, tmp_path / "run")
    resumed = resume(tmp_path / "run", total_frames=8_000)
    driver, before = resumed.driver, trainer.driver
    assert (resumed.frames, driver.updates) == (trainer.frames, before.updates)
    for mine, its in zip(
        weights(resumed.agent.nets["online"]), weights(trainer.agent.nets["online"]), strict=True
    ):
        assert torch.equal(mine, its)
    pairs = [
        (mine[name], its[name])
        for ours, theirs in zip(driver._shared.state(), before._shared.state(), strict=True)
        for mine, its in zip(ours, theirs, strict=True)
        for name in mine
    ]
    assert len(pairs) > 20
    assert all(torch.equal(*pair) for pair in pairs)
    assert any("does not end as the one that never stopped" in text for text in resumed._changes)
    assert resumed.run()
    assert resumed.frames >= 8_000
    assert resumed.driver.updates > 1.5 * before.updates


def resume(directory: Path, **changes: Any) -> Trainer:
    newest = latest_checkpoint(directory / "checkpoints", holding="replay.bin")
    checkpoint = read_checkpoint(newest)
    config = from_record(checkpoint.records["config"])
    return Trainer(dataclasses.replace(config, **changes), checkpoint)


def test_a_loss_that_is_not_finite_ends_the_run_and_leaves_its_batch(tmp_path: Path) -> None:
    config = dataclasses.replace(A3C, agent=A3cAgentConfig(value_weight=1e38, reward_clip=0.0))
    config = dataclasses.replace(config, optim=SharedOptimizerConfig(lr=1e30, eps=1e-5))
    with pytest.raises(NumericError, match=r"worker 0 .* failed: .*has the batch"):
        run(config, tmp_path / "run")
    assert not np.isfinite(float(crashed_loss(tmp_path / "run")))


@pytest.mark.parametrize(
    ("learner", "text"),
    [({"optimizers": []}, "at least one optimizer"), ({"optimizers": [[]]}, "zip")],
)
def test_a_forged_state_is_refused(learner: dict[str, Any], text: str) -> None:
    spec = make_env("catch", A3C.env, stream(0, "spec")).spec
    driver: HogwildDriver[Any] = HogwildDriver(A3C, build(A3C, spec, CPU), print)
    with contextlib.closing(driver):
        state = driver.state(with_replay=True)
        with pytest.raises(ValueError, match=text):
            driver.load_state({**state, "learner": {**state["learner"], **learner}}, Path())


def test_a3c_needs_a_worker() -> None:
    config = dataclasses.replace(A3C, env=EnvConfig(num_envs=4, num_workers=0))
    with pytest.raises(ConfigError, match=r"env.num_workers: expected at least 1"):
        validate(config)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as workers have
    yield
    torch.set_num_threads(threads)
