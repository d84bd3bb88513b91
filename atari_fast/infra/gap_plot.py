"""Action gaps of several agents in the same states, as a picture and as numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from atari_fast.infra.files import replace_file
from atari_fast.infra.plots import draw_png, literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

RANDOM = "random play"
"""The source of states that is no agent."""
MEASURES = ("gap", "gap_of_range", "gap_of_value")
"""Columns: Q(a1) - Q(a2) of the two best actions; that over max Q - min Q; that over |max Q|."""

_FRAMES = 6
_LETTERS = "ABCDEF"
_ASPECT = 210 / 160
_STEPS_PER_SECOND = 15


class Gaps(NamedTuple):
    """Gaps of K agents in the same N states."""

    sources: Sequence[str]
    """N names of those who played there: an agent's, or `RANDOM`."""
    games: NDArray[np.int64]
    """int64[N], number of the source's game."""
    steps: NDArray[np.int64]
    """int64[N], agent steps since the game's first frame."""
    values: Mapping[str, NDArray[np.float32]]
    """float32[K, N] of each of `MEASURES`."""


class GapStudy(NamedTuple):
    """All that the picture and the files show."""

    game: str
    agents: Sequence[str]
    """K different names."""
    scores: Mapping[str, Sequence[float]]
    """Raw scores of the games that the agents, and `RANDOM`, played themselves."""
    states: Gaps
    """The shared states, as many from each source."""
    episode: Gaps
    """All states of one game of one source."""
    frames: NDArray[np.uint8]
    """uint8[T, H, W], the newest frame of each state of the episode."""


def write_gap_study(study: GapStudy, out: Path) -> list[Path]:
    """Write the picture, and NAME-states.csv, NAME-episode.csv and NAME-summary.csv beside it.

    Args:
        study: what was measured.
        out: NAME.png.

    Returns:
        The four paths, the picture's first.

    Raises:
        CheckpointError: a file cannot be written.
    """
    texts = {
        "states": _text(_rows_of_states(study.agents, study.states)),
        "episode": _text(_rows_of_states(study.agents, study.episode)),
        "summary": _text(summary_rows(study)),
    }
    paths = [out]
    for name, text in texts.items():
        paths.append(out.with_name(f"{out.stem}-{name}.csv"))
        replace_file(paths[-1], text.encode())
    replace_file(out, _picture(study))
    return paths


def summary_rows(study: GapStudy) -> list[dict[str, Any]]:
    """For each agent: score of its own play, and each measure in all states and by source."""
    sources = np.array(study.states.sources)
    rows: list[dict[str, Any]] = []
    for index, agent in enumerate(study.agents):
        for source in (None, *study.agents, RANDOM):
            chosen = np.full(len(sources), True) if source is None else sources == source
            row: dict[str, Any] = {
                "agent": agent,
                "score_mean": float(np.mean(study.scores[agent])),
                "games": len(study.scores[agent]),
                "source": source or "all",
                "states": int(chosen.sum()),
            }
            for measure in MEASURES:
                values = study.states.values[measure][index, chosen].astype(np.float64)
                low, median, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
                row[f"{measure}_mean"] = float(values.mean())
                row[f"{measure}_q25"], row[f"{measure}_median"] = low, median
                row[f"{measure}_q75"] = high
            rows.append(row)
    return rows


def _rows_of_states(agents: Sequence[str], gaps: Gaps) -> Iterable[dict[str, Any]]:
    """A row for each state, with a column for each measure and agent."""
    for n, source in enumerate(gaps.sources):
        values = {
            f"{measure}: {agent}": float(gaps.values[measure][index, n])
            for index, agent in enumerate(agents)
            for measure in MEASURES
        }
        yield {"source": source, "game": gaps.games[n], "step": gaps.steps[n], **values}


def _text(rows: Iterable[dict[str, Any]]) -> str:
    text = io.StringIO()
    first, *others = rows
    writer = csv.DictWriter(text, list(first), lineterminator="\n")
    writer.writeheader()
    for row in (first, *others):
        writer.writerow({k: f"{v:.7g}" if isinstance(v, float) else v for k, v in row.items()})
    return text.getvalue()


def _picture(study: GapStudy) -> bytes:
    """The PNG."""
    heights = (3.3, 1.0 * len(study.agents) + 0.5, 3.9)
    size = (13, sum(heights) + 0.6)
    return draw_png(size, lambda figure: _draw_study(figure, study, heights), dpi=120)


def _draw_study(figure: Figure, study: GapStudy, heights: Sequence[float]) -> None:
    rows = len(study.agents)
    grid = figure.add_gridspec(3, 1, height_ratios=heights)
    top, middle, bottom = (figure.add_subfigure(grid[part]) for part in range(3))
    marked = _marked_steps(study)
    _draw_frames(top, study, marked)
    _draw_episode(middle, study, marked)
    ecdf, relative, scores = bottom.subplots(1, 3)
    _draw_distribution(ecdf, study, "gap")
    ecdf.set(xscale="log", xlabel="action gap $Q(a_1) - Q(a_2)$, log scale")
    ecdf.set(title="Distribution of the gap", ylabel="share of states with at most this gap")
    ecdf.legend(frameon=False, fontsize="small", loc="upper left")
    _draw_distribution(relative, study, "gap_of_range")
    relative.set(title="The same, free of the scale of the values", xlim=(0, 1))
    relative.set_xlabel(r"$(Q(a_1) - Q(a_2))\,/\,(\max Q - \min Q)$")
    _draw_scores(scores, study)
    for axes in (ecdf, relative, scores):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    total, sources = len(study.states.sources), rows + 1
    figure.suptitle(
        f"Action gap in {study.game}: {total:,} shared states, {total // sources:,} each from the "
        f"play of {'the agent' if rows == 1 else f'all {rows} agents'} and from random play",
        fontsize="x-large",
    )


def _marked_steps(study: GapStudy) -> list[int]:
    """Where the player's gap is largest in each of a few equal parts of the episode."""
    own = study.episode.values["gap"][study.agents.index(study.episode.sources[0])]
    parts = np.array_split(np.arange(len(own)), min(_FRAMES, len(own)))
    return [int(part[np.argmax(own[part])]) for part in parts]


def _draw_frames(figure: SubFigure, study: GapStudy, marked: Sequence[int]) -> None:
    """The frames of the marked steps, lettered."""
    player = literal(study.episode.sources[0])
    score = study.scores[study.episode.sources[0]][0]
    figure.suptitle(
        f"A game of {player} (score {score:,.0f}): the frame of the largest gap of "
        f"{player} in each of {len(marked)} equal parts; below, the gap of every agent"
    )
    for axes, step, letter in zip(figure.subplots(1, len(marked)), marked, _LETTERS, strict=False):
        axes.imshow(study.frames[step], cmap="gray", vmin=0, vmax=255, aspect=_ASPECT)
        axes.set(xticks=[], yticks=[])
        axes.set_title(f"{letter}: {step / _STEPS_PER_SECOND:.1f} s", fontsize="medium")


def _draw_episode(figure: SubFigure, study: GapStudy, marked: Sequence[int]) -> None:
    """Every agent's gap in all states of the episode, a strip each, the scale shared."""
    gaps = study.episode.values["gap"]
    seconds = study.episode.steps / _STEPS_PER_SECOND
    strips = figure.subplots(len(study.agents), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for index, (axes, agent) in enumerate(zip(strips, study.agents, strict=True)):
        axes.fill_between(seconds, gaps[index], color=_colour(index), linewidth=0, alpha=0.3)
        axes.plot(seconds, gaps[index], color=_colour(index), linewidth=0.8)
        axes.set_ylabel(literal(agent), rotation=0, ha="right", va="center", color=_colour(index))
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0)
        axes.set_ylim(0, float(gaps.max()) * 1.05 or 1.0)
        for step in marked:
            axes.axvline(seconds[step], color="0.3", linestyle=":", linewidth=1)
    for step, letter in zip(marked, _LETTERS, strict=False):
        strips[0].annotate(
            letter,
            (seconds[step], 1),
            (0, 2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
        )
    strips[-1].set_xlabel("time in the game (s; an agent step is 1/15 s)")
    figure.supylabel("action gap $Q(a_1) - Q(a_2)$", fontsize="medium")


def _draw_distribution(axes: Axes, study: GapStudy, measure: str) -> None:
    """Share of the shared states whose measure is at most x, a line for each agent."""
    for index, agent in enumerate(study.agents):
        values = np.sort(study.states.values[measure][index])
        share = np.arange(1, len(values) + 1) / len(values)
        axes.step(
            values, share, where="post", color=_colour(index), linewidth=1.8, label=literal(agent)
        )
    axes.set_ylim(0, 1)


def _draw_scores(axes: Axes, study: GapStudy) -> None:
    """Mean score of the own play against the mean gap, with standard errors of both."""
    for index, agent in enumerate(study.agents):
        gaps, scores = study.states.values["gap"][index], study.scores[agent]
        axes.errorbar(
            gaps.mean(),
            np.mean(scores),
            xerr=_error_by_games(study.states, gaps),
            yerr=_standard_error(scores),
            fmt="o",
            markersize=8,
            capsize=3,
            color=_colour(index),
        )
    chance = float(np.mean(study.scores[RANDOM]))
    axes.axhline(chance, color="0.5", linestyle="--", linewidth=1)
    where = (0.02, chance)
    axes.annotate(
        RANDOM, where, (0, -12), ("axes fraction", "data"), textcoords="offset points", color="0.4"
    )
    axes.set_title("Score against gap, with standard errors")
    axes.set_xlabel("mean action gap in the shared states")
    axes.set_ylabel(f"mean raw score of {len(study.scores[RANDOM])} own games")
    axes.margins(0.15)
    axes.locator_params(nbins=5)


def _standard_error(values: Sequence[float]) -> float:
    return float(np.std(values) / max(len(values) - 1, 1) ** 0.5)


def _error_by_games(states: Gaps, values: NDArray[np.float32]) -> float:
    """Standard error of the mean: games are independent, the states of one game are not."""
    means: dict[str, dict[int, list[float]]] = {}
    for source, game, value in zip(states.sources, states.games.tolist(), values, strict=True):
        means.setdefault(source, {}).setdefault(game, []).append(float(value))
    errors = [
        _standard_error([float(np.mean(game)) for game in games.values()])
        for games in means.values()
    ]
    return float(np.linalg.norm(errors) / len(errors))


def _colour(index: int) -> str:
    return f"C{index % 10}"
