"""Training that is interrupted saves and says so: signals, dead workers."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from atari_fast.config_io import from_record
from atari_fast.errors import WorkerError
from atari_fast.infra.checkpoint import latest_checkpoint, read_checkpoint
from atari_fast.infra.logging import read_metrics
from atari_fast.runtime.trainer import Trainer
from commands import command, learning
from run_parts import TINY_PONG, tiny_trainer

ARGUMENTS = [
    *("pong", "--env.num-workers", "2", "--env.num-envs", "4", "--run.log-period", "400"),
]
"""Of a run with two workers of two environments."""


def training(
    folder: Path, *before: str
) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    """A run in `folder`/r that `before` starts and that has written metrics."""
    return learning(folder / "r", *ARGUMENTS, before=before)


def ends(process: subprocess.Popen[bytes], code: int) -> bytes:
    """Waits for the end, which has the exit code and no traceback; returns the error output."""
    _, err = process.communicate(timeout=300)
    assert process.returncode == code, err.decode()
    assert b"Traceback" not in err
    return err


def checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "r" / "checkpoints").glob("ckpt-*"))


def wait_for(condition: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2], ids=lambda n: n.name
)
@pytest.mark.parametrize("group", [False, True], ids=["process", "group"])
def test_a_signal_saves_and_leaves_with_130(
    tmp_path: Path, number: signal.Signals, group: bool
) -> None:
    with training(tmp_path) as process:
        (os.killpg if group else os.kill)(process.pid, number)
        ends(process, 130)
    assert checkpoints(tmp_path)


@pytest.mark.parametrize("group", [False, True], ids=["process", "group"])
def test_sigusr1_saves_and_goes_on(tmp_path: Path, group: bool) -> None:
    with training(tmp_path) as process:
        for count in (1, 2):
            (os.killpg if group else os.kill)(process.pid, signal.SIGUSR1)
            wait_for(lambda count=count: len(checkpoints(tmp_path)) == count, process)
        saved = checkpoints(tmp_path)
        lines = (tmp_path / "r" / "metrics.jsonl").read_bytes().count(b"\n")
        wait_for(
            lambda: (tmp_path / "r" / "metrics.jsonl").read_bytes().count(b"\n") > lines, process
        )
        os.kill(process.pid, signal.SIGTERM)
        ends(process, 130)
    assert len(checkpoints(tmp_path)) >= 2
    assert saved[-1] in checkpoints(tmp_path)
    for name in checkpoints(tmp_path):
        assert (tmp_path / "r" / "checkpoints" / name / "replay.bin").exists()


def test_a_hangup_that_nohup_ignores_ends_nothing(tmp_path: Path) -> None:
    with training(tmp_path, "nohup") as process:
        os.kill(process.pid, signal.SIGHUP)
        os.kill(process.pid, signal.SIGUSR1)
        wait_for(lambda: checkpoints(tmp_path), process)
        assert process.poll() is None
        os.kill(process.pid, signal.SIGTERM)
        ends(process, 130)


def test_signals_of_schedulers_while_a_video_is_made(tmp_path: Path) -> None:
    """SIGUSR1 has nothing to save then; SIGUSR2 ends it, and nothing half-made is left."""
    zoo = Path(__file__).parents[2] / "zoo" / "pong-dqn.safetensors"
    process = subprocess.Popen(
        [sys.executable, "-m", "atari_fast.record", str(zoo), "--out", "game.webm"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    wait_for(lambda: any(path.stat().st_size for path in tmp_path.glob(".tmp-*")), process)
    process.send_signal(signal.SIGUSR1)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGUSR2)
    ends(process, 130)
    assert list(tmp_path.iterdir()) == []


def test_a_training_in_another_thread_needs_no_signals(tmp_path: Path) -> None:
    results: list[bool] = []
    trainer = tiny_trainer(tmp_path / "run")
    thread = threading.Thread(target=lambda: results.append(trainer.run()))
    thread.start()
    thread.join()
    assert results == [True]


def test_a_worker_that_dies_before_the_first_step_leaves_a_run_that_can_go_on(
    tmp_path: Path,
) -> None:
    """Also when it dies at the start of a resume: an older whole checkpoint stays of use."""
    env = dataclasses.replace(TINY_PONG.env, num_workers=1)
    for resumed in (False, True):
        trainer = tiny_trainer(tmp_path / "run", env=env) if not resumed else _resumed(tmp_path)
        for worker in trainer.driver.envs._workers:
            worker.process.kill()
        with pytest.raises(WorkerError, match="SIGKILL"):
            trainer.run()
    trainer = _resumed(tmp_path)
    assert trainer.run()
    assert trainer.frames >= TINY_PONG.total_frames


def _resumed(tmp_path: Path) -> Trainer:
    newest = latest_checkpoint(tmp_path / "run" / "checkpoints", holding="replay.bin")
    checkpoint = read_checkpoint(newest)
    return Trainer(from_record(checkpoint.records["config"]), checkpoint)


def test_a_dead_worker_ends_the_run_with_5_after_saving(tmp_path: Path) -> None:
    with training(tmp_path) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        workers = [
            int(child)
            for child in children
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
        ]
        assert len(workers) == 2
        os.kill(workers[1], signal.SIGKILL)
        err = ends(process, 5)
    assert b"worker 1 (environments 2 to 3 of pong)" in err
    assert b"SIGKILL" in err
    assert not Path(f"/proc/{workers[0]}").exists()
    (saved,) = checkpoints(tmp_path)
    frames = int(saved.removeprefix("ckpt-"))
    done = command(
        *("train", "--resume", "r", "--total-frames", "16800", "--run.no-finish"), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert f"goes on from {frames:,} frames" in done.stdout
    assert "the games in flight were lost with a worker; new ones begin" in done.stdout
    rows = [row["frames"] for row in read_metrics(tmp_path / "r")]
    assert rows == sorted(rows)
    assert rows[-1] >= 16_800
