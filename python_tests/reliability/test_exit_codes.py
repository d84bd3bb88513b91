"""Every exit code by a real command, and every bad --resume in one sentence."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from atari_fast.infra.checkpoint import list_checkpoints
from commands import CATCH, command, one_sentence, train


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds `run`, finished; `half`, without its end; `bare`, without a replay; `file`."""
    folder = tmp_path_factory.mktemp("codes")
    assert train(*CATCH, cwd=folder).returncode == 0
    half = shutil.copytree(folder / "run", folder / "half") / "checkpoints"
    shutil.rmtree(list_checkpoints(half)[-1])
    options = ("--run.dir", "bare", "--run.replay-period", "0")
    assert train(*CATCH, *options, cwd=folder).returncode == 0
    (folder / "file").touch()
    return folder


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([*CATCH, "--optim.batch-size", "0"], 1, ["optim.batch_size"]),
        ([*CATCH, "--game", "no_such_game"], 2, ["no_such_game"]),
        ([*CATCH, "--run.dir", "numeric", "--optim.lr", "1e38"], 3, ["not finite"]),
        ([*CATCH, "--run.dir", "file/run"], 4, ["file/run"]),
        (["--resume"], 1, ["--resume: expected a run directory, got nothing"]),
        (["--resume="], 1, ["--resume: expected a run directory, got nothing"]),
        (["--resume", ""], 1, ["--resume: expected a run directory, got nothing"]),
        (["--resume", "run", "--resume", "half"], 1, ["expected one run directory"]),
        (["--resume", "nowhere"], 4, ["nowhere", "no checkpoints here"]),
        (["--resume", "file"], 4, ["file", "no checkpoints here"]),
        (["--resume", "bare"], 4, ["bare", "with replay.bin", "found none"]),
        (["--resume", "run"], 1, ["run has played its 2800 frames", "--total-frames"]),
        (["--resume", "half", "--seed", "6"], 1, ["seed", "keeps 129, got 6"]),
        (["--resume", "half", "--env.num-envs", "2"], 1, ["env.num_envs", "keeps 4, got 2"]),
        (["--resume", "half", "--game", "pong"], 1, ["game", "keeps catch, got pong"]),
        (["--resume", "half", "--no-such", "1"], 1, ["--no-such"]),
        (["--resume", "half", "pong"], 1, ["pong"]),
    ],
)
def test_train_ends_with_its_code_and_one_sentence(
    folder: Path, arguments: list[str], code: int, words: list[str]
) -> None:
    one_sentence(train(*arguments, cwd=folder), code, *words)


def test_a_real_command_ends_with_0(folder: Path, tmp_path: Path) -> None:
    """As users start it; 5 and 130 are in test_runtime, which kills a worker and sends signals."""
    shutil.copytree(folder / "half", tmp_path / "half")
    done = command("train", "--resume", "half", "--run.finish", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "half" / "plots" / "curves.png").exists()


@pytest.mark.parametrize("action", ["stop", "fulll", "kill:", "full:0", "kill:x", ""])
def test_a_fail_point_that_nobody_knows_is_an_error(tmp_path: Path, action: str) -> None:
    failpoint = f"checkpoint.before:{action}"
    words = ("AF_FAILPOINT", failpoint, "NAME:kill or NAME:full")
    one_sentence(train(*CATCH, cwd=tmp_path, failpoint=failpoint), 1, *words)
