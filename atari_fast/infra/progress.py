"""Progress of a training: a live display on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

_REFRESH_SECONDS = 0.5
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

    Only a monotonic clock is read, so rates survive a change of the system's time.
    """

    def __init__(
        self,
        total_frames: int,
        *,
        first_frame: int = 0,
        title: str = "",
        line_period: float = 10.0,
        console: Console | None = None,
    ) -> None:
        """Start the display.

        Args:
            total_frames: emulator frames at which the training ends.
            first_frame: frames that were played before this process began.
            title: name of the run, shown above the display.
            line_period: seconds between lines where there is no terminal.
            console: where to write; default: standard output.
        """
        from rich.console import Console

        self._console = console or Console(file=sys.stdout)
        self._total = total_frames
        self._title = title
        self._line_period = line_period
        self._state = _State(frames=first_frame)
        self._activity = ""
        self._start = self._shown = time.monotonic()
        self._marks: deque[tuple[float, int]] = deque([(self._start, first_frame)])
        self._open = True
        self._live: Live | None = None
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            from rich.live import Live

            self._live = Live(console=self._console, auto_refresh=False, transient=False)
            self._live.start()

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
            self._live.console.print(text, markup=False, highlight=False)
        else:
            self._write(text)

    def close(self) -> None:
        """Show the last state and give the terminal back; a second call does nothing."""
        if not self._open:
            return
        self._open = False
        if self._state.frames > self._marks[-1][1]:
            self._show(time.monotonic())
        if self._live is not None:
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

    def _show_when_due(self) -> None:
        now = time.monotonic()
        if now - self._shown >= (_REFRESH_SECONDS if self._live else self._line_period):
            self._show(now)

    def _show(self, now: float) -> None:
        self._shown = now
        self._marks.append((now, self._state.frames))
        while len(self._marks) > 2 and now - self._marks[1][0] > _RATE_SECONDS:
            self._marks.popleft()
        if self._live is not None:
            self._live.update(self._table(now), refresh=True)
        else:
            self._write("  ".join(f"{name} {text}" for name, text in self._cells(now)))

    def _cells(self, now: float) -> list[tuple[str, str]]:
        """(name, text) of everything that is shown."""
        state, rate = self._state, self.frames_per_second
        left = (self._total - state.frames) / rate if rate > 0 else math.inf
        share = state.frames / self._total if self._total > 0 else 1.0
        cells = [
            ("frames", f"{state.frames:,}/{self._total:,} ({share:.1%})"),
            ("frames/s", f"{rate:,.0f}"),
            ("episodes", f"{state.episodes:,}"),
            ("return", _number(state.mean_return, ".1f")),
            ("epsilon", _number(state.epsilon, ".3f")),
            ("loss", _number(state.loss, ".4f")),
            ("updates", f"{state.updates:,}"),
            ("elapsed", _clock(now - self._start)),
            ("ETA", _clock(max(0.0, left))),
        ]
        return [*cells, ("now", self._activity)] if self._activity else cells

    def _table(self, now: float) -> Table:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        numbers = Table.grid(padding=(0, 2))
        cells = self._cells(now)
        for row in range(0, len(cells), 3):
            texts: list[Text] = []
            for name, text in cells[row : row + 3]:
                texts += [Text(name, style="dim"), Text(text, style="bold")]
            numbers.add_row(*texts)
        bar = ProgressBar(total=max(1, self._total), completed=self._state.frames)
        display = Table.grid(expand=True)
        for part in (Text(self._title), bar, numbers) if self._title else (bar, numbers):
            display.add_row(part)
        return display

    def _write(self, text: str) -> None:
        self._console.file.write(text + "\n")
        self._console.file.flush()


def _number(value: float, spec: str) -> str:
    return format(value, spec) if math.isfinite(value) else "-"


def _clock(seconds: float) -> str:
    """Hours, minutes and seconds: 1:02:03."""
    if not math.isfinite(seconds):
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
