"""The intrinsic reward along one game, as a picture and as numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from atari_fast.infra.files import replace_file
from atari_fast.infra.map_plot import PLACE_COLUMNS, RoomMap
from atari_fast.infra.plots import draw_png, literal
from atari_fast.places import unpack

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

PEAKS = 6
"""Most peaks whose screens are shown."""
STEPS_PER_SECOND = 15
"""Agent steps in a second of play."""

_LETTERS = "ABCDEF"
_STRIPS = (
    ("intrinsic", "intrinsic_reward", "intrinsic reward"),
    ("episodic", "episodic", "episodic part"),
    ("life_long", "life_long_factor", "life-long factor"),
)
"""Fields of an episode, their columns in the CSV file, and their names in the picture."""


class Episode(NamedTuple):
    """What an agent received at each of T agent steps of a game, that of the first frame too."""

    player: str
    """What the agent is called in the picture."""
    game: str
    score: float
    """Raw score."""
    over: bool
    """Whether the game ended before the cut."""
    rewards: NDArray[np.float64]
    """float64[T], raw rewards of the game."""
    intrinsic: NDArray[np.float64]
    """float64[T], r^i."""
    episodic: NDArray[np.float64]
    """float64[T], r^episodic."""
    life_long: NDArray[np.float64]
    """float64[T], factor of the life-long novelty."""
    places: NDArray[np.int64]
    """int64[T], packed as `PlaceAddresses.pack`; -1 in games without addresses."""
    peaks: Sequence[int]
    """Steps whose screens are shown, in their order."""
    screens: Sequence[NDArray[np.uint8]]
    """uint8[H, W, 3] of each of them."""


def highest_peaks(values: NDArray[np.float64]) -> list[int]:
    """Steps of the highest values of float64[T], at most `PEAKS`, ascending.

    Any two are at least a twentieth of the game apart.
    """
    apart = max(1, len(values) // 20)
    peaks: list[int] = []
    for step in np.argsort(-values, kind="stable").tolist():
        if all(abs(step - other) >= apart for other in peaks):
            peaks.append(step)
        if len(peaks) == PEAKS:
            break
    return sorted(peaks)


def write_episode(episode: Episode, out: Path) -> list[Path]:
    """Write the picture, and a CSV file with a row for each step beside it.

    Args:
        episode: what was played.
        out: NAME.png.

    Returns:
        The two paths, the picture's first.

    Raises:
        CheckpointError: a file cannot be written.
    """
    table = out.with_suffix(".csv")
    replace_file(table, _table(episode).encode())
    placed = bool((episode.places >= 0).all())
    heights = [2.6, 4.2]
    if placed:
        rooms = RoomMap(episode.game, episode.places)
        heights.append(min(6.0, max(2.5, 12 * rooms.size[1] / rooms.size[0])))

    def draw(figure: Figure) -> None:
        parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
        _draw_screens(parts[0], episode)
        _draw_series(parts[1], episode)
        if placed:
            _draw_path(parts[2], episode, rooms)

    replace_file(out, draw_png((13, sum(heights)), draw, dpi=120))
    return [out, table]


def _table(episode: Episode) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    placed = bool((episode.places >= 0).all())
    writer.writerow(
        ["step", "seconds", "reward", *(column for _, column, _ in _STRIPS)]
        + (list(PLACE_COLUMNS) if placed else [])
    )
    places = unpack(episode.places).tolist()
    series = [episode.rewards, *(getattr(episode, field) for field, _, _ in _STRIPS)]
    for step, values in enumerate(zip(*(part.tolist() for part in series), strict=True)):
        numbers = [f"{value:.7g}" for value in (step / STEPS_PER_SECOND, *values)]
        writer.writerow([step, *numbers, *(places[step] if placed else [])])
    return text.getvalue()


def _draw_screens(figure: SubFigure, episode: Episode) -> None:
    """The screens of the peaks, lettered."""
    figure.suptitle(
        f"A game of {literal(episode.player)} in {episode.game} (score {episode.score:,.0f}"
        f"{'' if episode.over else ' so far'}): the screens of the highest intrinsic rewards"
    )
    for index, axes in enumerate(figure.subplots(1, PEAKS)):
        axes.set_axis_off()
        if index < len(episode.peaks):
            step = episode.peaks[index]
            axes.imshow(episode.screens[index])
            axes.set_title(f"{_LETTERS[index]}: {step / STEPS_PER_SECOND:.1f} s", fontsize="medium")


def _draw_series(figure: SubFigure, episode: Episode) -> None:
    """The intrinsic reward and its two factors, a strip each; triangles are rewards of the game."""
    seconds = np.arange(len(episode.rewards)) / STEPS_PER_SECOND
    strips = figure.subplots(len(_STRIPS), 1, sharex=True)
    for index, (axes, (field, _, label)) in enumerate(zip(strips, _STRIPS, strict=True)):
        axes.plot(seconds, getattr(episode, field), color=f"C{index}", linewidth=0.8)
        axes.set_ylabel(label, color=f"C{index}")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        axes.margins(x=0)
        for step in episode.peaks:
            axes.axvline(seconds[step], color="0.3", linestyle=":", linewidth=1)
    for step, letter in zip(episode.peaks, _LETTERS, strict=False):
        strips[0].annotate(
            letter,
            (seconds[step], 1),
            (0, 2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
        )
    if (scored := np.flatnonzero(episode.rewards)).size:
        strips[0].plot(
            *(seconds[scored], np.zeros(scored.size), "^"),
            color="C3",
            clip_on=False,
            label="rewards of the game",
        )
        strips[0].legend(frameon=False, fontsize="small", loc="upper right")
    strips[-1].set_xlabel("time in the game (s; an agent step is 1/15 s)")


def _draw_path(figure: SubFigure, episode: Episode, rooms: RoomMap) -> None:
    """All positions in their rooms, coloured by the intrinsic reward, the highest on top."""
    axes = figure.subplots()
    rooms.draw(axes)
    order = np.argsort(episode.intrinsic, kind="stable")
    x, y = rooms.points(episode.places[order])
    dots = axes.scatter(x, y, c=episode.intrinsic[order], s=9, cmap="viridis", linewidth=0)
    figure.colorbar(dots, ax=axes, label="intrinsic reward", shrink=0.8)
    axes.set_title("The player's path in its rooms")
