"""The fused frame kernel against OpenCV, a numpy reference and wrong arguments."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import ale_py
import cv2
import numpy as np
import pytest
from ale_py import roms
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from atari_fast import _core

Bytes = NDArray[np.uint8]

IDENTITY = np.arange(256, dtype=np.uint8)


@pytest.fixture(params=_core.instruction_sets())
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test with each instruction set of this machine."""
    before = _core.instruction_set()
    _core.set_instruction_set(request.param)
    yield request.param
    _core.set_instruction_set(before)


def random_screens(count: int, seed: int = 0) -> Bytes:
    return np.random.default_rng(seed).integers(0, 256, (count, 2, 210, 160), dtype=np.uint8)


def from_palette(screens: Bytes, luma: Bytes) -> Bytes:
    out = np.empty((len(screens), 84, 84), np.uint8)
    _core.preprocess_palette(screens, luma, out)
    return out


def from_gray(screens: Bytes) -> Bytes:
    out = np.empty((len(screens), 84, 84), np.uint8)
    _core.preprocess_gray(screens, out)
    return out


def opencv(gray: Bytes) -> Bytes:
    """Max and area resize of one gray pair [2, 210, 160]."""
    return cv2.resize(np.maximum(gray[0], gray[1]), (84, 84), interpolation=cv2.INTER_AREA)


def levels_apart(a: Bytes, b: Bytes) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def area_weights(inputs: int, outputs: int) -> NDArray[np.float64]:
    """[outputs, inputs]: the share of an output cell that each input cell covers."""
    scale = inputs / outputs
    low = np.arange(outputs)[:, None] * scale
    cell = np.arange(inputs)[None, :]
    overlap = np.minimum(low + scale, cell + 1) - np.maximum(low, cell)
    return np.maximum(overlap, 0.0) / scale


# --- against other implementations


def test_random_noise_is_within_one_level_of_opencv(instruction_set: str) -> None:
    screens = random_screens(20, seed=1)
    luma = np.random.default_rng(2).permutation(IDENTITY)
    frames, gray_frames = from_palette(screens, luma), from_gray(screens)
    for pair, frame, gray_frame in zip(screens, frames, gray_frames, strict=True):
        assert levels_apart(frame, opencv(luma[pair])) <= 1
        assert levels_apart(gray_frame, opencv(pair)) <= 1


def test_numpy_reference(instruction_set: str) -> None:
    screens = random_screens(10, seed=3)
    rows, columns = area_weights(210, 84), area_weights(160, 84)
    exact = rows @ screens.max(axis=1).astype(np.float64) @ columns.T
    assert np.abs(from_gray(screens) - exact).max() <= 0.5 + 1e-9


def test_every_set_gives_the_bytes_of_scalar() -> None:
    before = _core.instruction_set()
    screens = random_screens(5, seed=4)
    screens[1] &= 0xFE
    screens[2, 1] = screens[2, 0]
    screens[3] &= 3
    luma = np.random.default_rng(5).integers(0, 256, 256, dtype=np.uint8)
    results = {}
    try:
        for name in _core.instruction_sets():
            _core.set_instruction_set(name)
            results[name] = (from_palette(screens, luma), from_gray(screens))
    finally:
        _core.set_instruction_set(before)
    for palette, gray in results.values():
        np.testing.assert_array_equal(palette, results["scalar"][0])
        np.testing.assert_array_equal(gray, results["scalar"][1])


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    mask=st.sampled_from([0xFF, 0xFE, 0x03, 0xC0]),
    changed=st.integers(0, 200),
)
def test_palette_is_gray_of_the_table(seed: int, mask: int, changed: int) -> None:
    rng = np.random.default_rng(seed)
    screens = rng.integers(0, 256, (1, 2, 210, 160), dtype=np.uint8) & np.uint8(mask)
    screens[0, 1] = screens[0, 0]
    screens.reshape(-1)[rng.integers(0, screens.size, changed)] = 255
    luma = rng.integers(0, 256, 256, dtype=np.uint8)
    np.testing.assert_array_equal(from_palette(screens, luma), from_gray(luma[screens]))


def play(game: str, count: int, seed: int) -> Iterator[tuple[Bytes, Bytes, Bytes]]:
    """Yield `count` times (palette pair, the emulator's own gray pair, luma table so far)."""
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    ale = ale_py.ALEInterface()
    ale.setInt("random_seed", seed)
    ale.setFloat("repeat_action_probability", 0.0)
    ale.loadROM(roms.get_rom_path(game))
    ale.reset_game()
    actions = ale.getMinimalActionSet()
    rng = np.random.default_rng(seed)
    palette, gray = np.zeros((2, 210, 160), np.uint8), np.zeros((2, 210, 160), np.uint8)
    luma = np.zeros(256, np.uint8)
    for _ in range(count):
        action = actions[rng.integers(len(actions))]
        for frame in range(4):
            ale.act(action)
            if frame >= 2:
                ale.getScreen(palette[frame - 2])
                ale.getScreenGrayscale(gray[frame - 2])
        luma[palette] = gray
        yield palette, gray, luma
        if ale.game_over():
            ale.reset_game()


def check_real_frames(game: str, count: int) -> None:
    equal = 0
    for palette, gray, luma in play(game, count, seed=7):
        frame = from_palette(palette[None], luma)[0]
        expected = opencv(gray)
        assert levels_apart(frame, expected) <= 1
        equal += np.count_nonzero(frame == expected)
    assert equal / (count * 84 * 84) > 0.995


@pytest.mark.parametrize("game", ["breakout", "ms_pacman", "montezuma_revenge"])
def test_real_frames(instruction_set: str, game: str) -> None:
    check_real_frames(game, 170)


TEN_GAMES = [
    "asterix",
    "beam_rider",
    "breakout",
    "enduro",
    "montezuma_revenge",
    "ms_pacman",
    "pong",
    "qbert",
    "seaquest",
    "space_invaders",
]


@pytest.mark.slow
@pytest.mark.parametrize("game", TEN_GAMES)
def test_ten_thousand_real_frames(game: str) -> None:
    check_real_frames(game, 1000)


# --- meaning


def test_maximum_is_taken_before_the_resize(instruction_set: str) -> None:
    board = (np.indices((210, 160)).sum(axis=0) % 2 * 255).astype(np.uint8)
    screens = np.stack([board, 255 - board])[None]
    assert np.maximum(opencv(screens[0, [0, 0]]), opencv(screens[0, [1, 1]])).max() < 255
    assert from_gray(screens).min() == 255
    assert from_palette(screens, IDENTITY).min() == 255


def test_maximum_is_over_gray_levels_not_palette_indices(instruction_set: str) -> None:
    screens = np.full((1, 2, 210, 160), 10, np.uint8)
    screens[0, 1] = 200
    assert set(from_palette(screens, IDENTITY[::-1].copy()).ravel()) == {245}


def test_weights_of_the_specification(instruction_set: str) -> None:
    rows = np.broadcast_to(np.arange(210, dtype=np.uint8)[:, None], (1, 2, 210, 160)).copy()
    np.testing.assert_array_equal(from_gray(rows)[0, :2, 0], [1, 3])
    for column, output, level in ((0, 0, 105), (1, 0, 95), (158, 83, 95), (159, 83, 105)):
        lit = np.zeros((1, 2, 210, 160), np.uint8)
        lit[..., column] = 200
        np.testing.assert_array_equal(from_gray(lit)[0, :, output], level)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_batch_is_its_pairs(instruction_set: str, count: int) -> None:
    screens = random_screens(count, seed=6)
    batch = from_palette(screens, IDENTITY)
    assert batch.shape == (count, 84, 84)
    for n in range(count):
        np.testing.assert_array_equal(batch[n], from_palette(screens[n : n + 1], IDENTITY)[0])


def test_views_of_a_larger_buffer_stay_inside_it(instruction_set: str) -> None:
    storage = np.full((5, 84, 84), 7, np.uint8)
    screens = random_screens(3, seed=8)
    _core.preprocess_gray(screens, storage[1:4])
    np.testing.assert_array_equal(storage[1:4], from_gray(screens))
    assert set(storage[[0, 4]].ravel()) == {7}


def test_threads_give_the_same_frames() -> None:
    screens = random_screens(8, seed=9)
    expected = from_palette(screens, IDENTITY)
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda _: from_palette(screens, IDENTITY), range(16)))
    for result in results:
        np.testing.assert_array_equal(result, expected)


# --- wrong arguments

WRONG_SCREENS = {
    "none": None,
    "list": [[0]],
    "int8": np.zeros((1, 2, 210, 160), np.int8),
    "bool": np.zeros((1, 2, 210, 160), np.bool_),
    "float32": np.zeros((1, 2, 210, 160), np.float32),
    "one dimension less": np.zeros((2, 210, 160), np.uint8),
    "one dimension more": np.zeros((1, 1, 2, 210, 160), np.uint8),
    "no dimension": np.zeros((), np.uint8),
    "one screen": np.zeros((1, 1, 210, 160), np.uint8),
    "transposed": np.zeros((1, 2, 160, 210), np.uint8),
    "strided": np.zeros((1, 2, 210, 320), np.uint8)[..., ::2],
    "fortran": np.zeros((1, 2, 210, 160), np.uint8, order="F"),
}
WRONG_LUMA = {
    "none": None,
    "bytes": bytes(256),
    "int64": np.zeros(256, np.int64),
    "short": np.zeros(255, np.uint8),
    "long": np.zeros(257, np.uint8),
    "two dimensions": np.zeros((1, 256), np.uint8),
    "strided": np.zeros(512, np.uint8)[::2],
}
READ_ONLY = np.zeros((1, 84, 84), np.uint8)
READ_ONLY.setflags(write=False)
WRONG_OUT = {
    "none": None,
    "list": [0],
    "float32": np.zeros((1, 84, 84), np.float32),
    "two frames": np.zeros((2, 84, 84), np.uint8),
    "no frame": np.zeros((0, 84, 84), np.uint8),
    "two dimensions": np.zeros((84, 84), np.uint8),
    "narrow": np.zeros((1, 84, 83), np.uint8),
    "strided": np.zeros((1, 84, 168), np.uint8)[..., ::2],
    "read-only": READ_ONLY,
}


def expected_error(value: object) -> type[Exception]:
    is_bytes = isinstance(value, np.ndarray) and value.dtype == np.uint8
    return ValueError if is_bytes else TypeError


@pytest.mark.parametrize("case", WRONG_SCREENS)
def test_wrong_screens(case: str) -> None:
    screens, out = WRONG_SCREENS[case], np.empty((1, 84, 84), np.uint8)
    with pytest.raises(expected_error(screens), match="screens: expected"):
        _core.preprocess_palette(screens, IDENTITY, out)
    with pytest.raises(expected_error(screens), match="screens: expected"):
        _core.preprocess_gray(screens, out)


@pytest.mark.parametrize("case", WRONG_LUMA)
def test_wrong_luma(case: str) -> None:
    luma = WRONG_LUMA[case]
    with pytest.raises(expected_error(luma), match="luma: expected"):
        _core.preprocess_palette(random_screens(1), luma, np.empty((1, 84, 84), np.uint8))


@pytest.mark.parametrize("case", WRONG_OUT)
def test_wrong_out(case: str) -> None:
    out, screens = WRONG_OUT[case], random_screens(1)
    with pytest.raises(expected_error(out), match="out: expected"):
        _core.preprocess_palette(screens, IDENTITY, out)
    with pytest.raises(expected_error(out), match="out: expected"):
        _core.preprocess_gray(screens, out)


def test_messages_tell_what_was_expected_and_given() -> None:
    out = np.empty((1, 84, 84), np.uint8)
    with pytest.raises(ValueError, match=r"uint8\[any, 2, 210, 160\], got uint8\[3, 2\]"):
        _core.preprocess_gray(np.zeros((3, 2), np.uint8), out)
    with pytest.raises(TypeError, match=r"got int16\[1\]; call \.astype\(np\.uint8\)"):
        _core.preprocess_gray(np.zeros(1, np.int16), out)
    with pytest.raises(TypeError, match=r"got list; convert it with np\.asarray"):
        _core.preprocess_gray([], out)
    with pytest.raises(ValueError, match="read-only"):
        _core.preprocess_gray(random_screens(1), READ_ONLY)


# --- the choice of instructions


def test_instruction_sets() -> None:
    names = _core.instruction_sets()
    assert names[0] == "scalar"
    before = _core.instruction_set()
    for name in names:
        _core.set_instruction_set(name)
        assert _core.instruction_set() == name
    _core.set_instruction_set(before)


def test_unknown_instruction_set() -> None:
    before = _core.instruction_set()
    with pytest.raises(ValueError, match=r"expected one of scalar.*'mmx'"):
        _core.set_instruction_set("mmx")
    for name in {"scalar", "avx2", "avx512", "neon"} - set(_core.instruction_sets()):
        with pytest.raises(ValueError, match=f"of this CPU .*got {name}"):
            _core.set_instruction_set(name)
    assert _core.instruction_set() == before


@pytest.mark.parametrize(("value", "forced"), [("1", True), ("0", False), ("", False)])
def test_scalar_can_be_forced_by_the_environment(value: str, forced: bool) -> None:
    code = (
        "from atari_fast import _core;"
        "sets = _core.instruction_sets();"
        "print(_core.instruction_set(), sets[-1], len(sets))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "AF_FORCE_SCALAR": value},
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    used, best, count = done.stdout.split()
    assert used == best
    if forced:
        assert (used, count) == ("scalar", "1")


@pytest.mark.parametrize(("value", "expected"), [("1", ["scalar", "avx2"]), ("0", None)])
def test_avx2_can_be_made_the_best_by_the_environment(
    value: str, expected: list[str] | None
) -> None:
    code = "from atari_fast import _core; print(*_core.instruction_sets())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "AF_FORCE_AVX2": value},
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    sets = _core.instruction_sets()
    assert done.stdout.split() == [s for s in sets if expected is None or s in (*expected, "neon")]
