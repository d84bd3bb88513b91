"""bench/gpu_check.sh on the CPU, so that it works at once on the first machine with a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "bench" / "gpu_check.sh"


def check(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", SCRIPT, *arguments],
        env={**os.environ, "PYTHON": sys.executable, **environment},
        capture_output=True,
        text=True,
        timeout=1800,
    )


def results(out: Path) -> dict[str, str]:
    lines = (out / "summary.txt").read_text().splitlines()[1:]
    return {line.split()[0]: line.split()[1] for line in lines}


def test_every_stage_passes_on_the_cpu(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = check(out, "--device", "cpu", "--seconds", "40", "--no-build")
    logs = "\n".join(path.read_text()[-2000:] for path in out.glob("*.txt"))
    assert done.returncode == 0, done.stdout + done.stderr + logs
    stages = ("environment", "tests", "benches", "training")
    assert results(out) == dict.fromkeys(stages, "passed")
    files = sorted(path.name for path in out.iterdir())
    assert files == [
        *("bench.json", "bench.txt", "environment.txt", "metrics.jsonl"),
        *("summary.txt", "tests.txt", "train.txt"),
    ]
    assert "torch" in (out / "environment.txt").read_text()
    assert " passed" in (out / "tests.txt").read_text()
    rows = json.loads((out / "bench.json").read_text())["rows"]
    assert {row["section"] for row in rows} == {"acting", "sampling", "updates", "training"}
    for row in rows:
        assert row["windows"] >= 5
        assert 0 < row["low"] <= row["median"] <= row["high"]
    loops = [row for row in rows if row["section"] == "training"]
    for row in loops:
        assert row["updates"] > 0
        assert row["utilisation"] == "n/a"
        assert sum(row["shares"].values()) == pytest.approx(1, abs=0.01)
    metrics = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert any("loss/td" in line for line in metrics)


@pytest.mark.parametrize("preset", ["ngu-gpu", "agent57-gpu"])
def test_a_preset_for_a_gpu_trains_and_leaves_a_map(preset: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ("--device", "cpu", "--no-build", "--train", preset, "--only-train")
    done = check(out, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr + (out / "train.txt").read_text()
    assert results(out) == dict.fromkeys(("environment", "training"), "passed")
    assert (out / "map.png").stat().st_size > 0
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert any("loss/td" in line and "explore/rooms" in line for line in lines)


def test_a_stage_that_fails_is_recorded_and_the_next_one_runs(tmp_path: Path) -> None:
    done = check(tmp_path, "--device", "cpu", "--no-build", PYTHON="/bin/false")
    assert done.returncode == 1
    stages = ("environment", "tests", "benches", "training")
    assert results(tmp_path) == dict.fromkeys(stages, "failed")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("out", "--device", "tpu"),
        ("out", "--seconds", "x"),
        ("out", "--train", "pong"),
    ],
)
def test_wrong_arguments_are_refused(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = subprocess.run(["bash", SCRIPT, *arguments], cwd=tmp_path, capture_output=True)
    assert done.returncode == 2
    assert not list(tmp_path.iterdir())
