"""Command lines as processes of their own, and what is to be equal in two runs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atari_fast.infra.checkpoint import latest_checkpoint, read_checkpoint
from atari_fast.infra.logging import read_metrics
from atari_fast.infra.weights import unpack_state

if TYPE_CHECKING:
    from atari_fast.runtime.driver import StepResult
    from atari_fast.runtime.trainer import Trainer

CATCH = [
    *("pong", "--game", "catch", "--run.dir", "run", "--threads", "1"),
    *("--total-frames", "2800"),
    *("--net.torso", "mlp", "--net.hidden", "4", "--net.stack", "2"),
    *("--env.num-envs", "4"),
    *("--replay.capacity", "400", "--replay.min-frames", "400", "--replay.prioritized"),
    *("--run.log-period", "200", "--run.checkpoint-period", "800", "--run.replay-period", "800"),
    *("--run.eval-period", "800", "--run.eval-episodes", "9", "--run.eval-epsilon", "1"),
    *("--seed", "129"),
    *("--run.no-finish", "--run.no-tensorboard"),
]
"""A training of the toy in a fraction of a second: three checkpoints, each the best so far, and a
last one without an evaluation. Scores are those of random play, which are the same on any CPU."""
R2D2 = [
    *("r2d2-bandit", "--game", "catch", "--run.dir", "run", "--threads", "1", "--total-frames"),
    *("2800", "--net.torso", "mlp", "--net.hidden", "4", "--net.lstm", "4", "--net.stack", "2"),
    *("--env.num-envs", "4", "--agent.policies", "3", "--replay.capacity", "400"),
    *("--replay.min-frames", "400", "--replay.burn-in", "3", "--replay.unroll", "6"),
    *("--replay.period", "3", "--optim.batch-size", "4", "--run.log-period", "200"),
    *("--run.checkpoint-period", "800", "--run.replay-period", "800", "--run.eval-period", "0"),
    *("--run.no-finish", "--run.no-tensorboard"),
]
"""A training of an agent with a memory, bandits and ranked sequences, as short as `CATCH`."""
AGENT57 = ["agent57-small", *R2D2[1:], "--novelty.memory", "20", "--novelty.rows", "3"]
"""A training of an agent with an intrinsic reward, as short."""
PPO = [
    *("ppo-lstm", "--game", "catch", "--run.dir", "run", "--threads", "1", "--total-frames"),
    *("2800", "--net.torso", "mlp", "--net.hidden", "4", "--net.lstm", "4", "--net.stack", "2"),
    *("--env.num-envs", "4", "--rollout.steps", "12", "--run.log-period", "200"),
    *("--run.checkpoint-period", "800", "--run.replay-period", "800", "--run.eval-period", "0"),
    *("--run.no-finish", "--run.no-tensorboard"),
]
"""A training of an agent that learns from rollouts, as short."""
PERIOD = 800
"""Frames between the checkpoints of `CATCH`."""

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    ["atari_fast.runtime.trainer", "torch._dynamo", "tyro", "rich.live", "safetensors.torch"]
)


def command(name: str, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command as a user starts it."""
    return subprocess.run(
        [sys.executable, "-m", f"atari_fast.{name}", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=600,
    )


@contextlib.contextmanager
def learning(
    run: Path, *arguments: str, before: Sequence[str] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """A training in `run`, as a user starts it, that has written metrics.

    `before`: a command that starts it.
    """
    process = subprocess.Popen(
        [*before, sys.executable, "-m", "atari_fast.train", *arguments, "--run.dir", run.name],
        cwd=run.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 300
        metrics = run / "metrics.jsonl"
        while not (metrics.exists() and metrics.stat().st_size):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield process
    finally:
        process.kill()


def one_sentence(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """Checks that a command ended with a code and one sentence that has the words."""
    assert done.returncode == code, done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0], lines[0]


Streams = Mapping[int, "str | None"]
"""What descriptors 0, 1 and 2 of a training are: files, or None for closed ones."""


def _serve(
    arguments: list[str],
    cwd: Path,
    environment: Mapping[str, str],
    signal_at: int,
    streams: Streams,
) -> None:
    os.chdir(cwd)
    os.environ.update(environment)
    for descriptor, name in {1: "stdout", 2: "stderr", **streams}.items():
        if name is None:  # as Python begins without it
            os.close(descriptor)
            setattr(sys, ("stdin", "stdout", "stderr")[descriptor], None)
        else:
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    from atari_fast.infra.cli import run_cli
    from atari_fast.runtime.trainer import Trainer
    from atari_fast.train import main

    take = Trainer._take

    def take_and_signal(trainer: Trainer, result: StepResult) -> None:
        before = trainer.frames
        take(trainer, result)
        if before < signal_at <= trainer.frames:
            signal.raise_signal(signal.SIGTERM)

    if signal_at:
        Trainer._take = take_and_signal  # type: ignore[method-assign]
    sys.argv = ["train", *arguments]
    run_cli(main, output_matters=False)


@contextlib.contextmanager
def training(
    *arguments: str,
    cwd: Path,
    failpoint: str = "",
    signal_at: int = 0,
    streams: Streams | None = None,
    **environment: str,
) -> Iterator[BaseProcess]:
    """`train` as a process, forked off one that has imported torch: quick to start and to kill.

    It sends itself SIGTERM at frame `signal_at`, if that is not 0.
    """
    environment = {"AF_FAILPOINT": failpoint, **environment}
    settings = (arguments, cwd, environment, signal_at, streams or {})
    process = _FORKS.Process(target=_serve, args=settings)
    process.start()
    try:
        yield process
        process.join(600)
        assert process.exitcode is not None, "the training hangs"
    finally:
        process.kill()
        process.join()


def train(*arguments: str, cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Waits for `training`, which has the options; the exit code of a killed one is -signal."""
    with training(*arguments, cwd=cwd, **options) as process:
        pass
    assert process.exitcode is not None
    out, err = (
        (cwd / name).read_text() if (cwd / name).exists() else "" for name in ("stdout", "stderr")
    )
    return subprocess.CompletedProcess(list(arguments), process.exitcode, out, err)


def outcome(run: Path) -> dict[str, Any]:
    """All that two runs share that are the same: SHA-256 of the last checkpoint, and metrics."""
    checkpoint = read_checkpoint(latest_checkpoint(run / "checkpoints"))
    tensors = {path.stem: path for path in checkpoint.path.glob("*.safetensors")}
    state = unpack_state(checkpoint.tensors["state"], checkpoint.records["state"])
    del state["run"]["metrics_size"], state["run"]["seconds"]  # the digits of `seconds` differ
    digests = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in [*tensors.values(), *checkpoint.path.glob("*.bin")]
    }
    best = {}
    if (pointer := run / "checkpoints" / "best.json").exists():
        best = json.loads(pointer.read_text())
        best["checkpoint"] = best["checkpoint"].partition(".")[0]
    metrics = [
        {k: v for k, v in row.items() if k != "seconds" and not k.startswith("perf/")}
        for row in read_metrics(run)
    ]
    return {
        "frames": checkpoint.frames,
        "files": digests,
        "state": repr(state),
        "best": best,
        "metrics": metrics,
    }
