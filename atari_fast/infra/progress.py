"""Progress of a training: a live display on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING, NamedTuple, TextIO, cast

from atari_fast.infra.console import lossy

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

_REFRESH_SECONDS = 0.5
_LINE_SECONDS = 10.0
_RATE_SECONDS = 15.0


class _State(NamedTuple):
    frames: int = 0
    episodes: int = 0
    mean_return: float = math.nan
    epsilon: float = math.nan
    loss: float = math.nan
    updates: int = 0


class Progress:
    """Shows how far a training is. Cheap enough to be updated at every step; not thread-safe.

    Only a monotonic clock is read, so rates survive a change of the system's time. No failure to
    show something is raised: a terminal that is gone, or whatever `rich` meets, ends the live
    display, and lines are tried from then on.
    """

    def __init__(
        self, total_frames: int, *, first_frame: int = 0, title: str = "", out: TextIO | None = None
    ) -> None:
        """Start the display.

        Args:
            total_frames: emulator frames at which the training ends.
            first_frame: frames that were played before this process began.
            title: name of the run, shown above the display.
            out: where to write; default: standard output.
        """
        self._out = lossy(out or sys.stdout)
        self._total = total_frames
        self._title = title
        self._state = _State(frames=first_frame)
        self._activity = ""
        self._start = self._shown = time.monotonic()
        self._marks: deque[tuple[float, int]] = deque([(self._start, first_frame)])
        self._open = True
        self._live: Live | None = None
        self._streams = sys.stdout, sys.stderr
        if self._out.isatty():
            with self._live_or_lines():
                self._open_live()

    def update(
        self,
        frames: int,
        episodes: int,
        mean_return: float = math.nan,
        epsilon: float = math.nan,
        loss: float = math.nan,
        updates: int = 0,
    ) -> None:
        """Take the newest numbers; show them when it is time.

        Args:
            frames: emulator frames so far.
            episodes: full games so far.
            mean_return: mean raw return of the last 100 games; NaN before the first one.
            epsilon: probability of a random action; NaN where there is none.
            loss: loss of the last update; NaN before the first one.
            updates: updates of the network so far.
        """
        self._state = _State(frames, episodes, mean_return, epsilon, loss, updates)
        self._activity = ""
        self._show_when_due()

    def busy(self, text: str) -> None:
        """Say what is being done until the next update; shown when it is time."""
        self._activity = text
        self._show_when_due()

    def note(self, text: str) -> None:
        """Print a line that stays: an evaluation, a checkpoint."""
        if self._live is not None:
            with self._live_or_lines():
                from rich.text import Text

                self._live.console.print(Text(text), soft_wrap=True)
                return
        self._out.line(text)

    def close(self) -> None:
        """Show the last state and give the terminal back; a second call does nothing."""
        if not self._open:
            return
        self._open = False
        if self._state.frames > self._marks[-1][1]:
            self._show(time.monotonic())
        if self._live is not None:
            with self._live_or_lines():
                self._live.stop()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def frames_per_second(self) -> float:
        """Emulator frames a second over about the last 15 seconds."""
        (first_time, first), (last_time, last) = self._marks[0], self._marks[-1]
        return (last - first) / (last_time - first_time) if last_time > first_time else 0.0

    def _open_live(self) -> None:
        """Begin the live display; a terminal that cannot move its cursor gets lines."""
        from rich.console import Console
        from rich.live import Live

        # Forced: where FORCE_COLOR is set, rich takes files for terminals and the reverse.
        console = Console(file=cast(IO[str], self._out), force_terminal=True, force_jupyter=False)
        if not console.is_dumb_terminal:
            self._live = Live(console=console, auto_refresh=False, transient=False)
            self._live.start()

    @contextlib.contextmanager
    def _live_or_lines(self) -> Iterator[None]:
        """Ends the live display for good where what is done in the block fails."""
        try:
            yield
        except Exception:  # whatever it is: it only shows
            self._end_live()

    def _end_live(self) -> None:
        live, self._live = self._live, None
        with contextlib.suppress(Exception):
            if live is not None:
                live.stop()
        sys.stdout, sys.stderr = self._streams  # which the live display had taken

    def _show_when_due(self) -> None:
        now = time.monotonic()
        if now - self._shown >= (_REFRESH_SECONDS if self._live else _LINE_SECONDS):
            self._show(now)

    def _show(self, now: float) -> None:
        self._shown = now
        self._marks.append((now, self._state.frames))
        while len(self._marks) > 2 and now - self._marks[1][0] > _RATE_SECONDS:
            self._marks.popleft()
        if self._live is not None and not self._out.isatty():  # its window was closed
            self._end_live()
        if self._live is None:
            self._out.line("  ".join(f"{name} {text}" for name, text in self._cells(now)))
            return
        with self._live_or_lines():
            self._live.update(self._display(now, self._live.console.width), refresh=True)

    def _cells(self, now: float) -> list[tuple[str, str]]:
        """(name, text) of everything that is shown."""
        state, rate = self._state, self.frames_per_second
        left = (self._total - state.frames) / rate if rate > 0 else math.inf
        share = state.frames / self._total if self._total > 0 else 1.0
        cells = [
            ("frames", f"{state.frames:,}/{self._total:,} ({share:.1%})"),
            ("frames/s", f"{rate:,.0f}"),
            ("episodes", f"{state.episodes:,}"),
            ("return", _number(state.mean_return, ",.1f")),
            ("epsilon", _number(state.epsilon, ".3f")),
            ("loss", _number(state.loss, ".4f")),
            ("updates", f"{state.updates:,}"),
            ("elapsed", _clock(now - self._start)),
            ("ETA", _clock(max(0.0, left))),
        ]
        return [*cells, ("now", self._activity)] if self._activity else cells

    def _display(self, now: float, width: int) -> Table:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        bar = ProgressBar(total=max(1, self._total), completed=self._state.frames)
        title = [Text(self._title, overflow="fold")] if self._title else []
        rows = [
            Text(overflow="fold").join(
                Text(text, style="bold" if place % 2 else "dim") for place, text in enumerate(row)
            )
            for row in layout(self._cells(now), width)
        ]
        display = Table.grid(expand=True)
        parts: list[Text | ProgressBar] = [*title, bar, *rows]
        for part in parts:
            display.add_row(part)
        return display


def layout(cells: Sequence[tuple[str, str]], width: int) -> list[list[str]]:
    """The texts of each row: three cells side by side, or as many as fit into `width` characters.

    Args:
        cells: (name, text) of each; the first one, which is long, has a row of its own if need be.
        width: characters of a line.

    Returns:
        For each row names and texts by turns, filled up with spaces so that columns stand in line.
    """
    for alone, count in ((0, 3), (1, 3), (0, 2), (1, 2), (0, 1)):
        ends = range(alone, len(cells) + count, count)
        rows = [
            [text for cell in cells[max(0, end - count) : end] for text in cell] for end in ends
        ]
        lines = _in_columns([row for row in rows if row])
        if max(len("".join(line)) for line in lines) <= width:
            break
    return lines


def _in_columns(rows: list[list[str]]) -> list[list[str]]:
    """The rows with all texts but their last filled up, so that columns stand in line."""
    widths: dict[int, int] = {}
    for row in rows:
        for place, text in enumerate(row[:-1]):
            widths[place] = max(widths.get(place, 0), len(text) + 2)
    return [
        [*(text.ljust(widths[place]) for place, text in enumerate(row[:-1])), row[-1]]
        for row in rows
    ]


def _number(value: float, spec: str) -> str:
    return format(value, spec) if math.isfinite(value) else "-"


def _clock(seconds: float) -> str:
    """Hours, minutes and seconds: 1:02:03."""
    if not math.isfinite(seconds):
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
