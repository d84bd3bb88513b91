"""A run that is killed and resumed ends as the run that never stopped, bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest

from commands import outcome, train

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
