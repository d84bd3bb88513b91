"""The toys that need a memory: what they show, and what they reward."""

from __future__ import annotations

import numpy as np
import pytest

from atari_fast.config import EnvConfig
from atari_fast.envs.atari_env import make_env
from atari_fast.envs.memory_toys import Recall, TMaze
from atari_fast.seeding import stream
from atari_fast.types import Flag

UP, RIGHT, DOWN = range(3)


@pytest.mark.parametrize("wrong", [False, True])
def test_the_first_frame_of_a_t_maze_alone_tells_where_the_goal_is(wrong: bool) -> None:
    env, sides = TMaze(stream(1, "toy")), set()
    out = np.zeros(env.spec.frame_shape, np.uint8)
    for _ in range(20):
        assert env.step(UP, out) == (0.0, Flag.FIRST)  # the action is ignored
        (goal,) = np.flatnonzero(out[[0, 2], 0])
        sides.add(goal)
        for column in range(1, TMaze.LENGTH):
            assert env.step(UP, out) == (0.0, 0)  # nothing but RIGHT moves in the corridor
            assert env.step(RIGHT, out) == (0.0, 0) if column < 5 else True
            if column >= 5:
                env.step(RIGHT, out)
            assert np.argwhere(out).tolist() == [[1, column]]
        right = UP if goal == 0 else DOWN
        action = UP + DOWN - right if wrong else right
        assert env.step(action, out) == (-1.0 if wrong else 1.0, Flag.TERMINATED)
    assert sides == {0, 1}


def test_a_t_maze_ends_when_the_agent_takes_too_long() -> None:
    env = TMaze(stream(1, "toy"))
    out = np.zeros(env.spec.frame_shape, np.uint8)
    env.step(0, out)
    found = [env.step(UP, out) for _ in range(3 * TMaze.LENGTH)]
    assert found == [(0.0, 0)] * (3 * TMaze.LENGTH - 1) + [(-1.0, Flag.TERMINATED)]


@pytest.mark.parametrize("answer_right", [True, False])
def test_recall_rewards_the_symbol_of_the_first_frame(answer_right: bool) -> None:
    env, symbols = Recall(stream(3, "toy")), set()
    out = np.zeros(env.spec.frame_shape, np.uint8)
    for _ in range(30):
        assert env.step(0, out) == (0.0, Flag.FIRST)
        symbol = int(np.argmax(out[0]))
        symbols.add(symbol)
        for step in range(Recall.DELAY):
            assert env.step(step % 4, out) == (0.0, 0)
            assert not out[0].any()
            assert out[1].all() == (step == Recall.DELAY - 1)
        action = symbol if answer_right else (symbol + 1) % 4
        assert env.step(action, out) == (float(answer_right), Flag.TERMINATED)
    assert symbols == set(range(4))


@pytest.mark.parametrize("name", ["t_maze", "recall", "noisy_corridor"])
def test_a_toy_goes_on_from_its_state(name: str) -> None:
    env, other = (make_env(name, EnvConfig(), stream(seed, "toy")) for seed in (1, 2))
    a, b = (np.zeros(env.spec.frame_shape, np.uint8) for _ in range(2))
    rng = np.random.default_rng(0)
    for _ in range(50):
        for _ in range(7):
            env.step(int(rng.integers(env.spec.num_actions)), a)
        other.load_state(env.state())
        assert np.array_equal(other.screen_rgb(), env.screen_rgb())
        action = int(rng.integers(env.spec.num_actions))
        assert env.step(action, a) == other.step(action, b)
        assert np.array_equal(a, b)
        assert env.screen_rgb().shape == (16 * a.shape[0], 16 * a.shape[1], 3)
