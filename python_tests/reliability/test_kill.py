"""A training that is killed anywhere goes on as if it had not been, from a whole checkpoint."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

from atari_fast.infra import checkpoint as ckpt
from atari_fast.infra.logging import read_metrics
from atari_fast.train import main
from commands import CATCH, PERIOD, one_sentence, outcome, train, training

BEFORE = [
    "before",
    "after_mkdir",
    "after_online.safetensors",
    "after_target.safetensors",
    "after_state.safetensors",
    "after_config.json",
    "after_state.json",
    "after_replay.bin",
    "after_manifest",
    "before_rename",
]
"""Places of a save before the checkpoint is there."""
AFTER = ["after_rename", "before_prune", "after_prune", "before_best", "after_best"]
FAST = ["after_mkdir", "after_replay.bin", "before_rename", "after_rename", "before_best"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The outcome of the run that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole")
    done = train(*CATCH, cwd=folder)
    assert done.returncode == 0, done.stderr
    return outcome(folder / "run")


def test_the_places_are_all_that_a_save_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed: list[str] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ckpt, "fail_point", passed.append)
    assert main(CATCH) == 0
    assert passed[: len(BEFORE + AFTER)] == [f"checkpoint.{name}" for name in BEFORE + AFTER]
    assert set(passed) == {f"checkpoint.{name}" for name in BEFORE + AFTER}


@pytest.mark.parametrize(
    ("place", "count"),
    [
        pytest.param(place, count, marks=[] if place in FAST and count == 3 else pytest.mark.slow)
        for place in BEFORE + AFTER
        for count in (1, 2, 3)
    ],
)
def test_a_run_killed_within_a_checkpoint_goes_on_bit_for_bit(
    tmp_path: Path, whole: dict[str, Any], place: str, count: int
) -> None:
    failpoint = f"checkpoint.{place}:kill:{count}"
    assert train(*CATCH, cwd=tmp_path, failpoint=failpoint).returncode == -signal.SIGKILL
    saved = count - (place in BEFORE)
    if saved == 0:
        one_sentence(train("--resume", "run", cwd=tmp_path), 4, "at least one checkpoint")
        return
    assert newest(tmp_path).frames == saved * PERIOD
    done = train("--resume", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert outcome(tmp_path / "run") == whole
    assert not list((tmp_path / "run" / "checkpoints").glob(".tmp-*"))


def test_a_run_killed_before_its_pictures_makes_only_them(
    tmp_path: Path, whole: dict[str, Any]
) -> None:
    last = "checkpoint.after_prune:kill:4"
    killed = train(*CATCH, "--run.finish", cwd=tmp_path, failpoint=last)
    assert killed.returncode == -signal.SIGKILL
    checkpoints = ckpt.list_checkpoints(tmp_path / "run" / "checkpoints")
    curves = tmp_path / "run" / "plots" / "curves.png"
    for _ in range(2):
        done = train("--resume", "run", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert outcome(tmp_path / "run") == whole
        assert ckpt.list_checkpoints(tmp_path / "run" / "checkpoints") == checkpoints
        one_sentence(train("--resume", "run", cwd=tmp_path), 1, "has played its 2800 frames")
        os.utime(curves, (0, 0))  # as if they were those of an earlier, shorter run


def test_a_run_killed_before_its_last_checkpoint_was_marked_as_the_best_marks_it(
    tmp_path: Path,
) -> None:
    arguments = [*CATCH, "--total-frames", str(3 * PERIOD)]
    assert train(*arguments, "--run.dir", "whole", cwd=tmp_path).returncode == 0
    killed = train(*arguments, cwd=tmp_path, failpoint="checkpoint.before_best:kill:3")
    assert killed.returncode == -signal.SIGKILL
    assert train("--resume", "run", cwd=tmp_path).returncode == 0
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")
    one_sentence(train("--resume", "run", cwd=tmp_path), 1, "has played its 2400 frames")


@pytest.mark.slow
def test_a_run_killed_again_and_again_goes_on_bit_for_bit(
    tmp_path: Path, whole: dict[str, Any]
) -> None:
    """100 kills at random times, each within the time that a whole run takes on this machine."""
    (tmp_path / "timed").mkdir()
    began = time.monotonic()
    assert train(*CATCH, cwd=tmp_path / "timed").returncode == 0
    life = time.monotonic() - began
    rng = random.Random(0)
    kills = resumed = 0
    for number in itertools.count():
        if kills >= 100:
            break
        folder = tmp_path / str(number)
        folder.mkdir()
        arguments = CATCH
        while True:
            with training(*arguments, cwd=folder) as process:
                process.join(rng.uniform(0.0, life))
                process.kill()
            if process.exitcode != -signal.SIGKILL:
                break
            kills += 1
            if list((folder / "run" / "checkpoints").glob("ckpt-*")):
                resumed += 1
                played = read_metrics(folder / "run")[-1]["frames"]
                assert newest(folder).frames >= played - PERIOD
                arguments = ["--resume", "run"]
            else:
                shutil.rmtree(folder / "run", ignore_errors=True)
        problem = (folder / "stderr").read_text()
        assert process.exitcode == 0 or "has played its 2800 frames" in problem, problem
        assert outcome(folder / "run") == whole
    assert resumed > 10, "the runs were killed before their first checkpoints"


def newest(folder: Path) -> ckpt.Checkpoint:
    """What --resume takes up, of which it is checked that it is no older one than there is."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = ckpt.latest_checkpoint(folder / "run" / "checkpoints", holding="replay.bin")
    return ckpt.read_checkpoint(path)
