"""What Python programs use: `atari_fast.train`, `load_agent`, `__version__`."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import atari_fast
import atari_fast.train
from atari_fast.config import (
    DqnAgentConfig,
    DqnConfig,
    EnvConfig,
    NetConfig,
    ReplayConfig,
    RunConfig,
)
from atari_fast.errors import CheckpointError, ConfigError, WorkerError
from atari_fast.types import Flag, StepBatch
from run_parts import make_actor

CATCH = DqnConfig(
    game="catch",
    precision="fp32",
    threads=1,
    total_frames=4_000,
    env=EnvConfig(num_envs=4),
    net=NetConfig(torso="mlp", stack=2, hidden=16),
    agent=DqnAgentConfig(target_period=800),
    replay=ReplayConfig(capacity=500, min_frames=800),
    run=RunConfig(eval_period=2_000, eval_episodes=4, tensorboard=False),
)


def trained(directory: Path) -> atari_fast.train.TrainingResult:
    run = dataclasses.replace(CATCH.run, dir=str(directory))
    return atari_fast.train(dataclasses.replace(CATCH, run=run))


def test_version_is_that_of_the_package() -> None:
    assert atari_fast.__version__ == importlib.metadata.version("atari_fast")


def test_the_package_imports_no_torch_and_says_what_it_lacks() -> None:
    program = (
        "import sys, atari_fast; atari_fast.__version__; assert 'torch' not in sys.modules\n"
        "from atari_fast import train, load_agent\n"
        "assert callable(train) and callable(train.main) and callable(load_agent)\n"
        "try: atari_fast.nothing\n"
        "except AttributeError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "module 'atari_fast' has no attribute 'nothing'", done.stderr


def test_train_trains_and_load_agent_plays(tmp_path: Path) -> None:
    result = trained(tmp_path / "run")
    assert result.finished
    assert result.directory == tmp_path / "run"
    assert -1 <= result.best_score <= 1
    assert (tmp_path / "run" / "plots" / "curves.png").exists()
    agent = atari_fast.load_agent(tmp_path / "run", which="last")
    assert agent.config.game == "catch"
    assert agent.action_names == ("LEFT", "NOOP", "RIGHT")
    env = agent.make_env(3)
    observations, _ = env.reset(seed=1)
    for _ in range(30):
        actions = agent.act(observations)
        assert actions.dtype == np.int64
        assert actions.tolist() == agent.q_values(observations).argmax(axis=1).tolist()
        observations, *_ = env.step(actions)
    env.close()


def test_actions_are_those_of_the_actor_that_trains_and_evaluates(tmp_path: Path) -> None:
    trained(tmp_path / "run")
    agent = atari_fast.load_agent(tmp_path / "run")
    actor = make_actor(agent._agent.agent, agent._agent.spec, num_envs=1)
    env = agent.make_env(1)
    observations, _ = env.reset(seed=3)
    ended, begins = np.zeros(1, bool), True
    for _ in range(25):
        flags = np.array([Flag.FIRST if begins else 0], np.uint8)
        step = StepBatch(observations[:, -1], np.zeros(1, np.float32), flags)
        actions = actor.act(step).actions
        assert agent.act(observations).tolist() == actions.tolist()
        begins = bool(ended[0])  # the step after the end of an episode begins the next one
        observations, _, ended, _, _ = env.step(actions)
    env.close()


def test_epsilon_is_the_share_of_random_actions(tmp_path: Path) -> None:
    trained(tmp_path / "run")
    agent = atari_fast.load_agent(tmp_path / "run")
    blank = np.zeros((3_000, 2, *agent._agent.spec.frame_shape), np.uint8)
    (best,) = set(agent.act(blank))
    agent.seed(0)
    drawn = agent.act(blank, epsilon=0.6)
    share = np.mean(drawn != best)
    assert abs(share - 0.6 * 2 / 3) < 5 * (0.4 * 0.6 / 3_000) ** 0.5
    agent.seed(0)
    assert agent.act(blank, epsilon=0.6).tolist() == drawn.tolist()


PONG = [
    *("pong", "--run.dir", "run", "--total-frames", "1600", "--net.channels", "4", "4", "4"),
    *("--net.hidden", "16", "--env.num-envs", "8", "--replay.min-frames", "800", "--run.no-finish"),
    *("--replay.capacity", "1000", "--agent.target-period", "400", "--run.eval-period", "0"),
]


def test_the_command_does_without_the_workers_that_it_chose_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise WorkerError("worker 0 cannot be started (no process is left)")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("atari_fast.train.available_cores", lambda: 4)
    monkeypatch.setattr("atari_fast.envs.vector_env.start_worker", fails)
    with pytest.warns(RuntimeWarning, match="worker 0 cannot be started .* without worker proc"):
        assert atari_fast.train.main(PONG) == 0
    with pytest.raises(WorkerError, match="cannot be started"):
        atari_fast.train.main([*PONG, "--env.num-workers", "2", "--run.dir", "other"])
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("cores", "num_envs", "workers"), [(1, 8, 0), (2, 8, 1), (16, 8, 2), (4, 1, 0)]
)
def test_the_command_chooses_workers_from_cores_and_envs(
    cores: int, num_envs: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atari_fast.train.available_cores", lambda: cores)
    env = dataclasses.replace(CATCH.env, num_envs=num_envs)
    config = dataclasses.replace(CATCH, game="pong", env=env)
    assert atari_fast.train._with_workers(config).env.num_workers == workers
    toy = dataclasses.replace(config, game="catch")
    assert atari_fast.train._with_workers(toy).env.num_workers == 0
    asked = dataclasses.replace(config, env=dataclasses.replace(env, num_workers=1))
    assert atari_fast.train._with_workers(asked) is asked


def test_mistakes_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoints are there"):
        atari_fast.load_agent(tmp_path)
    with pytest.raises(ConfigError, match="which: expected best or last, got 'worst'"):
        atari_fast.load_agent(tmp_path, which="worst")
    with pytest.raises(ConfigError, match=r"optim\.lr: expected a number above 0"):
        atari_fast.train(
            dataclasses.replace(CATCH, optim=dataclasses.replace(CATCH.optim, lr=-1.0))
        )
    trained(tmp_path / "run")
    agent = atari_fast.load_agent(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"expected uint8\[E, 2, 10, 5\], got float64\[1, 2, 10"):
        agent.act(np.zeros((1, 2, 10, 5)))
    with pytest.raises(ConfigError, match="epsilon: expected a number from 0 to 1, got 2"):
        agent.act(np.zeros((1, 2, 10, 5), np.uint8), epsilon=2)
