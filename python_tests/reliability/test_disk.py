"""Full disks, vanished directories, signals, clocks: the run goes on or says in a sentence why."""

from __future__ import annotations

import errno
import os
import random
import resource
import shutil
import signal
import stat
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atari_fast.infra import checkpoint as ckpt
from atari_fast.infra.logging import read_metrics
from atari_fast.runtime import trainer as trainer_module
from atari_fast.runtime.learner import Learner
from atari_fast.train import main
from commands import CATCH, PERIOD, one_sentence, outcome, train, training

At = Callable[[str, int, Callable[[], Any]], None]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The outcome of the run that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole")
    assert train(*CATCH, cwd=folder).returncode == 0
    return outcome(folder / "run")


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> At:
    """Makes a run in this process, in `tmp_path`, call something at the n-th time at a place."""
    calls: dict[tuple[str, int], Callable[[], Any]] = {}
    passed: dict[str, int] = {}

    def fail_point(name: str) -> None:
        passed[name] = passed.get(name, 0) + 1
        calls.get((name, passed[name]), lambda: None)()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ckpt, "fail_point", fail_point)
    return lambda name, number, call: calls.update({(f"checkpoint.{name}", number): call})


def test_a_file_system_without_locks_or_directory_syncs_costs_a_warning_each(
    tmp_path: Path,
    whole: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    recwarn: pytest.WarningsRecorder,
) -> None:
    """As some network file systems: ENOSYS from flock, EINVAL from fsync of a directory."""

    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    sync = os.fsync

    def files_only(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        sync(descriptor)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fcntl.flock", no_locks)
    monkeypatch.setattr("os.fsync", files_only)
    warnings.simplefilter("default")
    assert main(CATCH) == 0
    texts = sorted({str(warning.message) for warning in recwarn})
    assert len(texts) == 2, texts
    assert "cannot be locked (function not implemented)" in texts[0]
    assert "the file system of the run cannot sync directories (invalid argument)" in texts[1]
    monkeypatch.undo()
    assert outcome(tmp_path / "run") == whole


def test_a_lock_that_another_training_has_is_still_refused(tmp_path: Path) -> None:
    never = ("--run.checkpoint-period", "4000000", "--run.replay-period", "0")
    long = (*CATCH, "--total-frames", "4000000", "--run.eval-period", "0", *never)
    with training(*long, cwd=tmp_path) as process:
        while not (tmp_path / "run" / "metrics.jsonl").exists():
            assert process.is_alive()
            time.sleep(0.02)
        done = train(*CATCH, "--run.dir", str(tmp_path / "run"), cwd=tmp_path.parent)
        one_sentence(done, 4, "another training is writing here")
        process.kill()


@pytest.mark.parametrize(
    "place", ["before", "after_state.safetensors", "after_replay.bin", "before_rename"]
)
def test_a_full_disk_costs_one_checkpoint_and_nothing_else(
    tmp_path: Path, whole: dict[str, Any], place: str
) -> None:
    done = train(*CATCH, cwd=tmp_path, failpoint=f"checkpoint.{place}:full:2")
    assert done.returncode == 0, done.stderr
    warning, last = (line for line in done.stdout.splitlines() if line.startswith("warning: "))
    assert "saves that failed: 1" in last
    assert "cannot write a checkpoint of" in warning
    assert "bytes are free" in warning
    assert warning.endswith("training goes on")
    assert outcome(tmp_path / "run") == whole
    assert not list((tmp_path / "run" / "checkpoints").glob(".tmp-*"))


def test_a_disk_that_is_full_at_the_end_leaves_the_checkpoint_before(
    tmp_path: Path, whole: dict[str, Any]
) -> None:
    done = train(*CATCH, cwd=tmp_path, failpoint="checkpoint.after_state.json:full:4")
    one_sentence(done, 4, "run/checkpoints", "bytes", "no space left on device", "--run.dir")
    assert train("--resume", "run", cwd=tmp_path).returncode == 0
    assert outcome(tmp_path / "run") == whole


@pytest.mark.parametrize("limit", [1_000, 9_000, 15_000])
def test_files_that_may_not_grow_cost_one_checkpoint(
    tmp_path: Path,
    whole: dict[str, Any],
    at: At,
    limit: int,
) -> None:
    """Real failures of write(2): at 9000 bytes in the C++ code, at 1000 of the metrics too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    at("before", 2, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1])))
    at("before", 3, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            assert main(CATCH) == 0
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    after = outcome(tmp_path / "run")
    lost = [row for row in whole["metrics"] if row not in after["metrics"]]
    assert {**after, "metrics": None} == {**whole, "metrics": None}
    assert [
        str(warning.message).endswith("file too large; training goes on") for warning in caught
    ] == [True] * bool(lost)
    assert bool(lost) == (limit == 1_000)


def test_a_run_directory_that_vanishes_is_made_anew_and_the_loss_of_metrics_said(
    tmp_path: Path, whole: dict[str, Any], at: At
) -> None:
    at("before", 2, lambda: shutil.rmtree(tmp_path / "run"))
    with pytest.warns(RuntimeWarning, match=r"metrics are being lost: the file was removed"):
        assert main(CATCH) == 0
    newest = ckpt.read_checkpoint(ckpt.latest_checkpoint(tmp_path / "run" / "checkpoints"))
    assert newest.frames == whole["frames"]


def test_a_directory_where_nothing_can_be_made_is_refused(tmp_path: Path) -> None:
    one_sentence(train(*CATCH, "--run.dir", "/proc/run", cwd=tmp_path), 4, "/proc/run")
    (tmp_path / "file").write_text("mine")
    one_sentence(train("--resume", "file/run", cwd=tmp_path), 4, "file/run")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("update", [1, 50, 99])
def test_a_run_that_a_signal_ends_goes_on_bit_for_bit(
    tmp_path: Path,
    whole: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    update: int,
) -> None:
    real = Learner.update

    def signalled(learner: Learner, *arguments: float) -> None:
        real(learner, *arguments)
        if learner.updates == update:
            os.kill(os.getpid(), number)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Learner, "update", signalled)
    assert main(CATCH) == 130
    monkeypatch.setattr(Learner, "update", real)
    assert main(["--resume", "run"]) == 0
    assert outcome(tmp_path / "run") == whole


@pytest.mark.parametrize("ended", [{2}, {2, 3}, {3}], ids=["second", "twice", "last"])
def test_evaluations_that_a_signal_ends_are_held_after_the_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: set[int]
) -> None:
    real, calls = trainer_module.evaluate, []

    def signalled(*arguments: Any, **options: Any) -> Any:
        calls.append(0)
        if len(calls) in ended:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*arguments, **options)

    monkeypatch.chdir(tmp_path)
    arguments = [*CATCH, "--total-frames", str(3 * PERIOD)]
    assert main([*arguments, "--run.dir", "whole"]) == 0
    monkeypatch.setattr(trainer_module, "evaluate", signalled)
    assert main(arguments) == 130
    for _ in ended - {min(ended)}:
        assert main(["--resume", "run"]) == 130
    assert main(["--resume", "run"]) == 0
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


def test_a_second_signal_acts_at_once(tmp_path: Path, at: At) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    at("after_replay.bin", 2, twice)
    with pytest.raises(KeyboardInterrupt):
        main(CATCH)
    root = tmp_path / "run" / "checkpoints"
    assert [path.name for path in ckpt.list_checkpoints(root)] == ["ckpt-000000000800"]
    ckpt.read_checkpoint(ckpt.latest_checkpoint(root))
    assert not list(root.glob(".tmp-*"))


def test_clocks_that_jump_change_nothing(
    tmp_path: Path, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, real = random.Random(0), time.time
    monkeypatch.setattr(time, "time", lambda: real() + rng.uniform(-86_400, 86_400))
    monkeypatch.chdir(tmp_path)
    assert main(CATCH) == 0
    assert outcome(tmp_path / "run") == whole
    rows = read_metrics(tmp_path / "run")
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds)
    assert seconds[-1] < 600
    rates = [row["perf/frames_per_s"] for row in rows if "perf/frames_per_s" in row]
    assert rates
    assert all(rate is not None and 0 <= rate < 1e7 for rate in rates)
