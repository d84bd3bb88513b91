"""A run that is killed and resumed ends as the run that never stopped, bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from atari_fast.config import AgentConfig, Config, EnvConfig, NetConfig, ReplayConfig
from atari_fast.errors import CheckpointError
from atari_fast.infra.checkpoint import Snapshot, verify_checkpoint, write_checkpoint
from atari_fast.types import StepBatch
from commands import CATCH, outcome, train
from run_parts import make_replay

TINY = (
    *("--net.channels", "4", "4", "4", "--net.hidden", "16", "--threads", "1"),
    *("--env.lanes", "4", "--replay.capacity", "600", "--replay.min-frames", "800"),
    *("--optim.batch-size", "8", "--total-frames", "4800", "--run.log-period", "800"),
    *("--run.checkpoint-period", "1200", "--run.replay-period", "1200", "--run.eval-period", "0"),
    *("--run.no-tensorboard", "--run.no-finish"),
)
"""The second of four checkpoints is in the middle; the replay's ring has wrapped by then."""

AGENTS = {
    "dqn": ("dqn-nature", "--game", "breakout"),
    "dqn-lockstep": ("dqn-nature", "--game", "qbert", "--no-overlap"),
    "double-dueling-prioritized-n-step": (
        *("dqn-adam", "--game", "qbert", "--agent.double", "--agent.dueling", "--agent.n-step"),
        *("3", "--replay.prioritized", "--env.life-loss", "episodic", "--env.workers", "2"),
    ),
}
"""Each agent's arguments; a new agent joins with a line."""


@pytest.mark.parametrize("agent", AGENTS)
def test_killed_and_resumed_equals_never_stopped(agent: str, tmp_path: Path) -> None:
    arguments = (*AGENTS[agent], *TINY)
    assert train(*arguments, "--run.dir", "whole", cwd=tmp_path).returncode == 0
    killed = train(
        *arguments, "--run.dir", "killed", cwd=tmp_path, failpoint="checkpoint.after_prune:kill:2"
    )
    assert killed.returncode == -9, killed.stderr
    whole = outcome(tmp_path / "whole")
    assert outcome(tmp_path / "killed") != whole
    resumed = train("--resume", "killed", "--env.workers", "1", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert outcome(tmp_path / "killed") == whole


def test_spectral_norms_go_on_where_they_were(tmp_path: Path) -> None:
    impala = ("--net.torso", "impala", "--net.spectral-norm", "--net.layer-norm", "--net.pool", "1")
    arguments = (*CATCH, *impala, "--run.eval-episodes", "1")
    whole = train(*arguments, "--run.dir", "whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    killed = train(*arguments, cwd=tmp_path, failpoint="checkpoint.after_prune:kill:2")
    assert killed.returncode == -9, killed.stderr
    assert train("--resume", "run", cwd=tmp_path).returncode == 0
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


def test_checkpoints_share_the_frames_that_stay(tmp_path: Path) -> None:
    config = Config(
        env=EnvConfig(lanes=1),
        net=NetConfig(stack=2),
        agent=AgentConfig(n_step=1),
        replay=ReplayConfig(capacity=1_000),
    )
    replay = make_replay(config, (84, 84))
    rng = np.random.default_rng(0)
    paths: list[Path] = []
    for frames in (4, 8):
        for _ in range(400):
            noise = rng.integers(0, 256, (1, 84, 84), dtype=np.uint8)
            step = StepBatch(noise, np.zeros(1, np.float32), np.zeros(1, np.uint8))
            replay.append(step, np.zeros(1, np.int64))
        previous = paths[-1] / "replay.bin" if paths else None

        def save(path: Path, previous: Path | None = previous) -> None:
            replay.save(path, apart=True, previous=previous)

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
