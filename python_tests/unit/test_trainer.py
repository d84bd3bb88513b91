"""Whole runs of a few hundred frames: reproducible, saved, and as long as asked."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from atari_fast.config import LeastSquaresConfig
from atari_fast.errors import CheckpointError, ConfigError, NumericError, WorkerError
from atari_fast.infra.checkpoint import latest_checkpoint, read_checkpoint
from atari_fast.runtime import directory as directory_module
from atari_fast.runtime import trainer as trainer_module
from atari_fast.runtime.driver import SyncDriver
from atari_fast.runtime.trainer import Trainer
from atari_fast.types import StepBatch
from run_parts import TINY_PONG, tiny_trainer


def test_learning_rate_falls_along_a_line(tmp_path: Path) -> None:
    optim = dataclasses.replace(TINY_PONG.optim, lr_final_fraction=0.1)
    trainer = tiny_trainer(tmp_path / "run", optim=optim)
    rates = []
    step = trainer.driver.learner.optimizers["td"].step

    def record() -> None:
        rates.append(trainer.driver.learner.optimizers["td"].param_groups[0]["lr"])
        step()

    trainer.driver.learner.optimizers["td"].step = record
    assert trainer.run()
    assert rates[0] == pytest.approx(1e-3, rel=0.03)
    assert rates[-1] == pytest.approx(1e-4, rel=0.2)
    assert np.all(np.diff(rates) <= 0)


def state_hash(trainer: Trainer) -> str:
    digest = hashlib.sha256()
    for net in trainer.agent.nets.values():
        for tensor in net.state_dict().values():
            digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def run_trainer(directory: Path, **changes: object) -> tuple[str, list[str]]:
    env = dataclasses.replace(TINY_PONG.env, num_workers=int(changes.pop("num_workers", 0)))
    trainer = tiny_trainer(directory, env=env, **changes)
    assert trainer.run()
    drop = ("seconds", "perf/frames_per_s", "perf/cpu_wait")
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return state_hash(trainer), [{k: v for k, v in x.items() if k not in drop} for x in lines]


def test_a_seed_gives_the_same_run_for_any_number_of_workers_and_either_order(
    tmp_path: Path,
) -> None:
    first = run_trainer(tmp_path / "a")
    assert run_trainer(tmp_path / "b", num_workers=3) == first
    assert run_trainer(tmp_path / "c", num_workers=1, overlap=False) == first
    assert run_trainer(tmp_path / "d", seed=2)[0] != first[0]


def test_run_directory_holds_config_metrics_and_checkpoints(tmp_path: Path) -> None:
    run_trainer(tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["config"]["game"] == "pong"
    checkpoints = sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir())
    assert len(checkpoints) == 2
    assert all(name.startswith("ckpt-") for name in checkpoints)
    with pytest.raises(ConfigError, match="holds a run already"):
        run_trainer(tmp_path / "run")


def test_session_takes_any_spelling_of_a_game(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path / "run", game="ALE/Pong-v5")
    trainer.driver.envs.close()
    assert trainer.config.game == "pong"
    assert json.loads((tmp_path / "run" / "config.json").read_text())["config"]["game"] == "pong"


def test_session_that_cannot_begin_leaves_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, blob: bytes) -> None:
        raise CheckpointError(f"{path}: no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(directory_module, "replace_file", full)
        with pytest.raises(CheckpointError, match="no space left"):
            tiny_trainer(tmp_path / "run")
    tiny_trainer(tmp_path / "run").driver.close()


def fail_saves(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Makes the first `number` checkpoints fail."""
    real, failures = trainer_module.write_checkpoint, [0]

    def write(*arguments: object, **options: object) -> object:
        if failures[0] < number:
            failures[0] += 1
            raise CheckpointError("no space")
        return real(*arguments, **options)

    monkeypatch.setattr(trainer_module, "write_checkpoint", write)


@pytest.mark.parametrize("failing", [1, 3])
def test_session_goes_on_when_a_checkpoint_cannot_be_written_and_says_so_at_the_end(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    failing: int,
) -> None:
    run = dataclasses.replace(TINY_PONG.run, checkpoint_period=400, dir=str(tmp_path / "run"))
    trainer = Trainer(dataclasses.replace(TINY_PONG, run=run))
    fail_saves(monkeypatch, failing)
    assert trainer.run()
    warnings = [x for x in capsys.readouterr().out.splitlines() if x.startswith("warning: ")]
    assert len(warnings) == failing + 1
    assert f"saves that failed: {failing}" in warnings[-1]
    assert len(list((tmp_path / "run" / "checkpoints").glob("ckpt-*"))) == min(2, 4 - failing)


def test_session_whose_last_checkpoint_cannot_be_written_ends_with_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = tiny_trainer(tmp_path / "run")
    fail_saves(monkeypatch, 2)
    with pytest.raises(CheckpointError, match="no space"):
        trainer.run()
    out = capsys.readouterr().out
    assert "saves that failed: 1" in out
    assert "saved " not in out


def lose_worker(trainer: Trainer, then: Callable[[], object] = lambda: None) -> None:
    """Makes a worker of the trainer die at 1000 frames."""
    real = trainer.driver.envs.recv

    def recv() -> StepBatch:
        if trainer.frames < 1_000:
            return real()
        then()
        trainer.driver.envs.close()  # as it does itself
        raise WorkerError("worker 0 was killed")

    trainer.driver.envs.recv = recv  # type: ignore[method-assign]


def test_session_that_lost_a_worker_and_cannot_save_says_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = tiny_trainer(tmp_path / "run")
    lose_worker(trainer, lambda: fail_saves(monkeypatch, 1))
    with pytest.raises(WorkerError, match=r"worker 0 was killed; .* is lost too: no space"):
        trainer.run()


@pytest.mark.parametrize("failing", [0, 1])
def test_session_that_a_signal_ended_with_its_workers_claims_no_save_that_failed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    failing: int,
) -> None:
    trainer = tiny_trainer(tmp_path / "run")

    def signalled() -> None:
        trainer.interrupt.requested = True
        fail_saves(monkeypatch, failing)

    lose_worker(trainer, signalled)
    if failing:
        with pytest.raises(CheckpointError, match="no space"):
            trainer.run()
    else:
        assert not trainer.run()
    assert ("saved " in capsys.readouterr().out) == (not failing)
    checkpoints = (tmp_path / "run" / "checkpoints").glob("ckpt-*")
    assert len(list(checkpoints)) == 2 - failing


def test_session_that_lost_a_worker_and_has_bad_weights_leaves_a_crash_bundle(
    tmp_path: Path,
) -> None:
    trainer = tiny_trainer(tmp_path / "run")

    def spoil() -> None:
        with torch.no_grad():
            next(trainer.agent.nets["online"].parameters()).fill_(float("nan"))

    lose_worker(trainer, spoil)
    with pytest.raises(NumericError, match="has the batch and the networks"):
        trainer.run()
    assert list((tmp_path / "run" / "crash").glob("ckpt-*"))


def test_session_never_saves_weights_that_are_not_finite(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path / "run")
    with torch.no_grad():
        next(trainer.agent.nets["online"].parameters()).fill_(float("nan"))
    with pytest.raises(NumericError):
        trainer.run()
    assert not list((tmp_path / "run" / "checkpoints").glob("ckpt-*"))


@pytest.mark.parametrize("num_envs", [1, 8])
@pytest.mark.parametrize("overlap", [False, True])
def test_driver_does_the_updates_and_target_copies_that_the_frames_owe(
    num_envs: int, overlap: bool, tmp_path: Path
) -> None:
    env = dataclasses.replace(TINY_PONG.env, num_envs=num_envs)
    trainer = tiny_trainer(tmp_path / "run", overlap=overlap, env=env)
    copies: list[int] = []
    hook = trainer.agent.hooks[0]._replace(call=lambda _: copies.append(trainer.driver.updates))
    trainer.driver._agent = dataclasses.replace(trainer.agent, hooks=(hook,))
    with trainer.driver.envs:
        results = list(trainer.driver)
    assert results[-1].frames >= 1_600
    acted_on = results[-2].frames  # the last update comes before the last step arrives
    assert trainer.driver.learner.updates == (acted_on - 400) // 16
    assert len(copies) == (acted_on - 400) // 160


def test_session_on_a_gpu_goes_on_with_a_checkpoint_of_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which has no state of the GPU's random numbers."""
    run = dataclasses.replace(TINY_PONG.run, replay_period=800, dir=str(tmp_path / "run"))
    config = dataclasses.replace(TINY_PONG, total_frames=800, run=run)
    assert Trainer(config).run()
    real = Trainer._make_driver

    def make_driver(trainer: Trainer, frames: int) -> SyncDriver[Any]:
        trainer._cuda = True
        return real(trainer, frames)

    monkeypatch.setattr(Trainer, "_make_driver", make_driver)
    path = latest_checkpoint(tmp_path / "run" / "checkpoints")
    trainer = Trainer(config, read_checkpoint(path))
    trainer.driver.envs.close()
    assert trainer.frames == 800


LS = LeastSquaresConfig(method="fqi", period=400, conditional=True, games=2)


def test_a_signal_in_the_games_of_an_update_saves_and_the_resume_is_exact(tmp_path: Path) -> None:
    env = dataclasses.replace(TINY_PONG.env, max_episode_frames=400)
    whole = tiny_trainer(tmp_path / "whole", ls=LS, env=env)
    assert whole.run()
    ended = tiny_trainer(tmp_path / "ended", ls=LS, env=env)
    services = ended.driver._services
    calls = []

    def stop() -> bool:
        calls.append(ended.frames)
        if len(calls) == 40:  # in the middle of the first update's games
            ended.interrupt.requested = True
        return ended.interrupt.requested

    object.__setattr__(services, "stop", stop)
    assert not ended.run()
    assert ended.frames < TINY_PONG.total_frames
    checkpoint = read_checkpoint(latest_checkpoint(tmp_path / "ended" / "checkpoints"))
    assert checkpoint.frames == ended.frames == calls[-1]
    resumed = Trainer(ended.config, checkpoint)
    assert resumed.run()
    assert state_hash(resumed) == state_hash(whole)


def test_lstdq_needs_memory_for_its_joint_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknowns = 6 * (TINY_PONG.net.hidden + 1)
    asked: dict[str, int] = {}
    monkeypatch.setattr(
        trainer_module, "require_memory", lambda needed, what, *_: asked.update({what: needed})
    )
    tiny_trainer(
        tmp_path / "a",
        agent=dataclasses.replace(TINY_PONG.agent, dueling=False),
        ls=LeastSquaresConfig(method="lstdq", period=400),
    ).driver.close()
    assert asked["ls.method lstdq"] == 24 * unknowns**2
