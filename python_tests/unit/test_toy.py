from __future__ import annotations

import numpy as np
import pytest

from atari_fast.config import EnvConfig
from atari_fast.envs.atari_env import make_env
from atari_fast.envs.toy import Catch, Chain
from atari_fast.errors import EnvError
from atari_fast.seeding import stream
from atari_fast.types import Flag


def _frame(env: Catch | Chain) -> np.ndarray:
    return np.full(env.spec.frame_shape, 7, dtype=np.uint8)


def test_catch_is_won_by_walking_under_the_ball() -> None:
    env = Catch(stream(1, "toy"))
    out = _frame(env)
    columns = set()
    for _ in range(100):
        assert env.step(99, out) == (0.0, Flag.FIRST)  # the action is ignored
        columns.add(int(np.argmax(out[0])))
        for step in range(1, 10):
            ball, paddle = int(np.argmax(out[step - 1])), int(np.argmax(out[9]))
            reward, flags = env.step(1 + int(np.sign(ball - paddle)), out)
            assert out[step, ball] == 255
            assert int(np.count_nonzero(out)) == (1 if step == 9 else 2)
            assert (reward, flags) == ((1.0, Flag.TERMINATED) if step == 9 else (0.0, 0))
    assert columns == set(range(5))


def test_catch_is_lost_elsewhere_and_the_paddle_stays_inside() -> None:
    env = Catch(stream(2, "toy"))
    out = _frame(env)
    rewards = []
    for _ in range(50):
        env.step(0, out)
        ball = int(np.argmax(out[0]))
        away = 2 if ball < 3 else 0
        results = [env.step(away, out) for _ in range(9)]
        rewards.append(results[-1][0])
        assert int(np.argmax(out[9])) in (0, 4, ball)
    assert set(rewards) == {-1.0}


def test_catch_depends_on_its_seed_alone() -> None:
    def play(seed: int) -> bytes:
        env = Catch(stream(seed, "toy"))
        out = _frame(env)
        frames = []
        for step in range(300):
            env.step(step % 3, out)
            frames.append(out.tobytes())
        return b"".join(frames)

    assert play(3) == play(3)
    assert play(3) != play(4)


def test_chain_ends_with_reward_on_the_right() -> None:
    env = Chain(length=4)
    out = _frame(env)
    expected = [(0.0, Flag.FIRST), (0.0, 0), (0.0, 0), (0.0, 0), (0.0, 0), (1.0, Flag.TERMINATED)]
    states = []
    for (reward, flags), action in zip(expected, [0, 0, 1, 1, 0, 1], strict=True):
        if flags == Flag.TERMINATED:
            env.step(1, out)
        assert env.step(action, out) == (reward, flags)
        assert out.sum() == 255
        states.append(int(np.argmax(out)))
    assert states == [0, 0, 1, 2, 1, 3]
    assert env.step(1, out) == (0.0, Flag.FIRST)
    assert int(np.argmax(out)) == 0


def test_endless_chain_pays_every_step_and_is_truncated() -> None:
    env = Chain(length=3, step_reward=0.5, endless=True, max_steps=5)
    out = _frame(env)
    for _ in range(3):
        results = [env.step(1, out) for _ in range(6)]
        assert results[0] == (0.0, Flag.FIRST)
        assert results[1:5] == [(0.5, 0)] * 4
        assert results[5] == (0.5, Flag.TRUNCATED)
        assert int(np.argmax(out)) == 2  # the true last state


def test_end_wins_over_cap() -> None:
    env = Chain(length=3, max_steps=2)
    out = _frame(env)
    assert [env.step(1, out)[1] for _ in range(3)] == [Flag.FIRST, 0, Flag.TERMINATED]


def test_cap_comes_from_the_config() -> None:
    env = make_env("chain", EnvConfig(max_episode_frames=12), stream(1, "toy"))
    out = np.zeros(env.spec.frame_shape, dtype=np.uint8)
    assert [env.step(0, out)[1] for _ in range(5)] == [
        Flag.FIRST,
        0,
        0,
        Flag.TRUNCATED,
        Flag.FIRST,
    ]


@pytest.mark.parametrize("game", ["catch", "chain"])
@pytest.mark.parametrize("action", [-1, 3])
def test_wrong_action(game: str, action: int) -> None:
    env = make_env(game, EnvConfig(), stream(1, "toy"))
    out = np.zeros(env.spec.frame_shape, dtype=np.uint8)
    env.step(0, out)
    with pytest.raises(EnvError, match=f"action: got {action}"):
        env.step(action, out)
