from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import ale_py
import cv2
import numpy as np
import pytest
from ale_py import roms

from atari_fast.config import EnvConfig
from atari_fast.envs import palette
from atari_fast.envs.lane import RESET_GAMES, AtariLane, make_lane
from atari_fast.errors import EnvError
from atari_fast.games import GAMES
from atari_fast.seeding import child, stream
from atari_fast.types import Flag

Frame = np.ndarray[Any, np.dtype[np.uint8]]
Step = tuple[Frame, float, int]


def _emulator(game: str, sticky: float = 0.0) -> Any:
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    ale = ale_py.ALEInterface()
    ale.setInt("random_seed", 11)
    ale.setFloat("repeat_action_probability", sticky)
    ale.setInt("frame_skip", 1)
    ale.loadROM(roms.get_rom_path(game))
    ale.reset_game()
    return ale


def _resize(older: Frame, newest: Frame) -> Frame:
    return cv2.resize(np.maximum(older, newest), (84, 84), interpolation=cv2.INTER_AREA)


class Reference:
    """The protocol once more, slowly: grayscale screens, OpenCV, a reset for every episode."""

    def __init__(self, game: str, config: EnvConfig, seed: np.random.SeedSequence):
        self.ale = _emulator(game)
        self.config = config
        self.rng = np.random.Generator(np.random.PCG64(child(seed, "protocol")))
        minimal = config.action_set == "minimal"
        self.actions = self.ale.getMinimalActionSet() if minimal else self.ale.getLegalActionSet()
        self.executed = 0
        self.frames = 0
        self.stream = self._play()
        next(self.stream)

    def step(self, action: int) -> Step:
        return self.stream.send(action)

    def _new_game(self) -> Frame:
        self.ale.reset_game()
        self.executed, self.frames = 0, 0
        if self.config.protocol == "deepmind":
            for _ in range(int(self.rng.integers(1, 31))):
                self.ale.act(0)
                if self.ale.game_over():
                    self.ale.reset_game()
        return _resize(np.zeros((210, 160), np.uint8), self.ale.getScreenGrayscale())

    def _four_frames(self, code: int) -> Step:
        screens = [np.zeros((210, 160), np.uint8)] * 4
        reward, end = 0.0, 0
        repeats = [False] * 4
        if self.config.protocol == "machado":
            repeats = [draw < 0.25 for draw in self.rng.random(4)]
        for k in range(4):
            self.executed = self.executed if repeats[k] else code
            reward += self.ale.act(self.executed)
            self.frames += 1
            screens[k] = self.ale.getScreenGrayscale()
            if self.ale.game_over():
                end = Flag.TERMINATED
            elif self.frames >= self.config.max_episode_frames:
                end = Flag.TRUNCATED
            if end:
                break
        older = screens[2] if k == 3 else np.zeros((210, 160), np.uint8)
        return _resize(older, screens[k]), reward, int(end)

    def _play(self) -> Iterator[Any]:
        action = yield
        while True:
            action = yield self._new_game(), 0.0, int(Flag.FIRST)
            begins = False
            while True:
                lives = self.ale.lives()
                frame, reward, flags = self._four_frames(
                    0 if begins else self.actions[action].value
                )
                lost = not flags and 0 < self.ale.lives() < lives
                if begins:
                    flags |= Flag.FIRST
                elif lost and self.config.life_loss != "none":
                    flags |= Flag.LIFE_LOST
                    if self.config.life_loss == "episodic":
                        flags |= Flag.TERMINATED
                action = yield frame, reward, int(flags)
                begins = flags == Flag.LIFE_LOST | Flag.TERMINATED
                if flags & (Flag.TERMINATED | Flag.TRUNCATED) and not begins:
                    break


def _compare(game: str, config: EnvConfig, steps: int) -> Counter[int]:
    """Plays lane and reference side by side; returns how often each set of flags arrived."""
    lane = make_lane(game, config, stream(7, game))
    reference = Reference(game, config, stream(7, game))
    out = np.zeros((84, 84), dtype=np.uint8)
    actions = np.random.default_rng(3).integers(lane.spec.num_actions, size=steps).tolist()
    total, seen = 0.0, Counter[int]()
    for step, action in enumerate(actions):
        frame, reward, flags = reference.step(action)
        assert lane.step(action, out) == (reward, flags), (game, step)
        difference = np.abs(out.astype(np.int16) - frame)
        assert difference.max() <= 1, (game, step)
        total += float(difference.mean())
        seen[flags] += 1
    assert total / steps < 0.001
    return seen


CASES = [
    ("breakout", EnvConfig(protocol="deepmind", life_loss="episodic")),
    ("breakout", EnvConfig(protocol="machado", life_loss="zero_discount")),
    ("ms_pacman", EnvConfig(protocol="deepmind", action_set="full", max_episode_frames=158)),
    ("ms_pacman", EnvConfig(protocol="machado", max_episode_frames=401)),
    ("boxing", EnvConfig(protocol="deepmind", max_episode_frames=243)),
    ("boxing", EnvConfig(protocol="machado", max_episode_frames=243)),
    ("qbert", EnvConfig(protocol="deepmind", life_loss="zero_discount", max_episode_frames=1_000)),
    ("qbert", EnvConfig(protocol="machado", life_loss="episodic", action_set="full")),
]


@pytest.mark.parametrize(("game", "config"), CASES)
def test_lane_equals_the_reference(game: str, config: EnvConfig) -> None:
    seen = _compare(game, config, 400)
    assert seen[Flag.FIRST] >= 2


SLOW_GAMES = [*sorted(GAMES)[::3], "pong"]


@pytest.mark.slow
@pytest.mark.parametrize(("protocol", "life_loss"), [("deepmind", "episodic"), ("machado", "none")])
@pytest.mark.parametrize("game", SLOW_GAMES)
def test_lane_equals_the_reference_over_twenty_games(
    game: str, protocol: Any, life_loss: Any
) -> None:
    _compare(game, EnvConfig(protocol=protocol, life_loss=life_loss), 5_000)


@pytest.mark.parametrize("game", sorted(GAMES))
def test_palette_and_starts_of_every_game(game: str) -> None:
    ale = _emulator(game)
    assert ale.getScreenDims() == (210, 160)
    actions = ale.getMinimalActionSet()
    assert actions[0].value == 0
    codes = [actions[k].value for k in np.random.default_rng(1).integers(len(actions), size=180)]
    start, start_screen = ale.cloneState(), ale.getScreen()

    def trajectory(first_screen: Frame) -> list[bytes]:
        states = [ale.getRAM().tobytes(), first_screen.tobytes()]
        for code in codes[:40]:
            ale.act(code)
            states += [ale.getRAM().tobytes(), ale.getScreen().tobytes()]
        return states

    first = trajectory(start_screen)
    for count, code in enumerate(codes):
        ale.act(code)
        if count % 20 == 0:
            screen = ale.getScreen()
            np.testing.assert_array_equal(palette.LUMA[screen], ale.getScreenGrayscale())
            np.testing.assert_array_equal(palette.RGB[screen], ale.getScreenRGB())
    if game not in RESET_GAMES:
        ale.reset_game()
        assert trajectory(ale.getScreen()) == first
        for code in codes:
            ale.act(code)
        ale.restoreState(start)
        assert trajectory(start_screen) == first


def test_reset_games_are_games() -> None:
    assert set(GAMES) > RESET_GAMES


def test_starts_differ_where_resets_are_random() -> None:
    lane = AtariLane(
        "solaris", EnvConfig(protocol="machado", max_episode_frames=1), stream(1, "env")
    )
    out = np.zeros((84, 84), dtype=np.uint8)
    starts = set()
    for _ in range(16):
        lane.step(0, out)
        starts.add(out.tobytes())
        lane.step(0, out)
    assert len(starts) > 1


def _chi_squared_p(statistic: float, freedom: int) -> float:
    """Upper tail of the chi-squared distribution (Wilson and Hilferty's approximation)."""
    spread = 2 / (9 * freedom)
    z = ((statistic / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)
    return 0.5 * math.erfc(z / math.sqrt(2))


def test_noop_counts_are_uniform_from_1_to_30() -> None:
    lane = AtariLane("pong", EnvConfig(max_episode_frames=1), stream(2, "env"))
    out = np.zeros((84, 84), dtype=np.uint8)
    counts = np.zeros(32)
    starts = 1_500
    for _ in range(starts):
        assert lane.step(0, out)[1] == Flag.FIRST
        counts[lane._ale.getEpisodeFrameNumber()] += 1
        assert lane.step(0, out)[1] == Flag.TRUNCATED
    assert counts[0] == counts[31] == 0
    expected = starts / 30
    statistic = float(((counts[1:31] - expected) ** 2 / expected).sum())
    assert _chi_squared_p(statistic, 29) > 1e-3


@pytest.mark.parametrize("cap", [1, 2, 3, 4, 5, 6, 7, 8])
def test_the_last_frame_of_a_capped_episode_is_not_stale(cap: int) -> None:
    config = EnvConfig(max_episode_frames=cap)
    lane = AtariLane("riverraid", config, stream(4, "env"))
    out = np.zeros((84, 84), dtype=np.uint8)
    rng = np.random.Generator(np.random.PCG64(child(stream(4, "env"), "protocol")))
    fire = lane.spec.action_names.index("FIRE")
    for _ in range(2):
        assert lane.step(fire, out)[1] == Flag.FIRST
        ale = _emulator("riverraid")
        for _ in range(int(rng.integers(1, 31))):
            ale.act(0)
        screens = [ale.getScreenGrayscale()]
        for _ in range(cap):
            ale.act(1)
            screens.append(ale.getScreenGrayscale())
        stale = screens[(cap - 1) // 4 * 4]
        while lane.step(fire, out)[1] == 0:
            pass
        older = screens[-2] if cap % 4 == 0 else np.zeros_like(stale)
        expected = _resize(older, screens[-1])
        assert np.abs(out.astype(np.int16) - expected).max() <= 1
        assert np.abs(out.astype(np.int16) - _resize(stale, stale)).max() > 1


def _breakout_flags(life_loss: Any, steps: int) -> tuple[list[int], float]:
    lane = AtariLane("breakout", EnvConfig(life_loss=life_loss), stream(9, "env"))
    out = np.zeros((84, 84), dtype=np.uint8)
    fire = lane.spec.action_names.index("FIRE")
    flags, score = [], 0.0
    for _ in range(steps):
        reward, flag = lane.step(fire, out)
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
    lane = AtariLane("breakout", EnvConfig(life_loss="episodic"), stream(9, "env"))
    out = np.zeros((84, 84), dtype=np.uint8)
    fire = lane.spec.action_names.index("FIRE")
    lane.step(fire, out)
    assert lane.lives == 5
    while lane.step(fire, out)[1] == 0:
        pass
    assert lane.lives == 4
    frames = lane._ale.getEpisodeFrameNumber()
    executed = _record(lane)
    assert lane.step(fire, out)[1] == Flag.FIRST
    assert executed == [0, 0, 0, 0]
    assert lane._ale.getEpisodeFrameNumber() == frames + 4
    assert lane.lives == 4


def _record(lane: AtariLane) -> list[int]:
    """Returns a list to which the lane appends every action that the emulator executes."""
    act, executed = lane._act, []

    def recorded(code: int) -> int:
        executed.append(code)
        return act(code)

    lane._act = recorded
    return executed


def test_the_action_of_a_first_frame_is_ignored() -> None:
    results = []
    for ignored in (0, 3, -7, 99):
        lane = AtariLane("breakout", EnvConfig(max_episode_frames=40), stream(9, "env"))
        out = np.zeros((84, 84), dtype=np.uint8)
        frames = []
        flags = 1
        for step in range(60):
            begins = flags & (Flag.TERMINATED | Flag.TRUNCATED) or step == 0
            _, flags = lane.step(ignored if begins else step % 4, out)
            assert bool(flags & Flag.FIRST) == bool(begins)
            frames.append(out.tobytes())
        results.append(b"".join(frames))
    assert len(set(results)) == 1


def test_deepmind_executes_what_is_asked() -> None:
    lane = AtariLane("pong", EnvConfig(), stream(1, "env"))
    out = np.zeros((84, 84), dtype=np.uint8)
    lane.step(0, out)
    executed = _record(lane)
    for action in range(6):
        lane.step(action, out)
    assert executed == [code for code in (0, 1, 3, 4, 11, 12) for _ in range(4)]


def test_sticky_frames_repeat_the_executed_action() -> None:
    lane = AtariLane("pong", EnvConfig(protocol="machado"), stream(1, "env"))
    out = np.zeros((84, 84), dtype=np.uint8)
    lane.step(0, out)
    executed = _record(lane)
    steps = 600
    held = np.zeros(4)
    before = 0
    for _ in range(steps):
        requested = 1 - before  # never what was executed last, so that every repeat shows
        del executed[:]
        assert lane.step(requested, out)[1] == 0
        assert set(executed) <= {before, requested}
        first = executed.index(requested) if requested in executed else 4
        assert executed[first:] == [requested] * (4 - first)
        held[:first] += 1
        before = executed[-1]
    for k in range(3):
        p = 0.25 ** (k + 1)
        assert abs(held[k] / steps - p) < 4 * math.sqrt(p * (1 - p) / steps)


def test_stickiness_is_that_of_the_emulator() -> None:
    # The paddle's position after 4 frames to the right tells on which of them the action took hold.
    episodes = 300
    ale = _emulator("breakout", sticky=0.25)
    theirs: Counter[bytes] = Counter()
    for _ in range(episodes):
        ale.reset_game()
        for _ in range(4):
            ale.act(3)
        theirs[ale.getRAM().tobytes()] += 1

    config = EnvConfig(protocol="machado", max_episode_frames=4)
    lane = AtariLane("breakout", config, stream(5, "env"))
    out = np.zeros((84, 84), dtype=np.uint8)
    right = lane.spec.action_names.index("RIGHT")
    ours: Counter[bytes] = Counter()
    for _ in range(episodes):
        lane.step(0, out)
        lane.step(right, out)
        ours[lane._ale.getRAM().tobytes()] += 1

    assert len(theirs) >= 3
    keys = [key for key in theirs | ours if theirs[key] + ours[key] >= 10]
    statistic = sum((theirs[key] - ours[key]) ** 2 / (theirs[key] + ours[key]) for key in keys)
    assert _chi_squared_p(statistic, len(keys) - 1) > 1e-3


def test_machado_episodes_differ() -> None:
    config = EnvConfig(protocol="machado", max_episode_frames=400)
    lane = AtariLane("ms_pacman", config, stream(1, "env"))
    out = np.zeros((84, 84), dtype=np.uint8)
    episodes = set()
    for _ in range(4):
        frames = []
        for step in range(101):
            lane.step(step % 9, out)
            frames.append(out.tobytes())
        episodes.add(b"".join(frames))
    assert len(episodes) == 4


@pytest.mark.parametrize("protocol", ["deepmind", "machado"])
def test_lanes_depend_on_their_seed_alone(protocol: Any) -> None:
    def play(seed: int) -> list[bytes]:
        lane = AtariLane("breakout", EnvConfig(protocol=protocol), stream(seed, "env"))
        out = np.zeros((84, 84), dtype=np.uint8)
        frames = []
        for step in range(80):
            lane.step(step % 4, out)
            frames.append(out.tobytes())
        return frames

    assert play(1) == play(1)
    assert play(1) != play(2)


@pytest.mark.parametrize("protocol", ["deepmind", "machado"])
def test_colour_screen(protocol: Any) -> None:
    lane = AtariLane("ms_pacman", EnvConfig(protocol=protocol), stream(1, "env"))
    out = np.zeros((84, 84), dtype=np.uint8)
    lane.step(0, out)
    start = _emulator("ms_pacman")
    rng = np.random.Generator(np.random.PCG64(child(stream(1, "env"), "protocol")))
    for _ in range(int(rng.integers(1, 31)) if protocol == "deepmind" else 0):
        start.act(0)
    np.testing.assert_array_equal(lane.screen_rgb(), start.getScreenRGB())
    for step in range(20):
        lane.step(step % 9, out)
        np.testing.assert_array_equal(lane.screen_rgb(), lane._ale.getScreenRGB())


def test_watch_shows_every_frame() -> None:
    lane = AtariLane("pong", EnvConfig(), stream(1, "env"))
    out = np.zeros((84, 84), dtype=np.uint8)
    shown: list[Frame] = []
    lane.watch(shown.append)
    lane.step(0, out)
    assert 1 <= len(shown) <= 30
    del shown[:]
    lane.step(0, out)
    assert len(shown) == 4
    np.testing.assert_array_equal(shown[-1], lane.screen_rgb())


def test_action_sets() -> None:
    minimal = make_lane("ALE/Pong-v5", EnvConfig(), stream(1, "env")).spec
    assert minimal.action_names == ("NOOP", "FIRE", "RIGHT", "LEFT", "RIGHTFIRE", "LEFTFIRE")
    assert minimal.frame_shape == (84, 84)
    full = make_lane("pong", EnvConfig(action_set="full"), stream(1, "env")).spec
    assert full.num_actions == 18
    assert full.action_names[:3] == ("NOOP", "FIRE", "UP")


@pytest.mark.parametrize("action", [-1, 6, 10**9])
def test_wrong_action(action: int) -> None:
    lane = AtariLane("pong", EnvConfig(), stream(1, "env"))
    out = np.zeros((84, 84), dtype=np.uint8)
    lane.step(0, out)
    with pytest.raises(EnvError, match=f"action: got {action}, expected an index from 0 to 5"):
        lane.step(action, out)
    assert lane.step(0, out)[1] == 0


def test_unknown_game() -> None:
    with pytest.raises(EnvError, match="breakout"):
        make_lane("breakot", EnvConfig(), stream(1, "env"))


@pytest.mark.parametrize("content", [None, b"", b"\x00" * 4096, bytes(range(256)) * 16])
def test_unusable_rom(
    content: bytes | None, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is not None:
        (tmp_path / "pong.bin").write_bytes(content)
    monkeypatch.setenv("ALE_ROMS_DIR", str(tmp_path))
    with pytest.raises(EnvError, match="the ROM of pong cannot be used"):
        make_lane("pong", EnvConfig(), stream(1, "env"))


def test_missing_rom_folder(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALE_ROMS_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(EnvError, match="ALE_ROMS_DIR"):
        make_lane("pong", EnvConfig(), stream(1, "env"))
