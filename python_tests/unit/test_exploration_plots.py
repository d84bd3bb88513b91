"""`plot map` and `plot episode` on tiny real runs."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from atari_fast import plot, record
from atari_fast.errors import AtariFastError, CheckpointError, ConfigError
from atari_fast.infra.checkpoint import latest_checkpoint
from atari_fast.infra.episode_plot import highest_peaks
from atari_fast.infra.map_plot import RoomMap
from atari_fast.places import unpack
from atari_fast.runtime.explored import load_explored
from atari_fast.train import main as train
from commands import command, one_sentence

RUN = (
    *("--game", "montezuma_revenge", "--total-frames", "2400", "--env.num-envs", "2"),
    *("--net.channels", "4", "4", "4", "--net.hidden", "16", "--threads", "1"),
    *("--replay.min-frames", "400", "--replay.capacity", "1000", "--optim.batch-size", "2"),
    *("--run.eval-period", "0", "--run.log-period", "800", "--run.no-tensorboard"),
    *("--run.no-finish", "--env.max-episode-frames", "600", "--run.eval-epsilon", "0.5"),
)
NGU = (
    *("--net.lstm", "16", "--agent.policies", "4", "--replay.burn-in", "2"),
    *("--replay.unroll", "6", "--replay.period", "3"),
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs of NGU and of DQN on Montezuma's Revenge, and one of Pong."""
    folder = tmp_path_factory.mktemp("runs")
    assert train(["ngu-small", *RUN, *NGU, "--run.dir", str(folder / "ngu")]) == 0
    for game, name in (("montezuma_revenge", "dqn"), ("pong", "pong"), ("venture", "venture")):
        changes = ("--game", game, "--total-frames", "800", "--run.dir", str(folder / name))
        assert train(["dqn-nature", *RUN, *changes]) == 0
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def size_of(picture: Path) -> tuple[int, ...]:
    return cv2.imread(str(picture)).shape[:2]


def test_map_draws_runs_side_by_side(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert plot.main(["map", str(runs / "ngu")]) == 0
    alone = runs / "ngu" / "plots" / "map.png"
    assert capsys.readouterr().out.split() == [str(alone), str(alone.with_suffix(".csv"))]
    out = runs / "both.png"
    checkpoint = latest_checkpoint(runs / "dqn" / "checkpoints")
    assert plot.main(["map", str(runs / "ngu"), str(checkpoint), "--out", str(out)]) == 0
    assert min(size_of(alone)) > 400
    assert size_of(out)[1] > 1_200
    rows = rows_of(out.with_suffix(".csv"))
    game, found = load_explored([runs / "ngu", checkpoint], ["ngu", "x"])
    assert game == "montezuma_revenge"
    assert [run.frames for run in found] == [2400, 800]
    assert len(rows) == sum(len(run.places) for run in found)
    keys = ("level", "room", "x", "y")
    assert [int(rows[0][key]) for key in keys] == unpack(found[0].places)[0].tolist()
    assert {(row["run"], row["frames"], row["room"]) for row in rows} == {
        ("ngu", "2400", "1"),
        (f"dqn {checkpoint.name}", "800", "1"),
    }


@pytest.mark.parametrize(
    ("names", "kind", "message"),
    [
        ([], ConfigError, "runs: expected at least one run directory, got none"),
        (["pong"], CheckpointError, "pong: its last checkpoint has no exploration record; .*pong"),
        (["ngu", "venture"], ConfigError, "one game, got montezuma_revenge and venture"),
        (["nothing"], CheckpointError, "nothing: no checkpoints are there"),
    ],
)
def test_map_answers_a_mistake_in_one_sentence(
    runs: Path, names: list[str], kind: type[AtariFastError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        plot.main(["map", *(str(runs / name) for name in names)])


def place(room: int, x: int, y: int, level: int = 0) -> int:
    return level << 24 | room << 16 | x << 8 | y


def test_rooms_of_montezuma_are_a_pyramid_and_others_a_square() -> None:
    places = np.array([place(1, 0, 0), place(1, 100, 200), place(15, 50, 100), place(23, 0, 200)])
    pyramid = RoomMap("montezuma_revenge", places)
    (x1, _, x15, x23), (y1, top, y15, _) = pyramid.points(places)
    assert top < y1  # y grows upwards there
    assert x15 < x1 < x23
    assert y15 > y1
    assert pyramid.size == pytest.approx((9 * 1.06, 4 * 0.82))
    assert RoomMap("montezuma_revenge", np.array([*places, place(2, 0, 0, 1)])).size[
        1
    ] == pytest.approx(8 * 0.82)
    square = RoomMap("pitfall", np.array([place(room, 5, 5) for room in (9, 4, 7, 200)]))
    assert square.size == pytest.approx((2 * 1.06, 2 * 0.82))
    below, above = RoomMap("pitfall", places[:2]).points(places[:2])[1]
    assert below < above  # y grows downwards there


def test_highest_peaks_are_apart_and_in_order() -> None:
    values = np.zeros(200)
    values[[50, 51, 52, 120, 20]] = 5, 9, 6, 4, 7
    peaks = highest_peaks(values)
    assert len(peaks) == 6
    assert peaks == sorted(peaks)
    assert {20, 51, 120} <= set(peaks)
    assert min(np.diff(peaks)) >= 10
    assert highest_peaks(np.zeros(1)) == [0]


def episode_of(run: Path, *options: str) -> tuple[Path, list[dict[str, str]]]:
    out = run / "game.png"
    assert plot.main(["episode", str(run), "--seed", "5", "--out", str(out), *options]) == 0
    return out, rows_of(out.with_suffix(".csv"))


def test_episode_has_every_step_of_the_game_that_record_records(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, rows = episode_of(runs / "ngu")
    assert min(size_of(out)) > 1_000
    assert len(rows) == 151  # 600 frames, and the step of the first frame
    assert float(rows[0]["intrinsic_reward"]) == 0
    assert float(rows[150]["seconds"]) == 10
    for row in rows:
        product = float(row["episodic"]) * float(row["life_long_factor"])
        assert float(row["intrinsic_reward"]) == pytest.approx(product, rel=1e-5)
    assert len({row["intrinsic_reward"] for row in rows}) > 50
    assert {row["room"] for row in rows} == {"1"}
    assert len({(row["x"], row["y"]) for row in rows}) > 5
    capsys.readouterr()
    video = runs / "video.webm"
    assert record.main([str(runs / "ngu"), "--seed", "5", "--out", str(video)]) == 0
    score = sum(float(row["reward"]) for row in rows)
    assert capsys.readouterr().out == f"{video}: score {score:.0f}\n"
    assert episode_of(runs / "ngu")[1] == rows
    cut = episode_of(runs / "ngu", "--max-seconds", "1")[1]
    assert cut == rows[:15]


def test_episode_of_a_game_without_places_has_no_path(tmp_path: Path) -> None:
    run = tmp_path / "toy"
    toy = ("--game", "recall", "--net.torso", "mlp", "--net.stack", "1", "--total-frames", "800")
    changes: tuple[Any, ...] = (*RUN, *NGU, *toy, "--run.dir", str(run))
    assert train(["agent57-small", *changes]) == 0
    out, rows = episode_of(run)
    assert min(size_of(out)) > 700
    assert list(rows[0]) == [
        *("step", "seconds", "reward", "intrinsic_reward", "episodic", "life_long_factor")
    ]
    zoo = tmp_path / "zoo"
    shutil.copytree(run, zoo)
    assert plot.main(["episode", str(latest_checkpoint(zoo / "checkpoints"))]) == 0
    assert (zoo / "plots" / "episode.png").exists()


def test_episode_of_an_agent_without_intrinsic_reward_is_one_sentence(runs: Path) -> None:
    done = command("plot", "episode", runs / "dqn", cwd=runs)
    one_sentence(done, 1, "runs: dqn has no intrinsic reward", "NGU or Agent57")
    assert not list((runs / "dqn" / "plots").glob("episode*"))


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (["a", "b"], ConfigError, "runs: expected one run, got 2"),
        (["a", "--seed", "-1"], ConfigError, "seed"),
        (["a", "--max-seconds", "0"], ConfigError, "max_seconds"),
        (["a", "--out", "x.pdf"], ConfigError, "out: expected a file NAME.png"),
        (["nothing"], CheckpointError, "nothing: no checkpoints are there"),
    ],
)
def test_episode_answers_a_mistake_in_one_sentence(
    arguments: list[str], kind: type[AtariFastError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        plot.main(["episode", *arguments])
