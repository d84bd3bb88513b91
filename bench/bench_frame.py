"""Frame preprocessing beside the OpenCV chain: `python bench/bench_frame.py`.

One thread, buffers allocated beforehand, the sides interleaved. A figure is the median of the
repeats with its range, in microseconds for one pair of screens; the ratio is OpenCV's median over
ours. The pairs are frames 3 and 4 of an agent step after random play.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import ale_py
import cv2
import numpy as np
from ale_py import roms
from numpy.typing import NDArray

from atari_fast import _core

GAMES = ("pong", "breakout", "ms_pacman", "space_invaders", "montezuma_revenge")
TARGET_US = 6.0
TARGET_RATIO = 8.0

Bytes = NDArray[np.uint8]


def play(game: str, steps: int = 200) -> tuple[Bytes, Bytes, Bytes]:
    """Return palette screens [1, 2, 210, 160], gray screens of the same shape and luma [256]."""
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    ale = ale_py.ALEInterface()
    ale.setInt("random_seed", 1)
    ale.setFloat("repeat_action_probability", 0.0)
    ale.loadROM(roms.get_rom_path(game))
    ale.reset_game()
    actions = ale.getMinimalActionSet()
    rng = np.random.default_rng(1)
    for _ in range(steps):
        action = actions[rng.integers(len(actions))]
        palette, gray = [], []
        for _ in range(4):
            ale.act(action)
            palette.append(ale.getScreen())
            gray.append(ale.getScreenGrayscale())
        if ale.game_over():
            ale.reset_game()
    luma = np.zeros(256, np.uint8)
    for indices, levels in zip(palette[2:], gray[2:], strict=True):
        luma[indices] = levels
    return np.stack(palette[2:])[None], np.stack(gray[2:])[None], luma


def opencv_chains(
    palette: Bytes, gray: Bytes, luma: Bytes, out: Bytes
) -> dict[str, Callable[[], None]]:
    """Return the OpenCV side for palette screens and for gray ones; both write `out` [84, 84]."""
    first, second, pooled = (np.empty((210, 160), np.uint8) for _ in range(3))

    def resize() -> None:
        cv2.resize(pooled, (84, 84), dst=out, interpolation=cv2.INTER_AREA)

    def from_palette() -> None:
        cv2.LUT(palette[0, 0], luma, dst=first)
        cv2.LUT(palette[0, 1], luma, dst=second)
        np.maximum(first, second, out=pooled)
        resize()

    def from_gray() -> None:
        np.maximum(gray[0, 0], gray[0, 1], out=pooled)
        resize()

    return {"palette": from_palette, "gray": from_gray}


def time_call(call: Callable[[], None], seconds: float) -> float:
    """Return microseconds a call, over about `seconds`."""
    calls, start = 0, time.perf_counter()
    while True:
        for _ in range(50):
            call()
        calls += 50
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            return elapsed / calls * 1e6


def figure(values: list[float]) -> str:
    return f"{statistics.median(values):6.2f} us ({min(values):.2f}..{max(values):.2f})"


def bench_game(game: str, repeats: int, seconds: float) -> tuple[float, float]:
    """Print one game; return our best set's median for palette screens and its ratio."""
    palette, gray, luma = play(game)
    reference, out = np.empty((84, 84), np.uint8), np.empty((1, 84, 84), np.uint8)
    theirs = opencv_chains(palette, gray, luma, reference)
    ours = {
        "palette": lambda: _core.preprocess_palette(palette, luma, out),
        "gray": lambda: _core.preprocess_gray(gray, out),
    }
    best = (0.0, 0.0)
    for source in ("palette", "gray"):
        figures: dict[str, list[float]] = {"opencv": []}
        for repeat in range(repeats + 1):
            measured = {"opencv": time_call(theirs[source], seconds)}
            for name in _core.instruction_sets():
                _core.set_instruction_set(name)
                measured[name] = time_call(ours[source], seconds)
            if repeat:  # the first round warms up
                for name, value in measured.items():
                    figures.setdefault(name, []).append(value)
        base = statistics.median(figures["opencv"])
        equal = np.count_nonzero(out[0] == reference) / reference.size
        print(f"{game}, {source} screens, {equal:.2%} of the pixels equal")
        for name, values in figures.items():
            ratio = base / statistics.median(values)
            print(f"  {name:8} {figure(values)}  {ratio:5.1f}x OpenCV")
            if source == "palette":
                best = (statistics.median(values), ratio)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7, help="repeats a figure, at least 5")
    parser.add_argument("--seconds", type=float, default=0.1, help="length of a repeat")
    parser.add_argument("--games", nargs="+", default=GAMES)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    print(f"opencv {cv2.__version__}, numpy {np.__version__}, sets {_core.instruction_sets()}")
    best = [bench_game(game, max(5, args.repeats), args.seconds) for game in args.games]
    slowest, lowest = max(us for us, _ in best), min(ratio for _, ratio in best)
    print(
        f"best set, palette, worst game: {slowest:.2f} us (target {TARGET_US}), "
        f"{lowest:.1f}x OpenCV (target {TARGET_RATIO})"
    )


if __name__ == "__main__":
    main()
