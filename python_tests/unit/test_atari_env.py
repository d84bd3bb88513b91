"""What an environment delivers and refuses: flags, last frames, lives, colour, ROMs."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest

from atari_fast.config import EnvConfig
from atari_fast.envs.atari_env import RESET_GAMES, AtariEnv, make_env
from atari_fast.errors import EnvError
from atari_fast.games import GAMES
from atari_fast.seeding import child, stream
from atari_fast.types import Flag
from emulator import Frame, emulator, record, resize


def test_reset_games_are_games() -> None:
    assert set(GAMES) > RESET_GAMES


@pytest.mark.parametrize("cap", [1, 2, 3, 4, 5, 6, 7, 8])
def test_the_last_frame_of_a_capped_episode_is_not_stale(cap: int) -> None:
    config = EnvConfig(max_episode_frames=cap)
    env = AtariEnv("riverraid", config, stream(4, "env"))
    out = np.zeros((84, 84), dtype=np.uint8)
    rng = np.random.Generator(np.random.PCG64(child(stream(4, "env"), "protocol")))
    fire = env.spec.action_names.index("FIRE")
    for _ in range(2):
        assert env.step(fire, out)[1] == Flag.FIRST
        ale = emulator("riverraid")
        for _ in range(int(rng.integers(1, 31))):
            ale.act(0)
        screens = [ale.getScreenGrayscale()]
        for _ in range(cap):
            ale.act(1)
            screens.append(ale.getScreenGrayscale())
        stale = screens[(cap - 1) // 4 * 4]
        while env.step(fire, out)[1] == 0:
            pass
        older = screens[-2] if cap % 4 == 0 else np.zeros_like(stale)
        expected = resize(older, screens[-1])
        assert np.abs(out.astype(np.int16) - expected).max() <= 1
        assert np.abs(out.astype(np.int16) - resize(stale, stale)).max() > 1


def _breakout_flags(life_loss: Any, steps: int) -> tuple[list[int], float]:
    env = AtariEnv("breakout", EnvConfig(life_loss=life_loss), stream(9, "env"))
    out = np.zeros((84, 84), dtype=np.uint8)
    fire = env.spec.action_names.index("FIRE")
    flags, score = [], 0.0
    for _ in range(steps):
        reward, flag = env.step(fire, out)
        flags.append(flag)
        score += reward
        if flag == Flag.TERMINATED:
            break
    return flags, score


def test_life_modes() -> None:
    none, score = _breakout_flags("none", 1_000)
    assert Counter(none) == {Flag.FIRST: 1, 0: len(none) - 2, Flag.TERMINATED: 1}

    discount, discount_score = _breakout_flags("zero_discount", 1_000)
    assert discount_score == score
    assert len(discount) == len(none)
    assert Counter(discount)[Flag.LIFE_LOST] == 4
    assert discount[-1] == Flag.TERMINATED

    episodic, _ = _breakout_flags("episodic", 1_000)
    lost = Flag.LIFE_LOST | Flag.TERMINATED
    assert Counter(episodic)[lost] == 4
    assert Counter(episodic)[Flag.FIRST] == 5
    assert Counter(episodic)[Flag.TERMINATED] == 1
    for flag, following in itertools.pairwise(episodic):
        assert (flag == lost) == (following == Flag.FIRST)


def test_a_pseudo_episode_goes_on_with_the_same_game() -> None:
    env = AtariEnv("breakout", EnvConfig(life_loss="episodic"), stream(9, "env"))
    out = np.zeros((84, 84), dtype=np.uint8)
    fire = env.spec.action_names.index("FIRE")
    env.step(fire, out)
    assert env.lives == 5
    while env.step(fire, out)[1] == 0:
        pass
    assert env.lives == 4
    frames = env._ale.getEpisodeFrameNumber()
    executed = record(env)
    assert env.step(fire, out)[1] == Flag.FIRST
    assert executed == [0, 0, 0, 0]
    assert env._ale.getEpisodeFrameNumber() == frames + 4
    assert env.lives == 4


def test_the_action_of_a_first_frame_is_ignored() -> None:
    results = []
    for ignored in (0, 3, -7, 99):
        env = AtariEnv("breakout", EnvConfig(max_episode_frames=40), stream(9, "env"))
        out = np.zeros((84, 84), dtype=np.uint8)
        frames = []
        flags = 1
        for step in range(60):
            begins = flags & (Flag.TERMINATED | Flag.TRUNCATED) or step == 0
            _, flags = env.step(ignored if begins else step % 4, out)
            assert bool(flags & Flag.FIRST) == bool(begins)
            frames.append(out.tobytes())
        results.append(b"".join(frames))
    assert len(set(results)) == 1


def test_deepmind_executes_what_is_asked() -> None:
    env = AtariEnv("pong", EnvConfig(), stream(1, "env"))
    out = np.zeros((84, 84), dtype=np.uint8)
    env.step(0, out)
    executed = record(env)
    for action in range(6):
        env.step(action, out)
    assert executed == [code for code in (0, 1, 3, 4, 11, 12) for _ in range(4)]


@pytest.mark.parametrize("protocol", ["deepmind", "machado"])
def test_colour_screen(protocol: Any) -> None:
    env = AtariEnv("ms_pacman", EnvConfig(protocol=protocol), stream(1, "env"))
    out = np.zeros((84, 84), dtype=np.uint8)
    env.step(0, out)
    start = emulator("ms_pacman")
    rng = np.random.Generator(np.random.PCG64(child(stream(1, "env"), "protocol")))
    for _ in range(int(rng.integers(1, 31)) if protocol == "deepmind" else 0):
        start.act(0)
    np.testing.assert_array_equal(env.screen_rgb(), start.getScreenRGB())
    for step in range(20):
        env.step(step % 9, out)
        np.testing.assert_array_equal(env.screen_rgb(), env._ale.getScreenRGB())


def test_watch_shows_every_frame() -> None:
    env = AtariEnv("pong", EnvConfig(), stream(1, "env"))
    out = np.zeros((84, 84), dtype=np.uint8)
    shown: list[Frame] = []
    env.watch(shown.append)
    env.step(0, out)
    assert 1 <= len(shown) <= 30
    del shown[:]
    env.step(0, out)
    assert len(shown) == 4
    np.testing.assert_array_equal(shown[-1], env.screen_rgb())


def test_action_sets() -> None:
    minimal = make_env("ALE/Pong-v5", EnvConfig(), stream(1, "env")).spec
    assert minimal.action_names == ("NOOP", "FIRE", "RIGHT", "LEFT", "RIGHTFIRE", "LEFTFIRE")
    assert minimal.frame_shape == (84, 84)
    full = make_env("pong", EnvConfig(action_set="full"), stream(1, "env")).spec
    assert full.num_actions == 18
    assert full.action_names[:3] == ("NOOP", "FIRE", "UP")


@pytest.mark.parametrize("action", [-1, 6, 10**9])
def test_wrong_action(action: int) -> None:
    env = AtariEnv("pong", EnvConfig(), stream(1, "env"))
    out = np.zeros((84, 84), dtype=np.uint8)
    env.step(0, out)
    with pytest.raises(EnvError, match=f"action: got {action}, expected an index from 0 to 5"):
        env.step(action, out)
    assert env.step(0, out)[1] == 0


def _play(env: AtariEnv, steps: int) -> list[tuple[float, int, bytes]]:
    out = np.zeros((84, 84), dtype=np.uint8)
    actions = np.random.default_rng(5).integers(env.spec.num_actions, size=steps).tolist()
    return [(*env.step(action, out), out.tobytes()) for action in actions]


@pytest.mark.parametrize(
    ("game", "mode", "difficulty"),
    [("breakout", 12, 1), ("alien", 2, 3), ("berzerk", 16, -1), ("freeway", 3, 0), ("pong", -1, 2)],
)
def test_a_mode_and_a_difficulty_last(game: str, mode: int, difficulty: int) -> None:
    """They change the game, and hold over new episodes and in an environment that goes on."""
    config = EnvConfig(mode=mode, difficulty=difficulty, max_episode_frames=240)
    env = AtariEnv(game, config, stream(1, "env"))
    assert _play(env, 150) != _play(
        AtariEnv(game, EnvConfig(max_episode_frames=240), stream(1, "env")), 150
    )
    other = AtariEnv(game, config, stream(2, "env"))
    other.load_state(env.state())
    results = _play(env, 150)
    assert results == _play(other, 150)
    assert sum(flags == Flag.FIRST for _, flags, _ in results) >= 2


def test_the_mode_in_which_a_game_starts_is_the_default() -> None:
    default = AtariEnv("breakout", EnvConfig(), stream(1, "env"))
    named = AtariEnv("breakout", EnvConfig(mode=0, difficulty=0), stream(1, "env"))
    assert _play(named, 600) == _play(default, 600)


def test_a_mode_or_difficulty_that_the_game_has_not() -> None:
    with pytest.raises(
        EnvError,
        match=r"^env.mode: got 3, expected one that bank_heist has, which are 0, 4, 8, 12, 16, 20, "
        r"24, 28, or -1 for the one in which it starts$",
    ):
        make_env("BankHeist", EnvConfig(mode=3), stream(1, "env"))
    with pytest.raises(EnvError, match=r"env.difficulty: got 9, .* has, which are 0, 1, 2, 3, or"):
        make_env("pong", EnvConfig(difficulty=9), stream(1, "env"))
    for toy in ("catch", "chain"):
        with pytest.raises(EnvError, match=f"env.mode: got 0, expected -1 for {toy}, a toy"):
            make_env(toy, EnvConfig(mode=0), stream(1, "env"))
        with pytest.raises(EnvError, match=f"env.difficulty: got 1, expected -1 for {toy}, a toy"):
            make_env(toy, EnvConfig(difficulty=1), stream(1, "env"))


def test_unknown_game() -> None:
    with pytest.raises(EnvError, match="breakout"):
        make_env("breakot", EnvConfig(), stream(1, "env"))


@pytest.mark.parametrize("content", [None, b"", b"\x00" * 4096, bytes(range(256)) * 16])
def test_unusable_rom(
    content: bytes | None, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is not None:
        (tmp_path / "pong.bin").write_bytes(content)
    monkeypatch.setenv("ALE_ROMS_DIR", str(tmp_path))
    with pytest.raises(EnvError, match="the ROM of pong cannot be used"):
        make_env("pong", EnvConfig(), stream(1, "env"))


def test_missing_rom_folder(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALE_ROMS_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(EnvError, match="ALE_ROMS_DIR"):
        make_env("pong", EnvConfig(), stream(1, "env"))


@pytest.mark.parametrize("event", ["life", "cap"])
def test_what_happens_in_the_first_step_of_a_pseudo_episode(event: str) -> None:
    """A second lost life does not end it again; the cap does, and the next step begins a game."""
    env = make_env("breakout", EnvConfig(life_loss="episodic"), stream(1, "test"))
    out, flags = np.zeros((84, 84), np.uint8), 0
    while not flags & Flag.LIFE_LOST:
        _, flags = env.step(1, out)
    if event == "life":
        env._lives += 1  # as if one more had been there
    else:
        env._frames_left = 2
    _, first = env.step(1, out)
    _, second = env.step(1, out)
    expected = (Flag.FIRST, 0) if event == "life" else (Flag.FIRST | Flag.TRUNCATED, Flag.FIRST)
    assert (first, second) == expected
