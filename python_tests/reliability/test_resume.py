"""A run that is killed and resumed ends as the run that never stopped, bit for bit."""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from atari_fast.config import DqnAgentConfig, DqnConfig, EnvConfig, NetConfig, ReplayConfig
from atari_fast.errors import CheckpointError, ConfigError
from atari_fast.infra import memory
from atari_fast.infra.checkpoint import (
    Snapshot,
    latest_checkpoint,
    list_checkpoints,
    read_checkpoint,
    verify_checkpoint,
    write_checkpoint,
)
from atari_fast.infra.cpu import available_cores
from atari_fast.infra.files import crc32, dump_json
from atari_fast.infra.logging import read_metrics
from atari_fast.replay.transition import TransitionReplay, transition_options
from atari_fast.runtime.directory import create_run_directory
from atari_fast.train import main
from atari_fast.types import Acted, StepBatch
from commands import CATCH, outcome, train
from run_parts import TINY_PONG, make_replay

TINY_RUN = (
    *("--net.channels", "4", "4", "4", "--net.hidden", "16", "--threads", "1"),
    *("--env.num-envs", "4", "--total-frames", "4800", "--run.log-period", "800"),
    *("--run.checkpoint-period", "1200", "--run.replay-period", "1200", "--run.eval-period", "0"),
    *("--run.no-tensorboard", "--run.no-finish"),
)
"""The second of four checkpoints is in the middle."""
TINY = (
    *TINY_RUN,
    *("--replay.capacity", "600", "--replay.min-frames", "800", "--optim.batch-size", "8"),
)
"""The replay's ring has wrapped by the second checkpoint."""

SHORT = (
    *("--net.lstm", "8", "--replay.burn-in", "4", "--replay.unroll", "8", "--replay.period", "4"),
    *("--agent.target-period", "3", "--replay.replay-ratio", "2", "--env.max-episode-frames"),
    *("800", "--run.eval-period", "1600", "--run.eval-episodes", "1"),
)
"""Sequences of a few rows, and games of 200 steps."""

AGENTS = {
    "dqn": ("dqn-nature", "--game", "breakout"),
    "dqn-lockstep": ("dqn-nature", "--game", "qbert", "--no-overlap"),
    "double-dueling-prioritized-n-step": (
        *("dqn-adam", "--game", "qbert", "--agent.double", "--agent.dueling", "--agent.n-step"),
        *("3", "--replay.prioritized", "--env.life-loss", "episodic", "--env.num-workers", "2"),
    ),
    "pal": ("pal", "--game", "breakout", "--agent.double"),
    "m-dqn": ("m-dqn", "--game", "qbert", "--agent.n-step", "3", "--optim.random-shift", "4"),
    "rainbow": ("rainbow", "--game", "breakout"),
    "qr-dqn": ("qr-dqn", "--game", "breakout", "--agent.quantiles", "20", "--agent.double"),
    "m-iqn-noisy": (
        *("m-iqn", "--game", "breakout", "--agent.noisy", "--agent.taus", "4"),
        *("--agent.taus-acting", "4", "--run.eval-period", "1600", "--run.eval-episodes", "1"),
        *("--env.max-episode-frames", "800"),
    ),
    "ls-dqn-dueling-conditional": (
        *("ls-dqn-dueling", "--game", "breakout", "--ls.period", "2000", "--ls.conditional"),
        *("--ls.games", "2", "--ls.samples", "150", "--env.max-episode-frames", "400"),
    ),
    "ls-dqn-lstdq": ("ls-dqn-lstdq", "--game", "qbert", "--ls.period", "1000"),
    "iqn-noisy-two-threads": (
        *("iqn", "--game", "breakout", "--agent.noisy", "--agent.taus", "4", "--threads", "2"),
        *("--agent.taus-acting", "4", "--optim.batch-size", "16"),
    ),
    "spectral": (
        *("dqn-adam", "--game", "catch", "--net.torso", "impala", "--net.spectral-norm"),
        *("--net.layer-norm", "--net.pool", "1", "--threads", "2", "--optim.batch-size", "16"),
    ),
    "explored": (
        *("dqn-nature", "--game", "montezuma_revenge", "--run.eval-period", "1600"),
        *("--run.eval-episodes", "1", "--env.max-episode-frames", "800"),
    ),
    "r2d2": ("r2d2-small", "--game", "breakout", *SHORT),
    "r2d2-bandit": (
        *("r2d2-bandit", "--game", "qbert", *SHORT, "--agent.policies", "3", "--threads", "2"),
        *("--env.life-loss", "zero_discount", "--optim.batch-size", "16"),
    ),
    "ngu": (
        *("ngu-small", "--game", "breakout", *SHORT, "--agent.policies", "3"),
        *("--novelty.memory", "50", "--novelty.embedding-period", "20"),
    ),
    "agent57": (
        *("agent57-small", "--game", "qbert", *SHORT, "--agent.policies", "3", "--threads", "2"),
        *("--optim.batch-size", "16", "--novelty.rows", "3"),
    ),
}
"""Each agent's arguments; a new agent joins with a line."""
ROLLOUTS = {
    "a2c-lstm": ("a2c-lstm", "--game", "breakout", "--net.lstm", "8"),
    "ppo": ("ppo", "--game", "qbert", "--rollout.steps", "32", "--threads", "2"),
    "pqn-lstm": (
        *("pqn-lstm", "--game", "breakout", "--net.lstm", "8", "--rollout.steps", "32"),
        *("--rollout.minibatches", "2", "--agent.epsilon-frames", "2000"),
        *("--run.eval-period", "1600", "--run.eval-episodes", "1"),
        *("--env.max-episode-frames", "800"),
    ),
}
"""Those of agents that learn from rollouts."""


@pytest.mark.parametrize("agent", [*AGENTS, *ROLLOUTS])
def test_killed_and_resumed_equals_never_stopped(agent: str, tmp_path: Path) -> None:
    preset, *changes = AGENTS.get(agent) or ROLLOUTS[agent]
    arguments = (preset, *(TINY if agent in AGENTS else TINY_RUN), *changes)
    assert train(*arguments, "--run.dir", "whole", cwd=tmp_path).returncode == 0
    killed = train(
        *arguments, "--run.dir", "killed", cwd=tmp_path, failpoint="checkpoint.after_prune:kill:2"
    )
    assert killed.returncode == -9, killed.stderr
    whole = outcome(tmp_path / "whole")
    assert outcome(tmp_path / "killed") != whole
    resumed = train("--resume", "killed", "--env.num-workers", "1", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert outcome(tmp_path / "killed") == whole


def test_ended_by_a_signal_and_resumed_equals_never_stopped(tmp_path: Path) -> None:
    """Of a real game, whose save at other frames than the whole run's must not change it."""
    arguments = (*AGENTS["dqn"], *TINY, "--run.log-period", "400")
    assert train(*arguments, "--run.dir", "whole", cwd=tmp_path).returncode == 0
    done = train(*arguments, "--run.dir", "run", cwd=tmp_path, signal_at=1700)
    assert done.returncode == 130, done.stderr
    saved = read_checkpoint(latest_checkpoint(tmp_path / "run" / "checkpoints")).frames
    assert 1700 <= saved < 1716  # the four environments' step in which the signal came
    assert train("--resume", "run", cwd=tmp_path).returncode == 0
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


def test_default_threads_are_those_that_the_run_began_with(tmp_path: Path) -> None:
    """A run that is resumed where fewer cores are free ends as it would have where it began."""
    arguments = (*AGENTS["dqn"], *TINY, "--threads", "0", "--optim.batch-size", "16")
    two = {"OMP_NUM_THREADS": "2"}
    assert train(*arguments, "--run.dir", "whole", cwd=tmp_path, **two).returncode == 0
    failpoint = "checkpoint.after_prune:kill:2"
    train(*arguments, "--run.dir", "killed", cwd=tmp_path, failpoint=failpoint, **two)
    done = train("--resume", "killed", cwd=tmp_path, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stdout
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")
    one = train(*arguments, "--run.dir", "one", "--threads", "1", cwd=tmp_path)
    assert one.returncode == 0, one.stderr
    differs = outcome(tmp_path / "one")["files"] != outcome(tmp_path / "whole")["files"]
    assert differs == (available_cores() > 1)


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_anew(tmp_path: Path) -> None:
    assert train(*CATCH, cwd=tmp_path).returncode == 0
    whole = outcome(tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    for again in (CATCH, ["--resume", "run"]):
        killed = train(*CATCH, cwd=tmp_path, failpoint="checkpoint.before:kill:1")
        assert killed.returncode == -9
        assert (tmp_path / "run" / "metrics.jsonl").stat().st_size
        done = train(*again, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stderr == "warning: run: nothing was saved there yet; the run begins anew\n"
        assert (tmp_path / "run" / "metrics.jsonl.old").stat().st_size
        assert outcome(tmp_path / "run") == whole
        shutil.rmtree(tmp_path / "run")


def test_a_directory_with_files_of_another_program_keeps_them(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "events.out.tfevents.1.theirs").write_text("theirs")
    assert train(*CATCH, cwd=tmp_path).returncode == 0
    assert (tmp_path / "run" / "events.out.tfevents.1.theirs").read_text() == "theirs"


def test_a_directory_that_holds_a_run_says_how_to_go_on(tmp_path: Path) -> None:
    half_a_run(tmp_path)
    done = train(*CATCH, cwd=tmp_path)
    assert done.returncode == 1
    assert "run.dir: run holds a run already; go on with --resume run" in done.stderr


def test_runs_that_start_in_the_same_second_have_directories_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda _: "20260101-000000")
    names = []
    for _ in range(3):
        directory, lock = create_run_directory(TINY_PONG)
        os.close(lock)
        names.append(directory.name)
    first = "pong-dqn-nature-s1-20260101-000000"
    assert names == [first, f"{first}-2", f"{first}-3"]


def test_a_resume_to_other_frames_says_which_schedules_jump(tmp_path: Path) -> None:
    lr = ("--optim.lr-final-fraction", "0.05", "--optim.lr", "0.001")
    assert train(*CATCH, *lr, cwd=tmp_path).returncode == 0
    done = train("--resume", "run", "--total-frames", "5200", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rate, beta = (x for x in done.stdout.splitlines() if x.startswith("warning: "))
    assert "optim.lr goes from 5e-05 to 0.000525 here, since its schedule ends with the" in rate
    assert "at 5,200 frames and no longer at 2,800" in rate
    assert "beta goes from 1 to 0.7 here" in beta
    rows = read_metrics(tmp_path / "run")
    assert rows[-1]["lr"] == pytest.approx(5e-5, rel=0.1)
    assert next(row["beta"] for row in rows if "beta" in row) == pytest.approx(0.4)


def half_a_run(folder: Path) -> Path:
    """A run of the toy without its end; returns its last checkpoint."""
    assert train(*CATCH, cwd=folder).returncode == 0
    root = folder / "run" / "checkpoints"
    shutil.rmtree(list_checkpoints(root)[-1])
    return list_checkpoints(root)[-1]


def test_a_resume_with_another_fingerprint_says_that_it_may_differ(tmp_path: Path) -> None:
    newest = half_a_run(tmp_path)
    shutil.copytree(tmp_path / "run", tmp_path / "same")
    assert "warning: " not in train("--resume", "same", cwd=tmp_path).stdout
    manifest = newest / "manifest.json"
    body = json.loads(manifest.read_bytes())
    del body["manifest_crc32"]
    body["versions"]["torch"] = "0.1"
    del body["versions"]["ale_py"]  # as in the first checkpoints of format 1
    manifest.write_bytes(dump_json({**body, "manifest_crc32": crc32(dump_json(body))}))
    done = train("--resume", "run", "--threads", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    library, threads = (x for x in done.stdout.splitlines() if x.startswith("warning: "))
    assert f"torch was 0.1 and is {torch.__version__}, so the run need not" in library
    assert "threads was 1 and is 2, so the run need not" in threads


def test_a_resume_needs_memory_for_the_saved_replay_beside_the_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half_a_run(tmp_path)
    monkeypatch.chdir(tmp_path)
    live: list[TransitionReplay] = []
    real = TransitionReplay.__init__

    def init(replay: TransitionReplay, *arguments: Any, **others: Any) -> None:
        real(replay, *arguments, **others)
        live.append(replay)

    config = DqnConfig(
        env=EnvConfig(num_envs=4), replay=ReplayConfig(capacity=400, prioritized=True)
    )
    options = transition_options(config.env, config.net, config.agent, config.replay, (10, 10))
    room = math.ceil(options.memory_bytes / 0.9)

    def available() -> int:
        return room - sum(replay.bytes_used for replay in live)

    monkeypatch.setattr(TransitionReplay, "__init__", init)
    monkeypatch.setattr(memory, "available_bytes", available)
    with pytest.raises(ConfigError, match=r"replay\.capacity: needs .* GB"):
        main(["--resume", "run"])
    assert len(live) == 1


def test_checkpoints_share_the_frames_that_stay(tmp_path: Path) -> None:
    config = DqnConfig(
        env=EnvConfig(num_envs=1),
        net=NetConfig(stack=2),
        agent=DqnAgentConfig(n_step=1),
        replay=ReplayConfig(capacity=1_000),
    )
    replay = make_replay(config, (84, 84))
    rng = np.random.default_rng(0)
    paths: list[Path] = []
    for frames in (4, 8):
        for _ in range(400):
            noise = rng.integers(0, 256, (1, 84, 84), dtype=np.uint8)
            step = StepBatch(noise, np.zeros(1, np.float32), np.zeros(1, np.uint8))
            replay.append(step, Acted(np.zeros(1, np.int64)))
        previous = paths[-1] / "replay.bin" if paths else None

        def save(path: Path, previous: Path | None = previous) -> None:
            replay.save(path, split=True, previous=previous)

        snapshot = Snapshot(replay.bytes_used, save)
        paths.append(write_checkpoint(tmp_path, frames, {}, {}, 2, {"replay": snapshot}))
    shared, own = paths[1] / "replay-lane0-0.bin", paths[1] / "replay-lane0-1.bin"
    assert shared.samefile(paths[0] / shared.name)
    assert own.stat().st_nlink == 1
    loaded = make_replay(config, (84, 84))
    loaded.load(paths[1] / "replay.bin")
    assert loaded._core.num_rows == 800
    content = bytearray(own.read_bytes())
    content[1234] ^= 1
    own.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"replay-lane0-1\.bin: damaged"):
        verify_checkpoint(paths[1])
    verify_checkpoint(paths[0])
