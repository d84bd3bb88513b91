from __future__ import annotations

import csv
import subprocess
import sys

import pytest

from atari_fast.errors import CheckpointError
from atari_fast.infra.logging import RunLogger
from atari_fast.infra.plots import distinct_names, load_curve, plot_curves


def make_run(path, scores):
    with RunLogger(path, tensorboard=False) as logger:
        logger.scalars(0, {"loss/td": 1.0})
        for index, score in enumerate(scores, 1):
            frames, seconds = index * 100_000, index * 60.0
            logger.scalars(frames, {"seconds": seconds, "train/return_mean_100": score})
            evaluation = {"mean": score, "median": score, "min": score - 2, "max": score + 1}
            named = {f"eval/{name}": value for name, value in evaluation.items()}
            logger.scalars(frames, {"seconds": seconds, **named})
    return path


def test_plot_curves_writes_png_and_csv(tmp_path):
    import cv2

    runs = [make_run(tmp_path / "pong s1", [-20.5, 3.0, 19.0]), make_run(tmp_path / "b", [-21.0])]
    out = plot_curves(runs, tmp_path / "plots" / "curves.png")
    picture = cv2.imread(str(out))
    assert picture.shape[0] > 400
    assert picture.shape[1] > 1000
    assert picture.min() < 100 < picture.max()
    with out.with_suffix(".csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert rows[2] == {
        "run": "pong s1",
        "frames": "200000",
        "minutes": "2.0",
        "train/return_mean_100": "3.0",
        "eval/mean": "",
        "eval/median": "",
        "eval/min": "",
        "eval/max": "",
        "ls/accepted": "",
    }
    assert (rows[5]["eval/mean"], rows[5]["eval/max"]) == ("19.0", "20.0")
    assert sorted(path.name for path in out.parent.iterdir()) == ["curves.csv", "curves.png"]


def test_curve_points_by_frames_and_minutes(tmp_path):
    curve = load_curve(make_run(tmp_path / "run", [1.0, float("nan"), 3.0]), "run")
    assert curve.points("frames", "eval/mean") == ([0.1, 0.3], [1.0, 3.0])
    assert curve.points("minutes", "train/return_mean_100") == ([1.0, 3.0], [1.0, 3.0])


def texts_of_pictures(monkeypatch):
    """All texts of the legends and titles that are drawn from now on."""
    from matplotlib.figure import Figure

    found, save = [], Figure.savefig

    def look(figure, *arguments, **options):
        save(figure, *arguments, **options)
        found.append(figure.get_suptitle())
        for axes in figure.axes:
            legend = axes.get_legend()
            found.extend(text.get_text() for text in (legend.get_texts() if legend else ()))

    monkeypatch.setattr(Figure, "savefig", look)
    return found


def test_runs_of_the_same_name_are_told_apart(tmp_path, monkeypatch):
    texts = texts_of_pictures(monkeypatch)
    runs = [make_run(tmp_path / name, [1.0]) for name in ("p/seed1", "q/seed1", "q/seed2")]
    out = plot_curves([*runs, runs[0]], tmp_path / "x.png")
    with out.with_suffix(".csv").open(newline="") as file:
        names = list(dict.fromkeys(row["run"] for row in csv.DictReader(file)))
    assert names == ["p/seed1", "q/seed1", "seed2", "p/seed1 (2)"]
    assert {text.partition(": ")[0] for text in texts if ": " in text} == set(names)


def test_distinct_names_are_the_shortest_ends():
    paths = [("/", "a", "x", "s"), ("/", "b", "x", "s"), ("/", "s"), ("/", "random play")]
    expected = ["a/x/s", "b/x/s", "/s", "random play (2)"]
    assert distinct_names(paths, reserved=("random play",)) == expected
    assert distinct_names([]) == []


@pytest.mark.parametrize("name", ["_hidden", "$\\frac$", "a$b$", "r\udcffn", "\u4e2d [b] {x}"])
def test_names_that_mean_something_to_matplotlib_are_drawn(tmp_path, monkeypatch, name):
    texts = texts_of_pictures(monkeypatch)
    run, other = make_run(tmp_path / name, [1.0]), make_run(tmp_path / "other", [2.0])
    plot_curves([run], tmp_path / "one.png")
    plot_curves([run, other], tmp_path / "two.png")
    assert len([text for text in texts if ": training, mean of 100" in text]) == 2


def test_settings_of_the_user_are_neither_used_nor_changed(tmp_path, monkeypatch):
    import matplotlib

    monkeypatch.setitem(matplotlib.rcParams, "text.usetex", True)
    monkeypatch.setenv("MPLBACKEND", "module://not.there")
    plot_curves([make_run(tmp_path / "run", [1.0])], tmp_path / "x.png")
    assert matplotlib.rcParams["text.usetex"] is True


def test_plot_curves_marks_least_squares_updates(tmp_path):
    run = make_run(tmp_path / "run", [1.0, 2.0, 3.0])
    plain = plot_curves([run], tmp_path / "plain.png").read_bytes()
    with RunLogger(run, tensorboard=False) as logger:
        for frames, accepted in ((150_000, 1.0), (250_000, 0.0)):
            logger.scalars(frames, {"seconds": frames / 1_000, "ls/accepted": accepted})
    marked = plot_curves([run], tmp_path / "marked.png")
    assert marked.read_bytes() != plain
    with marked.with_suffix(".csv").open(newline="") as file:
        updates = [(row["frames"], row["ls/accepted"]) for row in csv.DictReader(file)]
    assert [u for u in updates if u[1]] == [("150000", "1.0"), ("250000", "0.0")]


def test_plot_of_nothing_is_one_sentence(tmp_path):
    with pytest.raises(CheckpointError, match="no game has ended yet"):
        plot_curves([make_run(tmp_path / "run", [])], tmp_path / "x.png")
    with pytest.raises(CheckpointError, match="cannot be read"):
        plot_curves([tmp_path / "missing"], tmp_path / "x.png")
    with pytest.raises(CheckpointError, match="at least one run"):
        plot_curves([], tmp_path / "x.png")
    run = make_run(tmp_path / "good", [1.0])
    with pytest.raises(CheckpointError, match="cannot write"):
        plot_curves([run], run / "metrics.jsonl" / "x.png")
    assert not list(tmp_path.glob("x.*"))


def test_infra_imports_nothing_heavy():
    code = (
        "import sys, atari_fast.infra.plots, atari_fast.infra.video, atari_fast.infra.weights, "
        "atari_fast.infra.checkpoint, atari_fast.infra.logging, atari_fast.infra.progress, "
        "atari_fast.infra.cli, atari_fast.infra.memory; "
        "heavy = {'torch', 'cv2', 'matplotlib', 'tensorboard', 'rich', 'tyro', 'safetensors'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
