"""Environments equal a slow reference of the protocol; palette and starts equal the emulator's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from atari_fast.config import EnvConfig
from atari_fast.envs import palette
from atari_fast.envs.atari_env import RESET_GAMES, make_env
from atari_fast.games import GAMES
from atari_fast.seeding import child, stream
from atari_fast.types import Flag
from emulator import Frame, emulator, resize

Step = tuple[Frame, float, int]


class Reference:
    """The protocol once more, slowly: grayscale screens, OpenCV, a reset for every episode."""

    def __init__(self, game: str, config: EnvConfig, seed: np.random.SeedSequence):
        self.ale = emulator(game)
        if config.mode >= 0:
            self.ale.setMode(config.mode)
        if config.difficulty >= 0:
            self.ale.setDifficulty(config.difficulty)
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
        return resize(np.zeros((210, 160), np.uint8), self.ale.getScreenGrayscale())

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
        return resize(older, screens[k]), reward, int(end)

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
    """Plays environment and reference side by side; returns how often each set of flags arrived."""
    env = make_env(game, config, stream(7, game))
    reference = Reference(game, config, stream(7, game))
    out = np.zeros((84, 84), dtype=np.uint8)
    actions = np.random.default_rng(3).integers(env.spec.num_actions, size=steps).tolist()
    total, seen = 0.0, Counter[int]()
    for step, action in enumerate(actions):
        frame, reward, flags = reference.step(action)
        assert env.step(action, out) == (reward, flags), (game, step)
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
    ("breakout", EnvConfig(mode=12, difficulty=1, life_loss="episodic")),
    ("space_invaders", EnvConfig(protocol="machado", mode=9, max_episode_frames=301)),
    ("pong", EnvConfig(difficulty=3, max_episode_frames=301)),
]


@pytest.mark.parametrize(("game", "config"), CASES)
def test_atari_env_equals_the_reference(game: str, config: EnvConfig) -> None:
    seen = _compare(game, config, 400)
    assert seen[Flag.FIRST] >= 2


SLOW_GAMES = [*sorted(GAMES)[::3], "pong"]


@pytest.mark.slow
@pytest.mark.parametrize(("protocol", "life_loss"), [("deepmind", "episodic"), ("machado", "none")])
@pytest.mark.parametrize("game", SLOW_GAMES)
def test_atari_env_equals_the_reference_over_twenty_games(
    game: str, protocol: Any, life_loss: Any
) -> None:
    _compare(game, EnvConfig(protocol=protocol, life_loss=life_loss), 5_000)


@pytest.mark.parametrize("game", sorted(GAMES))
def test_palette_and_starts_of_every_game(game: str) -> None:
    ale = emulator(game)
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
