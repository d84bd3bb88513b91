"""Trainings as processes of their own, and what they leave in their run directories."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from atari_fast.infra.checkpoint import latest_checkpoint, read_checkpoint
from atari_fast.infra.failpoint import VARIABLE
from atari_fast.infra.logging import read_metrics
from atari_fast.infra.weights import unpack_state


def train(*arguments: str, fail_point: str = "") -> subprocess.CompletedProcess[str]:
    """Runs `python -m atari_fast.train` to its end, killed at `fail_point` if there is one."""
    return subprocess.run(
        [sys.executable, "-m", "atari_fast.train", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, VARIABLE: fail_point},
    )


def what_a_run_left(run: Path) -> dict[str, Any]:
    """The newest checkpoint, file by file, and the metrics, all but what tells the time.

    Files are given as SHA-256, the states of the parts and the metrics as they are.
    """
    checkpoint = read_checkpoint(latest_checkpoint(run / "checkpoints"))
    left: dict[str, Any] = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in checkpoint.path.iterdir()
        if path.suffix in (".safetensors", ".bin")
    }
    record = unpack_state(dict.fromkeys(checkpoint.tensors["state"]), checkpoint.records["state"])
    record["run"].pop("metrics_size")  # lines tell the time in more or fewer digits
    left["state"] = record
    left["metrics"] = [
        {
            name: value
            for name, value in line.items()
            if name != "seconds" and not name.startswith("perf/")
        }
        for line in read_metrics(run)
    ]
    return left
