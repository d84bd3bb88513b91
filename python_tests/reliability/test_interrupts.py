"""Training that is interrupted saves and says so: signals, dead workers."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def training(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A run in `folder`/r with two workers of two lanes that has written metrics."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "atari_fast.train", "pong", "--run.dir", "r"),
            *("--env.workers", "2", "--env.lanes", "4", "--run.log-period", "400"),
        ],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 60
        metrics = folder / "r" / "metrics.jsonl"
        while not (metrics.exists() and metrics.stat().st_size):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield process
    finally:
        process.kill()


def ends(process: subprocess.Popen[bytes], code: int) -> bytes:
    """Waits for the end, which has the exit code and no traceback; returns the error output."""
    _, err = process.communicate(timeout=30)
    assert process.returncode == code, err.decode()
    assert b"Traceback" not in err
    return err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("group", [False, True], ids=["process", "group"])
def test_a_signal_saves_and_leaves_with_130(
    tmp_path: Path, number: signal.Signals, group: bool
) -> None:
    with training(tmp_path) as process:
        (os.killpg if group else os.kill)(process.pid, number)
        ends(process, 130)
    assert list((tmp_path / "r" / "checkpoints").glob("ckpt-*"))


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
    assert b"worker 1 (lanes 2 to 3 of pong)" in err
    assert b"SIGKILL" in err
    assert list((tmp_path / "r" / "checkpoints").glob("ckpt-*"))
    assert not Path(f"/proc/{workers[0]}").exists()
