"""Learning curves of runs, as a picture and as numbers."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from atari_fast.errors import CheckpointError
from atari_fast.infra.files import replace_file
from atari_fast.infra.logging import read_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_UPDATE = "ls/accepted"
_METRICS = ("train/return_mean_100", "eval/mean", "eval/median", "eval/min", "eval/max", _UPDATE)


class Curve(NamedTuple):
    """What a run's metrics say of its scores, oldest first."""

    name: str
    """What the run is called in the picture."""
    rows: list[dict[str, Any]]
    """Lines of metrics that hold at least one score."""

    def points(self, axis: str, metric: str) -> tuple[list[float], list[float]]:
        """(x, y) of the lines that hold the metric; x is `frames` in millions or `minutes`."""
        rows = [row for row in self.rows if row.get(metric) is not None]
        return [_position(row, axis) for row in rows], [row[metric] for row in rows]


def load_curve(run: Path, name: str) -> Curve:
    """Read the scores of a run directory, which the picture calls `name`.

    Raises:
        CheckpointError: it has no metrics, or no game has ended yet.
    """
    rows = [
        row for row in read_metrics(run) if any(row.get(metric) is not None for metric in _METRICS)
    ]
    if not rows:
        raise CheckpointError(f"{run}: expected scores in its metrics, but no game has ended yet")
    return Curve(name, rows)


def plot_curves(runs: Sequence[Path], out: Path) -> Path:
    """Draw learning curves against frames and against wall time; write PNG and CSV.

    Args:
        runs: run directories, one curve each, named by as much of their paths as tells them apart.
        out: the picture to write, ending in .png; a .csv of the same name stands beside it.

    Returns:
        The picture's path.

    Raises:
        CheckpointError: a run has nothing to draw, or `out` cannot be written.
    """
    names = distinct_names([run.resolve().parts for run in runs])
    curves = [load_curve(run, name) for run, name in zip(runs, names, strict=True)]
    if not curves:
        raise CheckpointError("plot: expected at least one run directory, got none")
    replace_file(out.with_suffix(".csv"), _table(curves).encode())
    replace_file(out, _picture(curves))
    return out


def distinct_names(paths: Sequence[Sequence[str]], reserved: Collection[str] = ()) -> list[str]:
    """The shortest end of each path that no other path has.

    Args:
        paths: the parts of each; one that comes again, or is `reserved`, gets a number.
        reserved: names that none gets.
    """
    names: list[str] = []
    for parts in map(tuple, paths):
        others = [tuple(other) for other in paths if tuple(other) != parts]
        length = 1
        while length < len(parts) and any(o[-length:] == parts[-length:] for o in others):
            length += 1
        # What is no text in a name of a file, which may be any bytes, is written as an escape.
        end = str(Path(*parts[-length:])).encode("utf-8", "backslashreplace").decode()
        name, number = end, 1
        while name in reserved or name in names:
            number += 1
            name = f"{end} ({number})"
        names.append(name)
    return names


def literal(name: str) -> str:
    """A name as matplotlib has to get it to show it as it is."""
    name = name.replace("$", r"\$")
    return f" {name}" if name.startswith("_") else name  # it hides labels that begin so


def draw_png(size: tuple[float, float], draw: Callable[[Figure], None], dpi: int = 150) -> bytes:
    """Draw a figure with matplotlib's defaults, whatever a user or a notebook has set there.

    Args:
        size: width and height in inches.
        draw: fills the figure.
        dpi: pixels per inch.

    Returns:
        The PNG.
    """
    with _own_matplotlib():
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure)
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=dpi)
    return picture.getvalue()


@contextlib.contextmanager
def _own_matplotlib() -> Iterator[None]:
    """Matplotlib with its defaults; afterwards the process's settings are as they were.

    MPLBACKEND, as the processes that a notebook starts inherit it, may name a backend that is not
    installed, which is an error at the import.
    """
    first = "matplotlib" not in sys.modules
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if first and backend:
        with contextlib.suppress(ValueError):  # that very error
            matplotlib.rcParams["backend"] = backend
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of letters that the font lacks
        matplotlib.rcdefaults()
        yield


def _picture(curves: Sequence[Curve]) -> bytes:
    """The PNG of all curves."""
    return draw_png((11, 4.5), lambda figure: _draw_curves(figure, curves))


def _draw_curves(figure: Figure, curves: Sequence[Curve]) -> None:
    left, right = figure.subplots(1, 2, sharey=True)
    for index, curve in enumerate(curves):
        for axes, axis in ((left, "frames"), (right, "minutes")):
            prefix = literal(f"{curve.name}: ") if len(curves) > 1 else ""
            _draw(axes, curve, axis, f"C{index % 10}", prefix)
    left.set_xlabel("emulator frames (millions)")
    right.set_xlabel("wall time (minutes)")
    left.set_ylabel("raw score of a game")
    for axes in (left, right):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.02)
    left.legend(frameon=False, fontsize="small")
    figure.suptitle(literal(curves[0].name) if len(curves) == 1 else f"{len(curves)} runs")


def _draw(axes: Axes, curve: Curve, axis: str, colour: str, prefix: str) -> None:
    x, y = curve.points(axis, "train/return_mean_100")
    axes.plot(x, y, color=colour, alpha=0.55, linewidth=1.5, label=f"{prefix}training, mean of 100")
    x, mean = curve.points(axis, "eval/mean")
    axes.plot(x, mean, "o-", color=colour, markersize=4, label=f"{prefix}evaluation, mean")
    low, high = curve.points(axis, "eval/min")[1], curve.points(axis, "eval/max")[1]
    if x and len(low) == len(high) == len(x):
        label = f"{prefix}evaluation, worst to best game"
        axes.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0, label=label)
    label = f"{prefix}least-squares update (dotted: refused)"
    for at, accepted in zip(*curve.points(axis, _UPDATE), strict=True):
        style = "-" if accepted else ":"
        axes.axvline(at, color=colour, linestyle=style, linewidth=0.8, alpha=0.6, label=label)
        label = "_"  # one entry in the legend


def _table(curves: Sequence[Curve]) -> str:
    """The numbers of all curves as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run", "frames", "minutes", *_METRICS])
    for curve in curves:
        for row in curve.rows:
            scores = ["" if row.get(metric) is None else row[metric] for metric in _METRICS]
            minutes = round(_position(row, "minutes"), 4)
            writer.writerow([curve.name, row["frames"], minutes, *scores])
    return text.getvalue()


def _position(row: dict[str, Any], axis: str) -> float:
    return float(row["frames"]) / 1e6 if axis == "frames" else float(row.get("seconds", 0)) / 60
