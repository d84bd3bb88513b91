"""A3C on one worker and on several: agent steps a second, and the ratio.

`python bench/bench_hogwild.py` plays Pong with the preset `a3c-lstm`, first with one worker, then
with one for each core, each worker with `--envs` environments. The sides take turns: medians and
extremes of `--windows` windows, in which the other side's workers stand still.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import statistics
import time
from typing import Any

import torch

from atari_fast.agents.registry import build
from atari_fast.config import FRAMES_PER_STEP
from atari_fast.envs.atari_env import make_env
from atari_fast.infra.cpu import available_cores
from atari_fast.presets import PRESETS
from atari_fast.runtime.hogwild import HogwildDriver
from atari_fast.seeding import stream


class Side:
    """A training of some workers."""

    def __init__(self, preset: str, workers: int, envs: int, precision: str) -> None:
        config: Any = PRESETS[preset]()
        env = dataclasses.replace(config.env, num_envs=workers * envs, num_workers=workers)
        config = dataclasses.replace(config, total_frames=10**9, env=env, precision=precision)
        spec = make_env(config.game, env, stream(1, "spec")).spec
        torch.manual_seed(1)
        agent = build(config, spec, torch.device("cpu"))
        self.driver: HogwildDriver[Any] = HogwildDriver(config, agent, note=print)
        self._results = iter(self.driver)

    def rate(self, seconds: float) -> float:
        """Agent steps a second."""
        start, frames = time.perf_counter(), self.driver.frames
        while (taken := time.perf_counter() - start) < seconds:
            next(self._results)
        return (self.driver.frames - frames) / FRAMES_PER_STEP / taken


def main() -> None:
    """Prints a line for each number of workers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="a3c-lstm")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, available_cores()])
    parser.add_argument("--envs", type=int, default=1, help="of each worker")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--windows", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="of a window")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with contextlib.ExitStack() as stack:
        sides = []
        for workers in options.workers:
            side = Side(options.preset, workers, options.envs, options.precision)
            stack.callback(side.driver.close)
            sides.append(side)
        rates: list[list[float]] = [[] for _ in sides]
        for window in range(options.windows + 1):
            for side, found in zip(sides, rates, strict=True):
                rate = side.rate(options.seconds)
                side.driver.rest()
                if window:  # the first one warms up
                    found.append(rate)
    base = statistics.median(rates[0])
    for workers, found in zip(options.workers, rates, strict=True):
        middle = statistics.median(found)
        print(
            f"{options.preset} {workers} workers x {options.envs}: {middle:,.0f} agent steps/s "
            f"({min(found):,.0f} to {max(found):,.0f}), {middle / base:.2f}x"
        )


if __name__ == "__main__":
    main()
