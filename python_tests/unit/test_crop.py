"""Cropped frames beside a slow mean over areas."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from atari_fast.config import EnvConfig
from atari_fast.envs import palette
from atari_fast.envs.atari_env import make_env
from atari_fast.envs.crop import CROPPED_ROWS, Crop
from atari_fast.games import GAMES
from atari_fast.seeding import stream


def reference(screens: NDArray[np.uint8], top: int, bottom: int) -> NDArray[np.uint8]:
    """The same frame in fractions, pixel by pixel; see `Crop`."""
    gray = np.maximum(palette.LUMA[screens[0]], palette.LUMA[screens[1]])[top:bottom]
    height = Fraction(bottom - top, 80)
    out = np.zeros((80, 80), np.uint8)
    for row in range(80):
        begin, end = row * height, (row + 1) * height
        parts = [
            (i, min(end, Fraction(i + 1)) - max(begin, Fraction(i)))
            for i in range(int(begin), bottom - top)
            if i < end
        ]
        for column in range(80):
            pixels = [int(gray[i, 2 * column]) + int(gray[i, 2 * column + 1]) for i, _ in parts]
            total = sum(part * pixel for (_, part), pixel in zip(parts, pixels, strict=True))
            out[row, column] = int(total / (2 * height) + Fraction(1, 2))
    return out


@pytest.mark.parametrize("game", ["pong", "space_invaders", "ms_pacman", "asteroids", "alien"])
def test_a_frame_is_the_mean_over_areas(game: str) -> None:
    crop = Crop.of_game(game)
    screens = np.random.default_rng(0).integers(0, 256, (2, 210, 160), dtype=np.uint8)
    out = np.empty((80, 80), np.uint8)
    crop(screens, out)
    np.testing.assert_array_equal(out, reference(screens, *crop))


def test_the_rows_are_those_of_the_table() -> None:
    """Rows crop1 to crop2 + 160 of its config.json; another game has those of Pong."""
    assert CROPPED_ROWS.keys() < GAMES.keys()
    assert Crop.of_game("pong") == Crop.of_game("alien") == (34, 194)
    assert Crop.of_game("space_invaders") == (8, 196)
    assert all(0 <= top < bottom <= 210 for top, bottom in CROPPED_ROWS.values())
    assert all(bottom - top >= 150 for top, bottom in CROPPED_ROWS.values())


@pytest.mark.parametrize("game", ["pong", "qbert"])
def test_an_environment_delivers_cropped_frames_of_the_same_game(game: str) -> None:
    whole, cropped = (
        make_env(game, EnvConfig(crop=crop), stream(1, "env")) for crop in (False, True)
    )
    frames = [np.empty((side, side), np.uint8) for side in (84, 80)]
    assert cropped.spec.frame_shape == (80, 80)
    rng = np.random.default_rng(0)
    for _ in range(60):
        action = int(rng.integers(whole.spec.num_actions))
        assert whole.step(action, frames[0]) == cropped.step(action, frames[1])
        expected = reference(cropped._screens[0], *Crop.of_game(game))
    np.testing.assert_array_equal(frames[1], expected)
    assert frames[1].std() > 3
