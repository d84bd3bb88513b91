from __future__ import annotations

import io
import math
import time

import pytest
from rich.console import Console

from atari_fast.infra import progress
from atari_fast.infra.progress import Progress


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)


def plain():
    return Console(file=io.StringIO(), force_terminal=False)


def terminal():
    return Console(file=io.StringIO(), force_terminal=True, width=100, height=30, _environ={})


def test_progress_prints_a_line_now_and_then(monkeypatch):
    clock, console = Clock(monkeypatch), plain()
    with Progress(10_000, console=console) as bar:
        for step in range(1, 26):
            clock.now += 1.0
            bar.update(step * 100, step, -20.5, epsilon=0.75, loss=0.0123, updates=step)
        bar.note("evaluation: 3.0 [x]")
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 4
    assert lines[0] == (
        "frames 1,000/10,000 (10.0%)  frames/s 100  episodes 10  return -20.5  epsilon 0.750  "
        "loss 0.0123  updates 10  elapsed 0:00:10  ETA 0:01:30"
    )
    assert lines[1].startswith("frames 2,000/10,000")
    assert lines[2] == "evaluation: 3.0 [x]"
    assert lines[3].startswith("frames 2,500/10,000 (25.0%)")


def test_progress_on_a_terminal_is_live(monkeypatch):
    clock, console = Clock(monkeypatch), terminal()
    with Progress(10_000, title="runs/[pong]", console=console) as bar:
        for step in range(1, 4):
            clock.now += 1.0
            bar.update(step * 1000, step, 12.5, 0.5, 0.25)
        bar.note("checkpoint [ckpt]")
    text = console.file.getvalue()
    for part in (
        "runs/[pong]",
        "3,000/10,000",
        "1,000",
        "12.5",
        "0.500",
        "0:00:07",
        "checkpoint [ckpt]",
    ):
        assert part in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1


def test_progress_gives_the_terminal_back_after_an_exception():
    console = terminal()
    with pytest.raises(KeyboardInterrupt), Progress(100, console=console):
        raise KeyboardInterrupt
    assert console.file.getvalue().endswith("\x1b[?25h")


def test_progress_without_numbers_yet_shows_dashes(monkeypatch):
    clock, console = Clock(monkeypatch), plain()
    with Progress(0, console=console, line_period=0.0) as bar:
        bar.update(0, 0)
        clock.now += 1
        bar.update(0, 0, math.nan, math.nan, math.inf)
    assert "return -  epsilon -  loss -" in console.file.getvalue()
    assert console.file.getvalue().endswith("ETA -\n")


def test_progress_rate_is_of_the_last_seconds_and_counts_from_the_first_frame(monkeypatch):
    clock = Clock(monkeypatch)
    with Progress(10**6, first_frame=5000, console=plain(), line_period=1.0) as bar:
        clock.now += 10
        bar.update(5000 + 1000, 0)
        assert bar.frames_per_second == pytest.approx(100)
        for step in range(30):
            clock.now += 1
            bar.update(6000 + 1000 * (step + 1), 0)
        assert bar.frames_per_second == pytest.approx(1000)


def test_progress_ignores_the_wall_clock(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: pytest.fail("the wall clock was read"))
    with Progress(100, console=plain(), line_period=0.0) as bar:
        bar.update(50, 1)
    assert math.isfinite(bar.frames_per_second)


def test_progress_update_is_cheap():
    with Progress(10**9, console=plain()) as bar:
        start = time.perf_counter()
        for frames in range(10_000):
            bar.update(frames, 0, 1.0, 0.1, 0.1, frames)
        assert time.perf_counter() - start < 1.0
