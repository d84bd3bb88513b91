"""What shows, logs or decorates fails at any of its calls: the run ends with 0 and unchanged."""

from __future__ import annotations

import copy
import errno
import io
import os
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atari_fast.infra import logging, progress
from atari_fast.runtime import finish
from atari_fast.train import main
from commands import outcome

RUN = [
    *("dqn-adam", "--run.dir", "run", "--threads", "1", "--env.num-envs", "16", "--seed", "5"),
    *("--replay.capacity", "640", "--replay.min-frames", "320", "--total-frames", "480"),
    *("--run.log-period", "160", "--run.eval-period", "240", "--run.eval-episodes", "4"),
    *("--run.checkpoint-period", "160", "--run.replay-period", "160"),
]
TOY = [*RUN, *("--game", "catch", "--net.torso", "mlp", "--net.hidden", "4", "--net.stack", "1")]
ATARI = [
    *(*RUN, "--game", "pong", "--net.channels", "2", "2", "2", "--net.hidden", "4"),
    *("--env.max-episode-frames", "80", "--run.eval-episodes", "1", "--env.num-envs", "4"),
]
SYSTEM = [
    OSError(errno.EIO, "Input/output error"),
    OSError(errno.ENOSPC, "No space left on device"),
    BrokenPipeError(errno.EPIPE, "Broken pipe"),
]
ERRORS = [
    *SYSTEM,
    ValueError("I/O operation on closed file"),
    AttributeError("'NoneType' object has no attribute 'write'"),
    UnicodeEncodeError("ascii", "\xfc", 0, 1, "ordinal not in range(128)"),
]


class Faults:
    """Counts the calls of functions that it stands before, and lets chosen ones fail."""

    def __init__(self, error: Exception, fails: Callable[[int], bool]) -> None:
        self.calls = 0
        self._error, self._fails = error, fails

    def before(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            if self._fails(self.calls):
                raise copy.copy(self._error)  # the same one would keep all that it passed
            return real(*arguments, **options)

        return call

    def on(self, patch: pytest.MonkeyPatch, owner: Any, *names: str) -> None:
        for name in names:
            patch.setattr(owner, name, self.before(getattr(owner, name)))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def output(patch: pytest.MonkeyPatch, faults: Faults) -> None:
    stream = io.StringIO()
    faults.on(patch, stream, "write", "flush", "isatty")
    patch.setattr(sys, "stdout", stream)


def terminal(patch: pytest.MonkeyPatch, faults: Faults) -> None:
    stream = Terminal()
    faults.on(patch, stream, "write", "flush", "isatty")
    patch.setattr(sys, "stdout", stream)


def errors(patch: pytest.MonkeyPatch, faults: Faults) -> None:
    """The warnings of lost metrics and of TensorBoard, printed as the warnings module does."""
    stream = io.StringIO()
    faults.on(patch, stream, "write")
    patch.setattr(sys, "stderr", stream)
    patch.setattr(warnings, "showwarning", lambda message, *_: sys.stderr.write(f"{message}\n"))
    metrics(patch, Faults(SYSTEM[0], lambda _: True))
    tensorboard(patch, Faults(SYSTEM[0], lambda _: True))


def rich(patch: pytest.MonkeyPatch, faults: Faults) -> None:
    from rich.console import Console
    from rich.live import Live

    patch.setattr(sys, "stdout", Terminal())
    faults.on(patch, Live, "__init__", "start", "update", "stop")
    faults.on(patch, Console, "__init__", "print")


def tensorboard(patch: pytest.MonkeyPatch, faults: Faults) -> None:
    from tensorboard.summary.writer.record_writer import RecordWriter

    faults.on(patch, RecordWriter, "__init__", "write", "flush", "close")


def matplotlib(patch: pytest.MonkeyPatch, faults: Faults) -> None:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    faults.on(patch, Figure, "__init__", "subplots", "suptitle", "savefig")
    faults.on(patch, Axes, "plot", "legend")


def metrics(patch: pytest.MonkeyPatch, faults: Faults) -> None:
    """The calls after the file was opened: a run without one is refused before it plays."""
    system = type("System", (), {name: getattr(os, name) for name in dir(os)})
    opened = logging.RunLogger.__init__

    def open_then_fail(self: Any, *arguments: Any, **options: Any) -> None:
        opened(self, *arguments, **options)
        for name in ("write", "fstat", "ftruncate"):
            patch.setattr(system, name, staticmethod(faults.before(getattr(os, name))))
        patch.setattr(system, "close", staticmethod(lambda file: (os.close(file), end())))

    end = faults.before(lambda: None)
    patch.setattr(logging, "os", system)
    patch.setattr(logging.RunLogger, "__init__", open_then_fail)


def opencv(patch: pytest.MonkeyPatch, faults: Faults) -> None:
    import cv2

    def failing(real: Any) -> Any:
        class Failing:
            fourcc = staticmethod(faults.before(getattr(real, "fourcc", int)))

            def __init__(self, *arguments: Any) -> None:
                self._real = faults.before(real)(*arguments)

            def __getattr__(self, name: str) -> Any:
                return faults.before(getattr(self._real, name))

        return Failing

    patch.setattr(cv2, "VideoWriter", failing(cv2.VideoWriter))
    patch.setattr(cv2, "VideoCapture", failing(cv2.VideoCapture))


Sink = Callable[[pytest.MonkeyPatch, Faults], None]


def run_with(
    arguments: list[str], folder: Path, sink: Sink, error: Exception, fails: Callable[[int], bool]
) -> int:
    """Trains in `folder` with a sink that fails; returns how often the sink was called."""
    faults = Faults(error, fails)
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("always" if sink is errors else "ignore")
        patch.chdir(folder)
        patch.setattr(progress, "_LINE_SECONDS", 0.0)
        patch.setattr(progress, "_REFRESH_SECONDS", 0.0)
        patch.setattr(finish, "_VIDEO_SECONDS", 0.1)
        patch.setenv("TERM", "xterm")
        streams = sys.stdout, sys.stderr
        sink(patch, faults)
        installed = sys.stdout, sys.stderr
        assert main(arguments) == 0
        assert (sys.stdout, sys.stderr) == installed, "the display keeps a stream"
    assert (sys.stdout, sys.stderr) == streams
    return faults.calls


def what_was_learned(folder: Path) -> dict[str, Any]:
    """All of the last checkpoint: networks, replay, states, the best one's mark."""
    return {**outcome(folder / "run"), "metrics": None}


def once_or_from(first: int) -> Callable[[int], bool]:
    """By turns: that call alone fails, or all from there on."""
    return (lambda n: n >= first) if first % 2 else (lambda n: n == first)


@pytest.mark.parametrize(
    ("sink", "raised"),
    [
        (output, ERRORS),
        (errors, ERRORS),
        (terminal, ERRORS),
        (rich, ERRORS),
        (tensorboard, ERRORS),
        (metrics, SYSTEM),
        (matplotlib, ERRORS),
    ],
)
def test_a_sink_that_fails_at_any_call_costs_nothing(
    tmp_path: Path, sink: Sink, raised: list[Exception]
) -> None:
    arguments = TOY if sink is matplotlib else [*TOY, "--run.no-finish"]
    calls = run_with(arguments, tmp_path / "whole", sink, raised[0], lambda _: False)
    assert calls >= (2 if sink is errors else 8)
    whole = what_was_learned(tmp_path / "whole")
    for first in range(1, calls + 1):
        error, folder = raised[first % len(raised)], tmp_path / f"{first}"
        run_with(arguments, folder, sink, error, once_or_from(first))
        assert what_was_learned(folder) == whole, f"call {first} raised {error!r}"


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a real game that owes its pictures."""
    folder = tmp_path_factory.mktemp("played")
    run_with([*ATARI, "--run.no-finish"], folder, output, SYSTEM[0], lambda _: False)
    return folder


def test_a_video_that_fails_at_any_call_costs_nothing_else(
    played: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cv2

    monkeypatch.setattr(finish, "_draw_curve", lambda _: None)
    raised = [*ERRORS, cv2.error("not enough memory")]
    whole = what_was_learned(played)
    arguments = ["--resume", "run", "--run.finish"]
    folder = shutil.copytree(played, tmp_path / "whole")
    calls = run_with(arguments, folder, opencv, raised[0], lambda _: False)
    assert calls >= 12
    assert (folder / "run" / "videos" / "best.webm").exists()
    for first in range(1, calls + 1):
        folder = shutil.copytree(played, tmp_path / f"{first}")
        error = raised[first % len(raised)]
        run_with(arguments, folder, opencv, error, once_or_from(first))
        assert what_was_learned(folder) == whole
        assert not list((folder / "run" / "videos").iterdir()) or first == calls


def test_a_whole_run_of_a_game_without_opencv_learns_the_same(played: Path, tmp_path: Path) -> None:
    run_with(ATARI, tmp_path, opencv, ImportError("libGL.so.1"), lambda _: True)
    assert what_was_learned(tmp_path)["files"] == what_was_learned(played)["files"]


@pytest.mark.parametrize(
    "module",
    [
        "rich.console",
        "rich.live",
        "rich.text",
        "matplotlib.figure",
        "tensorboard.compat.proto.event_pb2",
    ],
)
def test_a_package_that_only_shows_may_be_missing(tmp_path: Path, module: str) -> None:
    def missing(patch: pytest.MonkeyPatch, _: Faults) -> None:
        patch.setattr(sys, "stdout", Terminal())
        patch.setitem(sys.modules, module, None)

    run_with(TOY, tmp_path, missing, SYSTEM[0], lambda _: False)
    assert what_was_learned(tmp_path)["frames"] == 512
