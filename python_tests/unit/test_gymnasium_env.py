from __future__ import annotations

import multiprocessing
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import DictInfoToList, RecordEpisodeStatistics

from atari_fast.config import EnvConfig
from atari_fast.envs.atari_env import make_env
from atari_fast.envs.gymnasium_env import AtariFastVectorEnv
from atari_fast.envs.vector_env import VectorEnv
from atari_fast.errors import ConfigError, EnvError, WorkerError
from atari_fast.seeding import child, stream
from atari_fast.types import Flag


def test_spaces() -> None:
    env = AtariFastVectorEnv("ALE/Pong-v5", num_envs=3)
    assert isinstance(env, gymnasium.vector.VectorEnv)
    assert env.num_envs == 3
    assert env.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert env.single_observation_space.shape == (4, 84, 84)
    assert env.observation_space.shape == (3, 4, 84, 84)
    assert env.observation_space.dtype == np.uint8
    assert env.single_action_space.n == 6
    assert env.action_space.contains(env.action_space.sample())
    env.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_the_interface_of_gymnasium(workers: int) -> None:
    env = AtariFastVectorEnv("breakout", num_envs=2, config=EnvConfig(num_workers=workers), stack=2)
    env.action_space.seed(1)
    observations, infos = env.reset(seed=3)
    assert env.observation_space.contains(observations)
    assert isinstance(infos, dict)
    for _ in range(5):
        observations, rewards, terminations, truncations, infos = env.step(
            env.action_space.sample()
        )
        assert env.observation_space.contains(observations)
        assert rewards.shape == terminations.shape == truncations.shape == (2,)
        assert rewards.dtype == np.float64
        assert terminations.dtype == truncations.dtype == np.bool_
        assert isinstance(infos, dict)
    env.close()
    env.close()
    assert env.closed


def _transcript(env: AtariFastVectorEnv, seed: int | None, steps: int = 12) -> list[bytes]:
    observations, _ = env.reset(seed=seed)
    log = [observations.tobytes()]
    rng = np.random.default_rng(0)
    for _ in range(steps):
        result = env.step(rng.integers(env.single_action_space.n, size=env.num_envs))
        log += [np.asarray(array).tobytes() for array in result[:4]]
    return log


def test_seeding() -> None:
    env = AtariFastVectorEnv("ms_pacman", num_envs=2)
    first = _transcript(env, 5)
    assert _transcript(env, None) != first
    assert _transcript(env, 5) == first
    assert _transcript(env, 6) != first
    other = AtariFastVectorEnv("ms_pacman", num_envs=2)
    assert _transcript(other, 5) == first
    assert _transcript(AtariFastVectorEnv("catch"), None) != _transcript(
        AtariFastVectorEnv("catch"), None
    )


@pytest.mark.parametrize("stack", [1, 3])
def test_stacks_hold_one_episode_and_the_last_frame_is_the_true_one(stack: int) -> None:
    config = EnvConfig(num_envs=4, max_episode_frames=28)
    env = AtariFastVectorEnv("ms_pacman", num_envs=4, config=config, stack=stack)
    envs = VectorEnv("ms_pacman", config, child(stream(2, "env"), 0))
    rng = np.random.default_rng(0)
    observations, _ = env.reset(seed=2)
    batch = envs.step(np.zeros(4, np.int64))
    episodes: list[list[Any]] = [[batch.frames[i].copy()] for i in range(4)]
    ends = 0
    for step in range(60):
        for i, frames in enumerate(episodes):
            expected = [np.zeros((84, 84), np.uint8)] * stack + frames
            np.testing.assert_array_equal(observations[i], expected[-stack:])
        actions = rng.integers(9, size=4)
        observations, rewards, terminations, truncations, _ = env.step(actions)
        batch = envs.step(actions)
        np.testing.assert_array_equal(rewards, batch.rewards)
        np.testing.assert_array_equal(truncations, batch.flags == Flag.TRUNCATED)
        assert not terminations.any()
        assert truncations.all() == ((step + 1) % 8 == 7)
        ends += int(truncations.sum())
        for i in range(4):
            if batch.flags[i] & Flag.FIRST:
                episodes[i] = []
            episodes[i].append(batch.frames[i].copy())
    assert ends == 4 * 7


def test_observations_belong_to_the_caller() -> None:
    env = AtariFastVectorEnv("catch", num_envs=2, stack=2)
    first, _ = env.reset(seed=1)
    before = first.copy()
    second = env.step(np.ones(2, np.int64))[0]
    np.testing.assert_array_equal(first, before)
    second_before = second.copy()
    second[...] = 9
    third = env.step(np.ones(2, np.int64))[0]
    np.testing.assert_array_equal(third[:, 0], second_before[:, 1])


def test_episode_statistics_of_gymnasium() -> None:
    env = RecordEpisodeStatistics(AtariFastVectorEnv("catch", num_envs=8))
    env.reset(seed=1)
    rng = np.random.default_rng(0)
    score = np.zeros(8)
    returns, expected, lengths = [], [], []
    for _ in range(60):
        _, rewards, terminations, _, infos = env.step(rng.integers(3, size=8))
        score += rewards
        for index in np.flatnonzero(terminations):
            returns.append(infos["episode"]["r"][index])
            lengths.append(infos["episode"]["l"][index])
            expected.append(score[index])
            score[index] = 0
    assert len(returns) == 8 * 6
    assert set(returns) == {-1.0, 1.0}
    assert returns == expected
    assert set(lengths) == {9}
    env.reset(options={"reset_mask": np.arange(8) == 1})
    for _ in range(9):
        _, _, _, _, infos = env.step(rng.integers(3, size=8))
    assert infos["episode"]["l"][1] == 9
    env.close()


def test_life_losses_are_told() -> None:
    config = EnvConfig(life_loss="zero_discount")
    env = AtariFastVectorEnv("breakout", num_envs=1, config=config)
    env.reset(seed=1)
    lost = 0
    fire = env.action_names.index("FIRE")
    for _ in range(400):
        _, _, terminations, _, infos = env.step(np.array([fire]))
        lost += int(infos["life_lost"][0])
        if terminations[0]:
            break
    assert lost == 4
    env.close()


def test_misuse() -> None:
    with pytest.raises(EnvError, match="breakout"):
        AtariFastVectorEnv("breakot")
    with pytest.raises(ConfigError, match="stack: got 8 and 0"):
        AtariFastVectorEnv("catch", stack=0)
    env = AtariFastVectorEnv("catch", num_envs=2)
    with pytest.raises(EnvError, match="call reset"):
        env.step(np.zeros(2, np.int64))
    env.reset(seed=1)
    with pytest.raises(EnvError, match="got 3 in environment 1"):
        env.step(np.array([0, 3]))
    with pytest.raises(EnvError, match=r"got int64\[3\]"):
        env.step(np.zeros(3, np.int64))
    with pytest.raises(EnvError, match=r"got float64\[2\]"):
        env.step(np.array([0.5, 1.0]))
    with pytest.raises(EnvError, match="render_mode='rgb_array'"):
        env.render()
    env.close()
    env.close()
    with pytest.raises(EnvError, match="call reset"):
        env.step(np.zeros(2, np.int64))
    with pytest.raises(EnvError, match="reset: the environment is closed"):
        env.reset()
    with pytest.raises(ConfigError, match="render_mode: got 'human', expected rgb_array or None"):
        AtariFastVectorEnv("catch", render_mode="human")
    with pytest.raises(ConfigError, match="got -1 and 4"):
        AtariFastVectorEnv("catch", num_envs=-1)


def _play(env: AtariFastVectorEnv, steps: int, first: int = 0) -> list[Any]:
    """Observations, rewards and infos of some steps with settled actions."""
    actions = np.random.default_rng(7).integers(3, size=(100, env.num_envs))
    results = [env.step(actions[step]) for step in range(first, first + steps)]
    return [
        (observations, rewards, infos["lives"]) for observations, rewards, _, _, infos in results
    ]


def _copy(results: list[Any], index: int) -> list[bytes]:
    """What one copy delivered."""
    return [b"".join(array[index].tobytes() for array in step) for step in results]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_reset_of_some_copies_leaves_the_others_as_they_were(workers: int) -> None:
    config = EnvConfig(num_workers=workers)
    env = AtariFastVectorEnv("breakout", num_envs=3, config=config)
    untouched = AtariFastVectorEnv("breakout", num_envs=3)
    before = [e.reset(seed=4)[0] for e in (env, untouched)]
    np.testing.assert_array_equal(*before)
    last = _play(untouched, 5)
    assert _copy(_play(env, 5), 1) == _copy(last, 1)
    mask = np.array([False, True, False])
    options = {"reset_mask": mask}
    observations, infos = env.reset(seed=[None, 9, None], options=options)
    assert options["reset_mask"] is mask
    np.testing.assert_array_equal(observations[[0, 2]], last[-1][0][[0, 2]])
    assert not observations[1, :3].any()
    np.testing.assert_array_equal(infos["_lives"], mask)
    np.testing.assert_array_equal(infos["lives"], 5 * mask)
    results, expected = _play(env, 30, 5), _play(untouched, 30, 5)
    assert _copy(results, 0) == _copy(expected, 0)
    assert _copy(results, 2) == _copy(expected, 2)
    alone = AtariFastVectorEnv("breakout", num_envs=1)
    np.testing.assert_array_equal(observations[1], alone.reset(seed=9)[0][0])
    actions = np.random.default_rng(7).integers(3, size=(100, 3))[5:35, 1]
    for result, action in zip(results, actions, strict=True):
        np.testing.assert_array_equal(result[0][1], alone.step(np.array([action]))[0][0])
    for each in (env, untouched, alone):
        each.close()


def test_a_reset_of_a_copy_that_is_over_begins_no_second_episode() -> None:
    env = AtariFastVectorEnv("catch", num_envs=2)
    env.reset(seed=1)
    for _ in range(9):
        _, _, terminations, _, _ = env.step(np.ones(2, np.int64))
    assert terminations.all()
    first, _ = env.reset(options={"reset_mask": np.array([True, False])})
    assert first[0, -1, 0].any()
    observations, *_ = env.step(np.ones(2, np.int64))
    assert not observations[0, -1, 0].any()  # the ball fell
    assert observations[1, -1, 0].any()  # the first row of a new episode
    env.close()


@pytest.mark.parametrize(
    ("mask", "kind"),
    [
        ([True, False], TypeError),
        (np.array([1, 0]), TypeError),
        (np.array([True]), ValueError),
        (np.array([[True, False]]), ValueError),
        (np.zeros(2, np.bool_), ValueError),
    ],
)
def test_wrong_masks_are_refused_as_gymnasium_does(mask: Any, kind: type[Exception]) -> None:
    env = AtariFastVectorEnv("catch", num_envs=2)
    env.reset(seed=1)
    with pytest.raises(kind, match=r"options\['reset_mask'\]: got"):
        env.reset(options={"reset_mask": mask})
    env.close()


def test_wrong_resets() -> None:
    env = AtariFastVectorEnv("catch", num_envs=2)
    with pytest.raises(EnvError, match="reset all of them first"):
        env.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(ConfigError, match="options: got 'mask', expected none but 'reset_mask'"):
        env.reset(options={"mask": np.array([True, False])})
    with pytest.raises(ValueError, match="got a list of 3, expected one for each of 2 copies"):
        env.reset(seed=[1, 2, 3])
    with pytest.raises(ValueError, match="seed: got -1, expected 0 or above"):
        env.reset(seed=-1)
    with pytest.raises(TypeError, match=r"seed: got 1\.5, expected integers"):
        env.reset(seed=[1, 1.5])  # type: ignore[list-item]
    env.reset(seed=np.int64(2**40))
    env.close()


def test_seeds() -> None:
    def games(seed: Any, resets: int = 1) -> list[bytes]:
        env = AtariFastVectorEnv("catch", num_envs=3)
        env.reset(seed=seed)
        for _ in range(resets - 1):
            env.reset()
        results = _play(env, 60)
        env.close()
        return [b"".join(_copy(results, index)) for index in range(3)]

    assert games(5) == games(5)
    assert games(5) != games(6)
    assert games(5) != games(5, resets=2) == games(5, resets=2)
    assert len(set(games(5))) == 3
    assert games([5, None, None])[0] == games([5, 6, 7])[0] == games(5)[0]
    assert games([5, 6, 7])[1:] == games([4, 6, 7])[1:]
    assert games([5, 6, 7]) != games([7, 6, 5])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("game", "shape"), [("breakout", (210, 160, 3)), ("catch", (160, 80, 3))])
def test_rendering(workers: int, game: str, shape: tuple[int, ...]) -> None:
    config = EnvConfig(num_workers=workers)
    env = AtariFastVectorEnv(game, num_envs=3, config=config, render_mode="rgb_array")
    assert env.metadata["render_modes"] == ["rgb_array"]
    assert env.metadata["render_fps"] == 15
    with pytest.raises(EnvError, match="call reset"):
        env.render()
    env.reset(seed=2)
    root = child(stream(2, "env"), 0)
    singles = [make_env(game, config, child(root, index)) for index in range(3)]
    out = np.zeros(singles[0].spec.frame_shape, np.uint8)
    for step in range(12):
        for single in singles:
            single.step(step % 3, out)
        screens = env.render()
        assert isinstance(screens, tuple)
        for screen, single in zip(screens, singles, strict=True):
            assert (screen.shape, screen.dtype) == (shape, np.uint8)
            np.testing.assert_array_equal(screen, single.screen_rgb())
        env.step(np.full(3, (step + 1) % 3))
    before = [screen.copy() for screen in screens]
    env.render()
    np.testing.assert_array_equal(screens, before)
    screens[0][...] = 1  # the caller's own
    env.close()


def test_attributes_of_the_copies() -> None:
    env = AtariFastVectorEnv("breakout", num_envs=2, render_mode="rgb_array")
    with pytest.raises(EnvError, match="call reset"):
        env.get_attr("lives")
    env.reset(seed=1)
    assert env.get_attr("lives") == (5, 5)
    assert env.get_attr("action_names") == (("NOOP", "FIRE", "RIGHT", "LEFT"),) * 2
    assert env.call("get_action_meanings") == (["NOOP", "FIRE", "RIGHT", "LEFT"],) * 2
    assert env.get_attr("action_space") == (env.single_action_space,) * 2
    np.testing.assert_array_equal(env.call("render"), env.render())
    with pytest.raises(AttributeError, match=r"ale: .* they have render, lives, get_action_meani"):
        env.get_attr("ale")
    with pytest.raises(TypeError, match="render: got arguments, expected none"):
        env.call("render", 1)
    with pytest.raises(AttributeError, match="make a new AtariFastVectorEnv"):
        env.set_attr("frameskip", 4)
    env.close()


@pytest.mark.parametrize("workers", [0, 1])
def test_lives_in_the_infos(workers: int) -> None:
    env = DictInfoToList(
        AtariFastVectorEnv("breakout", num_envs=2, config=EnvConfig(num_workers=workers))
    )
    _, infos = env.reset(seed=1)
    assert [info["lives"] for info in infos] == [5, 5]
    seen = set()
    for _ in range(400):
        _, _, terminations, _, infos = env.step(np.array([1, 1]))
        seen.add(infos[0]["lives"])
        if terminations[0]:
            break
    assert infos[0]["lives"] == 0
    assert seen == {0, 1, 2, 3, 4, 5}
    env.close()


def test_its_specification_makes_another() -> None:
    env = AtariFastVectorEnv(
        "ALE/Pong-v5", num_envs=2, stack=3, config=EnvConfig(action_set="full")
    )
    assert env.spec is not None
    assert env.spec.id == "atari_fast/pong"
    other = gymnasium.make_vec(env.spec, num_envs=5)
    assert isinstance(other, AtariFastVectorEnv)
    assert other.num_envs == 5
    assert other.single_observation_space == env.single_observation_space
    assert other.single_action_space == env.single_action_space
    other.close()
    env.close()


def test_a_reset_after_a_worker_died_begins_anew() -> None:
    env = AtariFastVectorEnv("catch", num_envs=2, config=EnvConfig(num_workers=1))
    expected, _ = env.reset(seed=3)
    (process,) = multiprocessing.active_children()
    process.kill()
    with pytest.raises(WorkerError):
        env.step(np.zeros(2, np.int64))
    with pytest.raises(EnvError, match="call reset"):
        env.step(np.zeros(2, np.int64))
    np.testing.assert_array_equal(env.reset(seed=3)[0], expected)
    env.close()
