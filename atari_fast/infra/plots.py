"""Learning curves of runs, as a picture and as numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from atari_fast.errors import CheckpointError
from atari_fast.infra.files import replace_file
from atari_fast.infra.logging import read_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_UPDATE = "ls/accepted"
_METRICS = ("train/return_mean_100", "eval/mean", "eval/median", "eval/min", "eval/max", _UPDATE)


class Curve(NamedTuple):
    """What a run's metrics say of its scores, oldest first."""

    name: str
    """Name of the run directory."""
    rows: list[dict[str, Any]]
    """Lines of metrics that hold at least one score."""

    def points(self, axis: str, metric: str) -> tuple[list[float], list[float]]:
        """(x, y) of the lines that hold the metric; x is `frames` in millions or `minutes`."""
        rows = [row for row in self.rows if row.get(metric) is not None]
        return [_position(row, axis) for row in rows], [row[metric] for row in rows]


def load_curve(run: Path) -> Curve:
    """Read the scores of a run directory.

    Raises:
        CheckpointError: it has no metrics, or no game has ended yet.
    """
    rows = [
        row for row in read_metrics(run) if any(row.get(metric) is not None for metric in _METRICS)
    ]
    if not rows:
        raise CheckpointError(f"{run}: expected scores in its metrics, but no game has ended yet")
    return Curve(run.resolve().name, rows)


def plot_curves(runs: Sequence[Path], out: Path) -> Path:
    """Draw learning curves against frames and against wall time; write PNG and CSV.

    Args:
        runs: run directories, one curve each.
        out: the picture to write, ending in .png; a .csv of the same name stands beside it.

    Returns:
        The picture's path.

    Raises:
        CheckpointError: a run has nothing to draw, or `out` cannot be written.
    """
    curves = [load_curve(run) for run in runs]
    if not curves:
        raise CheckpointError("plot: expected at least one run directory, got none")
    replace_file(out.with_suffix(".csv"), _table(curves).encode())
    replace_file(out, _picture(curves))
    return out


def _picture(curves: Sequence[Curve]) -> bytes:
    """The PNG of all curves."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    for index, curve in enumerate(curves):
        for axes, axis in ((left, "frames"), (right, "minutes")):
            prefix = f"{curve.name}: " if len(curves) > 1 else ""
            _draw(axes, curve, axis, f"C{index % 10}", prefix)
    left.set_xlabel("emulator frames (millions)")
    right.set_xlabel("wall time (minutes)")
    left.set_ylabel("raw score of a game")
    for axes in (left, right):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.02)
    left.legend(frameon=False, fontsize="small")
    figure.suptitle(curves[0].name if len(curves) == 1 else f"{len(curves)} runs")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=150)
    return picture.getvalue()


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
