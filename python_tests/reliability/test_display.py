"""Nobody reads, the terminal is gone, the disk is full, a package is broken: the run goes on."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from atari_fast import evaluate, record
from atari_fast.errors import CheckpointError, ConfigError
from atari_fast.runtime import evaluation, finish
from atari_fast.train import main
from commands import CATCH, Streams, command, one_sentence, outcome, train, training

ZOO = Path(__file__).parents[2] / "zoo" / "pong-dqn.safetensors"
FINISHED = [*CATCH, "--run.finish"]
LONG = [*CATCH, "--total-frames", "4000000"]
"""Has to be ended."""
PONG = [
    *("dqn-adam", "--game", "pong", "--run.dir", "run", "--threads", "1", "--env.num-envs", "4"),
    *("--replay.capacity", "400", "--replay.min-frames", "320", "--total-frames", "480"),
    *("--net.channels", "2", "2", "2", "--net.hidden", "4", "--run.eval-period", "0"),
    *("--run.checkpoint-period", "480", "--run.replay-period", "480"),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The outcome of the run whose output all went into files."""
    folder = tmp_path_factory.mktemp("whole")
    done = train(*FINISHED, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    return outcome(folder / "run")


@pytest.mark.parametrize(
    "streams",
    [
        {1: "/dev/full"},
        {1: "/dev/full", 2: "/dev/full"},
        {0: None},
        {1: None},
        {2: None},
        {0: None, 1: None, 2: None},
    ],
    ids=str,
)
def test_a_training_needs_none_of_the_standard_streams(
    tmp_path: Path, whole: dict[str, Any], streams: Streams
) -> None:
    done = train(*FINISHED, cwd=tmp_path, streams=streams)
    assert (done.returncode, done.stderr) == (0, "")
    assert outcome(tmp_path / "run") == whole
    assert (tmp_path / "run" / "plots" / "curves.png").exists()


@contextlib.contextmanager
def process(folder: Path, *arguments: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A training as a user starts it."""
    command = [sys.executable, "-m", "atari_fast.train", *arguments]
    with subprocess.Popen(command, cwd=folder, **options) as started:
        try:
            yield started
        finally:
            started.kill()


def wait_for(condition: Callable[[], object], started: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 100
    while not condition():
        assert started.poll() is None, "the training has ended"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_training_without_any_stream_from_the_start_on_ends_with_0(tmp_path: Path) -> None:
    line = f'exec "{sys.executable}" -m atari_fast.train {" ".join(FINISHED)} <&- >&- 2>&-'
    assert subprocess.run(["bash", "-c", line], cwd=tmp_path, timeout=120).returncode == 0
    assert outcome(tmp_path / "run")["frames"] == 2800


def test_a_reader_that_leaves_after_a_line_costs_nothing(
    tmp_path: Path, whole: dict[str, Any]
) -> None:
    with process(tmp_path, *FINISHED, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as started:
        assert started.stdout is not None
        assert started.stderr is not None
        assert started.stdout.readline()
        started.stdout.close()
        assert started.stderr.read() == b""
        assert started.wait(100) == 0
    assert outcome(tmp_path / "run") == whole


def test_an_interrupt_that_ends_the_reader_too_saves_and_ends_with_130(tmp_path: Path) -> None:
    with process(tmp_path, *LONG, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as started:
        assert started.stdout is not None
        assert started.stderr is not None
        wait_for((tmp_path / "run" / "checkpoints" / "best.json").exists, started)
        started.stdout.close()  # as tee, which the same Ctrl-C ends
        started.send_signal(signal.SIGINT)
        assert started.stderr.read() == b""
        assert started.wait(100) == 130
    assert outcome(tmp_path / "run")["frames"] > 800


def test_a_closed_terminal_costs_nothing(tmp_path: Path, whole: dict[str, Any]) -> None:
    ours, theirs = pty.openpty()
    with process(
        tmp_path, *FINISHED, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as started:
        os.close(theirs)
        assert b"\x1b[?25l" in os.read(ours, 1000)  # the display hides the cursor
        os.close(ours)
        assert started.wait(100) == 0
    assert outcome(tmp_path / "run") == whole


def test_a_backend_that_a_notebook_left_in_the_environment_is_not_used(tmp_path: Path) -> None:
    environment = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    done = train(*FINISHED, cwd=tmp_path, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "run" / "plots" / "curves.png").exists()


def test_colours_that_are_forced_do_not_move_the_cursor_of_a_file(tmp_path: Path) -> None:
    environment = {"FORCE_COLOR": "1", "TTY_COMPATIBLE": "1", "TERM": "xterm"}
    done = train(*FINISHED, cwd=tmp_path, **environment)
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert "evaluation at 800 frames" in done.stdout


def test_opencv_that_cannot_be_imported_costs_a_warning_and_record_says_a_sentence(
    tmp_path: Path,
) -> None:
    broken = 'raise ImportError("libGL.so.1: cannot open shared object file")\n'
    (tmp_path / "cv2.py").write_text(broken)
    done = command("train", *PONG, "--env.max-episode-frames", "80", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("warning: the run is saved, but has no video: ")
    assert "libGL.so.1" in line
    words = ("libGL.so.1", "opencv-python-headless")
    one_sentence(command("record", "run", cwd=tmp_path), 2, *words)


@pytest.mark.parametrize("name", ["m[/b]", "r[bold]x", "a:smile:b $x_$ \xfc"])
def test_names_are_shown_as_they_are(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*FINISHED, "--run.dir", name]) == 0
    assert f"saved {name}\n" in capsys.readouterr().out
    assert evaluate.main([name, "--episodes", "2"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{name}/checkpoints/ckpt-")
    summary = json.loads((tmp_path / name / "evaluation-best.json").read_text())
    assert summary["episodes"] == 2


def test_letters_that_the_output_lacks_are_escaped(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment}
    with process(tmp_path, *FINISHED, "--run.dir", "r\xfcn", **options) as started:
        out, err = started.communicate(timeout=100)
    assert (started.returncode, err) == (0, b"")
    assert rb"saved r\xfcn" in out


@pytest.fixture(scope="module")
def owing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that owes its pictures."""
    folder = tmp_path_factory.mktemp("owing")
    assert train(*PONG, "--run.no-finish", cwd=folder).returncode == 0
    return folder


def test_a_signal_while_the_last_video_is_made_cleans_up_and_ends_with_130(
    owing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(owing, tmp_path / "folder")
    videos = folder / "run" / "videos"
    with training("--resume", "run", "--run.finish", cwd=folder) as started:
        deadline = time.monotonic() + 100
        while not list(videos.glob(".tmp-*")):
            assert started.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert started.pid is not None
        os.kill(started.pid, signal.SIGTERM)
    assert started.exitcode == 130
    assert (folder / "stderr").read_text().endswith("interrupted\n")
    assert list(videos.iterdir()) == []

    for name in (".tmp-killed.webm", ".tmp-killed.mp4", ".tmp-written.webm"):
        (videos / name).touch()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(finish, "_VIDEO_SECONDS", 0.1)
    with (videos / ".tmp-written.webm").open() as written:
        fcntl.flock(written, fcntl.LOCK_EX)
        with pytest.warns(RuntimeWarning, match="no game has ended yet"):
            assert main(["--resume", "run", "--run.finish"]) == 0
    assert sorted(path.name for path in videos.iterdir()) == [".tmp-written.webm", "best.webm"]


def test_an_interrupt_that_became_another_error_still_ends_the_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a signal comes in the middle of the import of matplotlib."""

    def interrupted(_: Path) -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as signal:
            raise ImportError("numpy failed to import") from signal

    monkeypatch.setattr(finish, "_draw_curve", interrupted)
    with pytest.raises(KeyboardInterrupt):
        finish.finish(tmp_path, torch.device("cpu"))


def test_record_writes_the_file_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    short = [str(ZOO), "--max-seconds", "0.2"]
    assert record.main([*short, "--out", "game.mp4"]) == 0
    assert (tmp_path / "game.mp4").is_file()
    assert capsys.readouterr().out == "game.mp4: score 0 so far (cut)\n"
    (tmp_path / "folder.webm").mkdir()
    for folder in ("folder.webm", "new/folder"):
        assert record.main([*short, "--out", folder, "--episodes", "2"]) == 0
        assert len(list((tmp_path / folder).glob("pong-*-seed200[12].webm"))) == 2
    with pytest.raises(ConfigError, match=r"one file holds one game, got game\.mp4 and --episodes"):
        record.main([*short, "--out", "game.mp4", "--episodes", "2"])
    with pytest.raises(ConfigError, match=r"expected NAME\.webm, NAME\.mp4 or a directory"):
        record.main([*short, "--out", "game.avi"])


@pytest.fixture
def unplayed(monkeypatch: pytest.MonkeyPatch) -> None:
    def play(*_: object, **__: object) -> None:
        pytest.fail("games were played")

    monkeypatch.setattr(evaluation, "evaluate", play)


@pytest.mark.usefixtures("unplayed")
def test_evaluate_looks_where_its_results_go_before_it_plays(tmp_path: Path) -> None:
    for option in ("--out", "--export"):
        (tmp_path / "file").touch()
        with pytest.raises(CheckpointError, match=r"file/x\.json: cannot be written: .* is no dir"):
            evaluate.main([str(ZOO), option, str(tmp_path / "file" / "x.json")])
        with pytest.raises(CheckpointError, match="cannot be written: it is a directory"):
            evaluate.main([str(ZOO), option, str(tmp_path)])
    with pytest.raises(CheckpointError, match=r"no/such/x\.json: cannot be written"):
        evaluate.main([str(ZOO), "--out", str(tmp_path / "no" / "such" / "x.json")])


@pytest.mark.usefixtures("unplayed")
@pytest.mark.parametrize("command", [evaluate.main, record.main])
def test_a_seed_that_is_too_large_is_refused(command: Callable[[list[str]], int]) -> None:
    for seed in (2**64, 2**63, -1):
        with pytest.raises(ConfigError, match=rf"^seed: expected a number .*, got {seed}$"):
            command([str(ZOO), "--seed", str(seed)])


def test_large_scores_are_shown_as_whole_numbers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = (17_700.0, 17_725.0)
    result = evaluation.Evaluation(
        "pong", "deepmind", "minimal", 108_000, 0.01, 1001, 1_234_568, 0, scores, {}
    )
    monkeypatch.setattr(evaluation, "evaluate", lambda *_, **__: result)
    assert evaluate.main([str(ZOO)]) == 0
    shown = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()[1:])
    assert shown["mean"] == "17,712"
    assert shown["max"] == "17,725"
    assert shown["frames"] == "1,234,568"
    assert shown["seed"] == "1001"
    assert shown["epsilon"] == "0.01"
