"""A3C on a machine where workers die, hang and are interrupted."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atari_fast.config import (
    EnvConfig,
    WorkerRolloutConfig,
)
from atari_fast.errors import WorkerError
from atari_fast.infra.checkpoint import latest_checkpoint, read_checkpoint
from atari_fast.infra.logging import read_metrics
from atari_fast.runtime import hogwild
from atari_fast.runtime.trainer import Trainer
from commands import command, learning, one_sentence
from device_runs import A3C_CATCH
from field_runs import CATCH
from processes import KillingPipe, gone, shared_files

SMALL = dataclasses.replace(
    A3C_CATCH, total_frames=8_000, env=EnvConfig(num_envs=4, num_workers=2), run=CATCH.run
)
ARGUMENTS = [
    *("a3c-lstm", "--game", "pong", "--env.num-workers", "2"),
    *("--env.num-envs", "4", "--net.lstm", "8", "--net.torso", "mlp", "--net.pixels", "scale"),
    *("--run.log-period", "400", "--run.eval-period", "0", "--run.no-finish"),
]


def make_trainer(folder: Path, replay_period: int = 2_000, **changes: Any) -> Trainer:
    run = dataclasses.replace(SMALL.run, dir=str(folder), replay_period=replay_period)
    return Trainer(dataclasses.replace(SMALL, run=run, **changes))


def pids(trainer: Trainer) -> list[int]:
    return [member.worker.process.pid for member in trainer.driver._members]


def at(trainer: Trainer, frames: int, act: Callable[[], None]) -> None:
    """Lets a run call `act` once, when it has played `frames`."""
    take, done = trainer._take, []

    def noted(result: Any) -> None:
        if result.frames >= frames and not done:
            done.append(True)
            act()
        take(result)

    trainer._take = noted  # type: ignore[method-assign]


def test_a_killed_worker_is_named_and_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = make_trainer(tmp_path / "run")
    first, second = pids(trainer)
    at(trainer, 2_000, lambda: os.kill(second, signal.SIGKILL))
    assert trainer.run()
    assert trainer.frames >= 8_000
    out = capsys.readouterr().out
    assert "warning: worker 1 (environments 2 to 3 of catch) was killed by SIGKILL" in out
    assert "a new one takes its place (1 of 10)" in out
    assert pids(trainer)[0] == first
    assert pids(trainer)[1] != second
    assert gone([first, second, *pids(trainer)], 5)
    assert shared_files(os.getpid()) == []


def test_a_hung_worker_is_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """While the other one goes on; no save waits for both."""
    env = dataclasses.replace(SMALL.env, worker_timeout=3.0)
    trainer = make_trainer(tmp_path / "run", 0, env=env, total_frames=10**9)
    hung, replaced = pids(trainer)[0], []
    at(trainer, 2_000, lambda: os.kill(hung, signal.SIGSTOP))
    note = trainer.driver._note

    def noted(text: str) -> None:
        note(text)
        if "no answer" in text:
            replaced.append(trainer.frames)
            trainer.interrupt.requested = True

    trainer.driver._note = noted
    assert not trainer.run()
    assert replaced > [2_000]
    out = capsys.readouterr().out
    assert "worker 0 (environments 0 to 1 of catch) gave no answer for 3 seconds" in out
    assert gone([hung], 5)


def test_a_worker_killed_in_the_middle_of_a_report_is_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a rollout whose report no pipe takes without a reader."""
    trainer = make_trainer(
        tmp_path / "run", 0, rollout=WorkerRolloutConfig(steps=4_000), total_frames=50_000
    )
    member = trainer.driver._members[0]
    member.worker = member.worker._replace(pipe=KillingPipe(member.worker))
    trainer.driver._processes[0] = member.worker
    assert trainer.run()
    assert (
        "worker 0 (environments 0 to 1 of catch) was killed by SIGKILL" in capsys.readouterr().out
    )


def test_workers_that_die_too_often_end_the_run_after_saving(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path / "run", rollout=WorkerRolloutConfig(worker_restarts=1))

    def kill() -> None:
        os.kill(pids(trainer)[0], signal.SIGKILL)
        os.kill(pids(trainer)[1], signal.SIGKILL)

    at(trainer, 2_000, kill)
    with pytest.raises(WorkerError, match=r"2 workers died, rollout.worker_restarts allows 1"):
        trainer.run()
    assert gone(pids(trainer), 5)
    newest = latest_checkpoint(tmp_path / "run" / "checkpoints", holding="replay.bin")
    checkpoint = read_checkpoint(newest)
    assert checkpoint.frames >= 2_000
    resumed = Trainer(trainer.config, checkpoint)
    assert resumed.run()
    assert resumed.frames >= 8_000


@pytest.mark.parametrize("which", [0, 1])
def test_a_worker_that_dies_at_the_start_ends_the_run_with_a_sentence(
    which: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, started = hogwild.start_worker, []

    def start_and_kill(context: Any, index: int, *rest: Any) -> Any:
        worker = start(context, index, *rest)
        started.append(worker.process.pid)
        if index == which:
            worker.process.kill()
        return worker

    monkeypatch.setattr(hogwild, "start_worker", start_and_kill)
    with pytest.raises(WorkerError, match=f"worker {which} .*SIGKILL while it started"):
        make_trainer(tmp_path / "run")
    assert gone(started, 5)
    assert not (tmp_path / "run").exists()


def test_a_worker_that_hangs_at_the_start_ends_the_run_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, started = hogwild.start_worker, []

    def start_and_stop(context: Any, index: int, *rest: Any) -> Any:
        worker = start(context, index, *rest)
        started.append(worker.process.pid)
        if index == 1:
            os.kill(worker.process.pid, signal.SIGSTOP)
        return worker

    monkeypatch.setattr(hogwild, "start_worker", start_and_stop)
    monkeypatch.setattr(hogwild, "_START_SECONDS", 0.0)
    with pytest.raises(WorkerError, match=r"worker \d .*gave no answer"):
        make_trainer(tmp_path / "run", env=dataclasses.replace(SMALL.env, worker_timeout=4.0))
    assert gone(started, 5)


def test_a_worker_that_cannot_be_replaced_ends_the_run_after_saving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(tmp_path / "run")
    before = pids(trainer)

    def kill() -> None:
        def refuse(*_: Any) -> Any:
            raise WorkerError("worker 0 cannot be started (no processes left)")

        monkeypatch.setattr(hogwild, "start_worker", refuse)
        os.kill(before[0], signal.SIGKILL)

    at(trainer, 2_000, kill)
    with pytest.raises(WorkerError, match="SIGKILL; worker 0 cannot be started"):
        trainer.run()
    assert gone(before, 5)
    newest = latest_checkpoint(tmp_path / "run" / "checkpoints", holding="replay.bin")
    assert read_checkpoint(newest).frames >= 2_000


@pytest.mark.parametrize("moment", ["evaluate", "save"])
def test_a_worker_that_dies_while_all_wait_is_replaced(moment: str, tmp_path: Path) -> None:
    run = dataclasses.replace(
        SMALL.run, dir=str(tmp_path / "run"), replay_period=2_000, eval_period=2_000
    )
    trainer = Trainer(dataclasses.replace(SMALL, run=run))
    rest, killed = trainer.driver.rest, []

    def kill_and_rest() -> None:
        if not killed and (moment == "save") == (not trainer._evaluation_pending):
            killed.append(pids(trainer)[1])
            os.kill(killed[0], signal.SIGKILL)
        rest()

    trainer.driver.rest = kill_and_rest  # type: ignore[method-assign]
    assert trainer.run()
    assert killed
    assert killed[0] not in pids(trainer)
    assert trainer.frames >= 8_000


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


@pytest.mark.parametrize("group", [False, True], ids=["process", "group"])
def test_an_interrupt_saves_and_the_run_goes_on(group: bool, tmp_path: Path) -> None:
    with learning(tmp_path / "run", *ARGUMENTS) as process:
        workers = children(process.pid)
        (os.killpg if group else os.kill)(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=300)
        assert process.returncode == 130, err.decode()
        assert err == b""
    assert gone(workers, 5)
    assert shared_files(process.pid) == []
    if group:
        return
    frames = latest_checkpoint(tmp_path / "run" / "checkpoints").name.removeprefix("ckpt-")
    more = str(int(frames) + 1_600)
    done = command("train", "--resume", "run", "--total-frames", more, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"goes on from {int(frames):,} frames" in done.stdout
    assert "does not end as the one that never stopped" in done.stdout
    rows = [row["frames"] for row in read_metrics(tmp_path / "run")]
    assert rows == sorted(rows)
    assert rows[-1] >= int(more)
    played = command("evaluate", "run", "--episodes", "1", cwd=tmp_path)
    assert played.returncode == 0, played.stderr


def test_workers_end_when_their_run_is_killed(tmp_path: Path) -> None:
    with learning(tmp_path / "run", *ARGUMENTS) as process:
        workers = children(process.pid)
        assert len(workers) >= 2
        process.kill()
        process.communicate(timeout=300)
        assert gone(workers, 10)
    assert shared_files(process.pid) == []


def test_a_game_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    one_sentence(
        command("train", *ARGUMENTS, "--env.mode", "200", cwd=tmp_path), 2, "env.mode", "pong"
    )
    one_sentence(
        command("train", *ARGUMENTS, "--env.num-workers", "0", cwd=tmp_path), 1, "num_workers"
    )
