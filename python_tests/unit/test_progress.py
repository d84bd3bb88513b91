from __future__ import annotations

import io
import math
import re
import time

import pytest

from atari_fast.infra import progress
from atari_fast.infra.progress import Progress, layout


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)


class Terminal(io.StringIO):
    """What is written to a terminal of 100 columns."""

    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "30")


def test_progress_prints_a_line_now_and_then(monkeypatch):
    clock, out = Clock(monkeypatch), io.StringIO()
    with Progress(10_000, out=out) as bar:
        for step in range(1, 26):
            clock.now += 1.0
            bar.update(step * 100, step, -20.5, epsilon=0.75, loss=0.0123, updates=step)
        bar.note("evaluation: 3.0 [x]")
    lines = out.getvalue().splitlines()
    assert len(lines) == 4
    assert lines[0] == (
        "frames 1,000/10,000 (10.0%)  frames/s 100  episodes 10  return -20.5  epsilon 0.750  "
        "loss 0.0123  updates 10  elapsed 0:00:10  ETA 0:01:30"
    )
    assert lines[1].startswith("frames 2,000/10,000")
    assert lines[2] == "evaluation: 3.0 [x]"
    assert lines[3].startswith("frames 2,500/10,000 (25.0%)")


def test_progress_on_a_terminal_is_live(monkeypatch):
    clock, out = Clock(monkeypatch), Terminal()
    with Progress(10_000, title="runs/[pong]", out=out) as bar:
        for step in range(1, 4):
            clock.now += 1.0
            bar.update(step * 1000, step, 12.5, 0.5, 0.25)
        bar.note("checkpoint [ckpt]")
    text = out.getvalue()
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


@pytest.mark.parametrize("columns", [30, 50, 70, 100])
def test_progress_on_a_narrow_terminal_cuts_no_label(monkeypatch, columns):
    clock, out = Clock(monkeypatch), Terminal()
    monkeypatch.setenv("COLUMNS", str(columns))
    with Progress(2_000_000, title="runs/" + "x" * columns, out=out) as bar:
        clock.now += 1.0
        bar.update(1_000_000, 1234, -20.5, 0.1, 0.0123, 250_000)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue())
    assert "\u2026" not in text
    for part in (
        *("frames", "frames/s", "episodes", "return", "epsilon", "loss", "updates", "elapsed"),
        *("ETA", "1,000,000/2,000,000", "(50.0%)", "-20.5", "0.0123", "250,000", "1,234"),
    ):
        assert part in text, part
    assert max(len(line.rstrip()) for line in re.split(r"[\r\n]", text)) <= columns


def test_layout_keeps_every_text_at_any_width():
    cells = [(f"name{n}", "9" * (30 if n == 0 else n)) for n in range(10)]
    for count in range(1, 11):
        texts = [text for cell in cells[:count] for text in cell]
        for width in range(1, 130):
            rows = layout(cells[:count], width)
            assert [text.strip() for row in rows for text in row] == texts
            assert len(rows) == count or max(len("".join(row)) for row in rows) <= width


def test_progress_gives_the_terminal_back_after_an_exception():
    out = Terminal()
    with pytest.raises(KeyboardInterrupt), Progress(100, out=out):
        raise KeyboardInterrupt
    assert out.getvalue().endswith("\x1b[?25h")


def test_progress_without_numbers_yet_shows_dashes(monkeypatch):
    clock, out = Clock(monkeypatch), io.StringIO()
    with Progress(0, out=out) as bar:
        bar.update(0, 0)
        clock.now += 10
        bar.update(0, 0, math.nan, math.nan, math.inf)
    assert "return -  epsilon -  loss -" in out.getvalue()
    assert out.getvalue().endswith("ETA -\n")


def test_progress_rate_is_of_the_last_seconds_and_counts_from_the_first_frame(monkeypatch):
    clock = Clock(monkeypatch)
    with Progress(10**6, first_frame=5000, out=io.StringIO()) as bar:
        clock.now += 10
        bar.update(5000 + 1000, 0)
        assert bar.frames_per_second == pytest.approx(100)
        for step in range(4):
            clock.now += 10
            bar.update(6000 + 10_000 * (step + 1), 0)
        assert bar.frames_per_second == pytest.approx(1000)


def test_progress_ignores_the_wall_clock(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: pytest.fail("the wall clock was read"))
    with Progress(100, out=io.StringIO()) as bar:
        bar.update(50, 1)
    assert math.isfinite(bar.frames_per_second)


def test_progress_writes_nothing_before_it_is_due(monkeypatch):
    clock, out = Clock(monkeypatch), io.StringIO()
    with Progress(10**9, out=out) as bar:
        for frames in range(10_000):
            clock.now += 1e-5
            bar.update(frames, 0, 1.0, 0.1, 0.1, frames)
        assert out.getvalue() == ""
