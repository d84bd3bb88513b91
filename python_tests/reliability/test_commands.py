"""The command lines as a user meets them: real processes, real files, one sentence a mistake."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from atari_fast.agents.restore import TrainedAgent, load_agent
from atari_fast.config import DqnConfig
from commands import R2D2, command, one_sentence, train

TINY = [
    "pong",
    *("--total-frames", "2400"),
    *("--net.channels", "4", "4", "4"),
    *("--net.hidden", "16"),
    *("--env.num-envs", "4"),
    *("--threads", "1"),
    *("--replay.capacity", "1000"),
    *("--replay.min-frames", "800"),
    *("--run.eval-period", "1200"),
    *("--run.eval-episodes", "1"),
    *("--run.eval-epsilon", "0.25"),
    *("--env.max-episode-frames", "600"),
    *("--run.log-period", "400"),
    *("--run.checkpoint-period", "1200"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("commands")
    done = command("train", *TINY, "--run.dir", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def pictures(video: Path) -> np.ndarray:
    """All frames of a video, uint8[T, H, W, 3]."""
    capture, frames = cv2.VideoCapture(str(video)), []
    while (read := capture.read())[0]:
        frames.append(read[1])
    return np.stack(frames)


def test_train_leaves_a_whole_run_directory(run: Path) -> None:
    config = json.loads((run / "config.json").read_text())["config"]
    assert config["preset"] == "pong"
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    names = {name for line in metrics for name in line}
    assert {"frames", "seconds", "epsilon", "loss/td", "q/mean", "eval/mean"} <= names
    assert {"train/return_mean_100", "train/episodes", "perf/frames_per_s"} <= names
    assert list(run.glob("events.out.tfevents.*"))
    assert (run / "plots" / "curves.png").stat().st_size > 5_000
    assert (run / "plots" / "curves.csv").exists()
    assert (run / "videos" / "best.webm").stat().st_size > 5_000
    assert (run / "checkpoints" / "best.json").exists()


def test_evaluate_reports_raw_scores_and_the_protocol(run: Path) -> None:
    done = command("evaluate", run, "--episodes", "3", "--num-envs", "2", cwd=run)
    assert done.returncode == 0, done.stderr
    result = json.loads((run / "evaluation-best.json").read_text())
    assert len(result["scores"]) == result["episodes"] == 3
    assert result["mean"] == pytest.approx(sum(result["scores"]) / 3)
    assert (result["protocol"], result["epsilon"], result["truncated"]) == ("deepmind", 0.25, 3)
    assert result["human_normalized"] == pytest.approx((result["mean"] + 20.7) / 35.3)
    assert "human_normalized" in done.stdout
    options = ["--episodes", "3", "--num-envs", "2", "--num-workers", "2", "--epsilon", "0.25"]
    again = command("evaluate", run, *options, cwd=run)
    assert again.returncode == 0, again.stderr
    assert json.loads((run / "evaluation-best.json").read_text()) == result


def test_an_exported_agent_plays_as_the_checkpoint_does(run: Path, tmp_path: Path) -> None:
    agent = tmp_path / "agent.safetensors"
    options = ["--episodes", "2", "--seed", "9"]
    done = command("evaluate", run, *options, "--export", agent, "--out", "a.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = command("evaluate", agent, *options, "--out", "b.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert first["scores"] == second["scores"]
    data = bytearray(agent.read_bytes())
    data[-100] ^= 1
    agent.write_bytes(data)
    one_sentence(command("evaluate", agent, cwd=tmp_path), 4, "agent.safetensors", "damaged")


def test_an_exported_agent_has_the_bandit_that_chooses_its_policy(tmp_path: Path) -> None:
    assert train(*R2D2, cwd=tmp_path).returncode == 0
    cpu, zoo = torch.device("cpu"), tmp_path / "agent.safetensors"
    done = command("evaluate", "run", "--episodes", "2", "--export", zoo, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    checkpoint, exported = (load_agent(path, "last", cpu) for path in (tmp_path / "run", zoo))
    saved = checkpoint.agent.parts["evaluator"].state()
    assert len(set(saved["arms"])) > 1  # a bandit that has seen games of several policies
    assert exported.agent.parts["evaluator"].state() == saved


def test_record_and_plot_write_where_they_say(run: Path) -> None:
    done = command("record", run, "--episodes", "2", "--max-seconds", "3", cwd=run)
    assert done.returncode == 0, done.stderr
    videos = sorted((run / "videos").glob("pong-*.webm"))
    assert len(videos) == 2
    for epsilon in ("0", "0.25"):  # the latter is the run's own
        out = run / f"epsilon-{epsilon}"
        options = ["--epsilon", epsilon, "--max-seconds", "3", "--out", out]
        assert command("record", run, *options, cwd=run).returncode == 0
        same = np.array_equal(pictures(out / videos[0].name), pictures(videos[0]))
        assert same == (epsilon == "0.25")
    done = command("plot", "curves", run, run, "--out", run / "two.png", cwd=run)
    assert done.returncode == 0, done.stderr
    assert (run / "two.png").exists()
    options = ["--episodes", "2", "--states", "60"]
    done = command("plot", *options, "action-gap", run, run, cwd=run)
    assert done.returncode == 0, done.stderr
    assert "run (2): mean score" in done.stdout
    assert (run / "plots" / "action-gap.png").stat().st_size > 20_000
    assert len(list((run / "plots").glob("action-gap-*.csv"))) == 3


def test_commands_find_the_run_of_a_checkpoint_named_from_where_it_is(run: Path) -> None:
    """A relative path of one part: the run is two folders up all the same."""
    checkpoints = run / "checkpoints"
    name = json.loads((checkpoints / "best.json").read_text())["checkpoint"]
    (run / "evaluation-last.json").unlink(missing_ok=True)
    options = ["--episodes", "1", "--which", "last"]
    done = command("evaluate", name, *options, cwd=checkpoints)
    assert done.returncode == 0, done.stderr
    assert (run / f"evaluation-{name}.json").exists()
    assert not (run / "evaluation-last.json").exists()
    options = ["--episodes", "1", "--states", "60"]
    done = command("plot", "action-gap", name, *options, cwd=checkpoints)
    assert done.returncode == 0, done.stderr
    assert str(run / "plots" / "action-gap.png") in done.stdout


def test_the_folder_of_a_zoo_file_is_where_it_was_named(tmp_path: Path) -> None:
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo" / "a.safetensors").touch()
    (tmp_path / "link.safetensors").symlink_to(tmp_path / "zoo" / "a.safetensors")
    agent = TrainedAgent(tmp_path / "link.safetensors", 0, DqnConfig(), None, None)
    assert agent.folder == tmp_path


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--game", "pongg"], 2, ["pongg", "pong"]),
        (["pongx"], 1, ["pongx", "pong"]),
        (["--optim.lrr", "1"], 1, ["--optim.lrr", "--optim.lr"]),
        (["--agent.atoms", "51"], 1, ["unknown setting --agent.atoms"]),
        (["c51", "--ls.method", "fqi"], 1, ["unknown setting --ls.method"]),
        (
            ["--agent.algorithm", "iqn", "--agent.loss", "huber"],
            1,
            ["unknown setting --agent.loss"],
        ),
        (["--agent.algorithm", "sarsa"], 1, ["agent.algorithm", "sarsa", "qr-dqn"]),
        (["r2d2", "--agent.algorithm", "dqn"], 1, ["--agent.algorithm", "r2d2", "'dqn'"]),
        (["--agent.algorithm"], 1, ["--agent.algorithm", "nothing"]),
        (["m-dqn", "--agent.algorithm", "c51"], 1, ["agent.munchausen", "c51"]),
        (["--optim.lr", "fast"], 1, ["optim.lr", "fast"]),
        (["--replay.capacity", "-5"], 1, ["replay.capacity", "-5"]),
        (["--env.num-workers", "9", "--env.num-envs", "4"], 1, ["env.num_workers", "9"]),
        (["--optim.batch-size", "300000"], 1, ["optim.batch_size", "300000"]),
        (["--replay.capacity", "10000000000"], 1, ["replay.capacity", "GB", "available"]),
        (["--device", "cuda:99"], 1, ["device", "cuda:99"]),
        (["--game", "catch"], 1, ["net.torso", "mlp"]),
    ],
)
def test_train_answers_a_mistake_in_one_sentence_and_leaves_nothing(
    tmp_path: Path, arguments: list[str], code: int, words: list[str]
) -> None:
    one_sentence(command("train", *arguments, cwd=tmp_path), code, *words)
    assert list(tmp_path.iterdir()) == []


def test_train_refuses_a_run_directory_that_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    done = command("train", *TINY, "--run.dir", "file/run", cwd=tmp_path)
    one_sentence(done, 4, "file/run")
    assert (tmp_path / "file").read_text() == "mine"


def test_train_refuses_a_run_directory_that_holds_a_run(run: Path) -> None:
    before = (run / "metrics.jsonl").read_bytes()
    one_sentence(command("train", *TINY, "--run.dir", run, cwd=run), 1, "holds a run already")
    assert (run / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize("name", ["evaluate", "record"])
def test_a_missing_checkpoint_is_named(tmp_path: Path, name: str) -> None:
    one_sentence(command(name, "nowhere", cwd=tmp_path), 4, "nowhere")
    one_sentence(command(name, cwd=tmp_path), 1, "path")


def test_plot_names_a_run_that_is_missing(tmp_path: Path) -> None:
    done = command("plot", "curves", "nowhere", cwd=tmp_path)
    assert done.returncode == 4, done.stderr
    assert "nowhere" in done.stderr
    one_sentence(command("plot", "curves", cwd=tmp_path), 1, "runs")
    for out in (".", "picture.jpg"):
        done = command("plot", "action-gap", "nowhere", "--out", out, cwd=tmp_path)
        one_sentence(done, 1, "out", out, "NAME.png")


def test_a_damaged_checkpoint_is_named(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")
    best = json.loads((copy / "checkpoints" / "best.json").read_text())["checkpoint"]
    weights = copy / "checkpoints" / best / "online.safetensors"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    one_sentence(command("evaluate", copy, cwd=tmp_path), 4, "online.safetensors", "damaged")
