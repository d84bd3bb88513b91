"""The smaller parts of the runtime."""

from __future__ import annotations

import dataclasses
import mmap
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from atari_fast.agents.registry import build
from atari_fast.agents.restore import TrainedAgent
from atari_fast.config import EnvConfig, NetConfig
from atari_fast.envs.atari_env import make_env
from atari_fast.errors import ConfigError
from atari_fast.replay.rate_limiter import RateLimiter
from atari_fast.runtime.action_gap import measure
from atari_fast.runtime.device import select_device, set_threads
from atari_fast.runtime.evaluation import evaluate
from atari_fast.runtime.recording import record_game
from atari_fast.schedules import linear
from atari_fast.seeding import stream
from atari_fast.types import EnvSpec
from run_parts import CPU, FP32, TINY_PONG, make_agent, with_agent


def test_linear_schedule_is_constant_outside_its_span() -> None:
    schedule = linear(1.0, 0.1, 100)
    assert [schedule(x) for x in (-5, 0, 100, 1000)] == [1.0, 1.0, 0.1, 0.1]
    assert schedule(50) == pytest.approx(0.55)
    assert linear(1.0, 0.2, 0)(0) == 0.2


def test_rate_limiter_owes_one_update_for_each_period_after_the_start() -> None:
    limiter = RateLimiter(min_frames=100, period=16)
    assert [limiter.due(f, 0) for f in (0, 100, 115, 116, 131, 132, 260)] == [0, 0, 0, 1, 1, 2, 10]
    assert limiter.due(260, 10) == 0


def test_select_device_refuses_what_is_not_there() -> None:
    with pytest.raises(ConfigError, match="device"):
        select_device("cuda:77")
    assert select_device("cpu") == CPU


@pytest.mark.parametrize("threads", [-1, 4097])
def test_set_threads_refuses_what_is_out_of_range(threads: int) -> None:
    with pytest.raises(ConfigError, match=f"threads: expected .* 0 to 4096, got {threads}"):
        set_threads(threads)


def test_freed_memory_is_kept_for_the_next_update() -> None:
    """Blocks as an update takes and frees them: 45 MB at a time, and no page is new."""
    code = """
import resource, torch
from atari_fast.runtime.device import keep_freed_memory
keep_freed_memory()
counts = []
for _ in range(12):
    blocks = [torch.ones(5 << 18) for _ in range(9)]
    del blocks
    counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(counts[-1] - counts[-3])
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) * mmap.PAGESIZE < 16 << 20  # two times 45 MB otherwise


def test_evaluation_plays_full_games_with_raw_rewards() -> None:
    """Training ends episodes at lost lives and clips; an evaluation does neither."""
    config = dataclasses.replace(
        TINY_PONG,
        game="breakout",
        env=EnvConfig(num_envs=2, life_loss="episodic"),
        net=NetConfig(stack=1),
    )

    def q_values(observations: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(observations), 4)

    spec = EnvSpec((84, 84), tuple("ABCD"))
    agent = make_agent(config, spec, q_values)
    result = evaluate(agent, config, spec, CPU, FP32, episodes=5, epsilon=1.0, seed=3, num_envs=2)
    assert len(result.scores) == 5
    assert all(score == int(score) for score in result.scores)
    assert result.frames / 5 > 4 * 150  # five lives, not one
    assert result == evaluate(
        agent, config, spec, CPU, FP32, episodes=5, epsilon=1.0, seed=3, num_envs=2
    )
    one = evaluate(agent, config, spec, CPU, FP32, episodes=1, epsilon=1.0, seed=3, num_envs=8)
    assert len(one.scores) == 1


def iqn_agent() -> TrainedAgent:
    config = with_agent(TINY_PONG, "iqn", taus=4, taus_acting=4, cosines=4)
    env = make_env(config.game, config.env, stream(0, "spec"))
    torch.manual_seed(0)
    return TrainedAgent(Path("iqn"), 0, config, env.spec, build(config, env.spec, CPU))


@pytest.mark.parametrize("protocol", ["deepmind", "machado"])
def test_the_score_of_a_game_depends_on_the_seed_and_its_number_alone(protocol: str) -> None:
    """On a game whose chance is the emulator's, too, for any number of environments and workers."""
    env = EnvConfig(num_envs=1, protocol=protocol, max_episode_frames=2_400)
    config = dataclasses.replace(TINY_PONG, game="boxing", env=env)
    spec = make_env("boxing", env, stream(0, "x")).spec
    torch.manual_seed(0)
    agent = build(config, spec, CPU)

    def scores(games: int, num_envs: int, num_workers: int = 0) -> tuple[float, ...]:
        workers_too = dataclasses.replace(env, num_workers=num_workers)
        settings = dataclasses.replace(config, env=workers_too)
        return evaluate(
            agent, settings, spec, CPU, FP32, episodes=games, epsilon=0.5, seed=3,
            num_envs=num_envs,
        ).scores  # fmt: skip

    five = scores(5, num_envs=5)
    assert len(set(five)) > 1
    assert scores(5, num_envs=1) == five
    assert scores(5, num_envs=2, num_workers=2) == five
    assert scores(3, num_envs=16) == five[:3]


def frames_of(path: Path) -> np.ndarray:
    video = cv2.VideoCapture(str(path))
    frames = []
    while (found := video.read())[0]:
        frames.append(found[1])
    return np.stack(frames)


def test_recordings_of_random_quantiles_repeat_and_leave_torch_alone(tmp_path: Path) -> None:
    agent = iqn_agent()
    states = []
    for name in ("a", "b"):
        torch.rand(7)
        states.append(torch.get_rng_state())
        record_game(agent, tmp_path / f"{name}.webm", CPU, epsilon=0.0, seed=3, max_seconds=3)
        assert torch.equal(torch.get_rng_state(), states[-1])
    first, second = (frames_of(tmp_path / f"{name}.webm") for name in ("a", "b"))
    assert len(first) > 100
    assert np.array_equal(first, second)


def test_gaps_of_an_agent_do_not_depend_on_the_others() -> None:
    agent = iqn_agent()
    observations = torch.randint(0, 256, (5, 4, 84, 84), dtype=torch.uint8)
    alone = measure({"iqn": agent}, observations, CPU)
    beside = measure({"other": agent, "iqn": agent}, observations, CPU)
    for name, values in alone.items():
        np.testing.assert_array_equal(values[0], beside[name][1])
