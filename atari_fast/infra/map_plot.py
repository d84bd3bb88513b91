"""Rooms and positions that runs of one game have visited, as a picture and as numbers."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from atari_fast.infra.files import replace_file
from atari_fast.infra.plots import draw_png, literal
from atari_fast.places import PLACE_ADDRESSES, room_of, unpack

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PLACE_COLUMNS = ("level", "room", "x", "y")
"""Columns of places in CSV files."""

_PYRAMID = "montezuma_revenge"
_FLOORS = 4
_WIDTH, _HEIGHT = 1.0, 0.75
_STEP_X, _STEP_Y = 1.06, 0.82


class Explored(NamedTuple):
    """What one run has visited."""

    name: str
    """What the run is called in the picture."""
    frames: int
    """Emulator frames that it has played."""
    places: NDArray[np.int64]
    """int64[N], distinct, packed as `PlaceAddresses.pack`."""


class RoomMap:
    """Rooms as panels of one scale, in which places are points.

    The panels are in the order of their numbers; those of Montezuma's Revenge are as the pyramid
    has them, floors of 3, 5, 7 and 9 rooms, one pyramid for each level.
    """

    def __init__(self, game: str, places: NDArray[np.int64]) -> None:
        """Lay out the rooms of all `places`, int64[N] with N > 0, of a game with addresses."""
        self._up = PLACE_ADDRESSES[game].y_up
        rooms = sorted({room_of(place) for place in places.tolist()})
        self._several_levels = len({room >> 8 for room in rooms}) > 1
        self._cells = _pyramid(rooms) if game == _PYRAMID else _square(rooms)
        self._low = unpack(places)[:, 2:].min(axis=0)
        self._span = np.maximum(unpack(places)[:, 2:].max(axis=0) - self._low, 1)
        columns = 1 + max(column for column, _ in self._cells.values())
        rows = 1 + max(row for _, row in self._cells.values())
        self.size = (columns * _STEP_X, rows * _STEP_Y)
        """Width and height in units of a panel's width."""

    def points(self, places: NDArray[np.int64]) -> NDArray[np.float64]:
        """Where places int64[N] are in the picture: x and y, float64[2, N]."""
        cells = np.array([self._cells[room_of(place)] for place in places.tolist()]).reshape(-1, 2)
        inside = (unpack(places)[:, 2:] - self._low) / self._span
        if self._up:
            inside[:, 1] = 1 - inside[:, 1]
        inside = 0.04 + 0.92 * inside
        points: NDArray[np.float64] = (cells * (_STEP_X, _STEP_Y) + inside * (_WIDTH, _HEIGHT)).T
        return points

    def draw(self, axes: Axes) -> None:
        """Draw the panels with the numbers of their rooms."""
        from matplotlib.collections import PatchCollection
        from matplotlib.patches import Rectangle

        tiles = []
        for room, (column, row) in self._cells.items():
            x, y = column * _STEP_X, row * _STEP_Y
            tiles.append(Rectangle((x, y), _WIDTH, _HEIGHT))
            level, number = divmod(room, 256)
            label = f"{level}:{number}" if self._several_levels else f"{number}"
            axes.text(x + 0.03, y + 0.02, label, fontsize=6, color="0.6", va="top")
        axes.add_collection(PatchCollection(tiles, facecolor="0.98", edgecolor="0.8", zorder=0))
        width, height = self.size
        axes.set(xlim=(-0.04, width), ylim=(height, -0.04), aspect="equal")
        axes.set_axis_off()


def _square(rooms: Sequence[int]) -> dict[int, tuple[int, int]]:
    """(column, row) of each room, in reading order."""
    columns = math.ceil(math.sqrt(len(rooms)))
    return {room: (index % columns, index // columns) for index, room in enumerate(rooms)}


def _pyramid(rooms: Sequence[int]) -> dict[int, tuple[int, int]]:
    """(column, row) of all rooms of the levels that were reached; floor f begins at f (f + 2)."""
    cells = {}
    for index, level in enumerate(sorted({room >> 8 for room in rooms})):
        found = {room & 255 for room in rooms if room >> 8 == level}
        for number in sorted(found | set(range(_FLOORS * (_FLOORS + 2)))):
            floor = math.isqrt(number + 1) - 1
            column = number - floor * (floor + 2) + _FLOORS - 1 - floor
            cells[level << 8 | number] = (column, index * _FLOORS + floor)
    return cells


def write_maps(game: str, runs: Sequence[Explored], out: Path) -> list[Path]:
    """Write the picture, and a CSV file with every place of every run beside it.

    Args:
        game: name of a game with addresses.
        runs: runs of that game, of which at least one has a place.
        out: NAME.png.

    Returns:
        The two paths, the picture's first.

    Raises:
        CheckpointError: a file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run", "frames", *PLACE_COLUMNS])
    for run in runs:
        writer.writerows([run.name, run.frames, *row] for row in unpack(run.places).tolist())
    table = out.with_suffix(".csv")
    replace_file(table, text.getvalue().encode())
    rooms = RoomMap(game, np.concatenate([run.places for run in runs]))
    width, height = rooms.size
    panel = max(0.5, min(1.6, 14 / (width * len(runs))))
    size = (max(4.0, panel * width) * len(runs), panel * height + 1.2)
    replace_file(out, draw_png(size, lambda figure: _draw_maps(figure, game, runs, rooms)))
    return [out, table]


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _draw_maps(figure: Figure, game: str, runs: Sequence[Explored], rooms: RoomMap) -> None:
    several = len(runs) > 1
    for index, (axes, run) in enumerate(
        zip(figure.subplots(1, len(runs), squeeze=False)[0], runs, strict=True)
    ):
        rooms.draw(axes)
        x, y = rooms.points(run.places)
        axes.scatter(x, y, s=1.5, color=f"C{index % 10}", linewidth=0)
        visited = len({room_of(place) for place in run.places.tolist()})
        axes.set_title(
            f"{literal(run.name)}\n{_count(visited, 'room')}, "
            f"{_count(len(run.places), 'position')}, {run.frames:,} frames",
            fontsize="small" if several else "medium",
        )
    figure.suptitle(f"Where {'these runs have' if several else 'a run has'} been in {game}")
