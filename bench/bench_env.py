"""Agent steps a second of environments, beside the bare emulator and ALE's own vector ones.

Every contestant is made first and then measured in turn, round after round, so that a slow spell of
the machine hits all of them. Figures are medians over the rounds, ratios are of one run.

    python bench/bench_env.py                                       # five games, ten minutes
    python bench/bench_env.py --games pong --envs 32 --seconds 0.5  # under a minute
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import ale_py
import numpy as np
from ale_py import roms
from ale_py.vector_env import AtariVectorEnv

from atari_fast import _core
from atari_fast.config import EnvConfig
from atari_fast.envs.atari_env import AtariEnv
from atari_fast.envs.vector_env import VectorEnv
from atari_fast.seeding import stream

GAMES = ["pong", "breakout", "ms_pacman", "space_invaders", "montezuma_revenge"]
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
ONE = "emulator, 1 process"
ALL = f"emulator, all cores ({CORES})"

Contest = Callable[[float], float]
"""Plays for so many seconds and returns agent steps a second."""


def timed(step: Callable[[], Any], steps_a_call: int, seconds: float) -> float:
    """Returns agent steps a second of repeated calls."""
    calls, start = 0, time.perf_counter()
    while True:
        step()
        calls += 1
        span = time.perf_counter() - start
        if span >= seconds:
            return calls * steps_a_call / span


def bare_stepper(game: str, seed: int) -> Callable[[], None]:
    """Returns a function that plays 50 agent steps: 4 frames each, no screen is read."""
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    ale = ale_py.ALEInterface()
    ale.setInt("random_seed", seed)
    ale.setFloat("repeat_action_probability", 0.0)
    ale.loadROM(roms.get_rom_path(game))
    ale.reset_game()
    act, game_over = ale.act, ale.game_over
    codes = [action.value for action in ale.getMinimalActionSet()]
    choices = np.random.default_rng(seed).integers(len(codes), size=100_000).tolist()
    actions = itertools.cycle([codes[k] for k in choices])

    def play() -> None:
        for _ in range(50):
            action = next(actions)
            act(action)
            act(action)
            act(action)
            act(action)
            if game_over():
                ale.reset_game()

    return play


def serve_bare(game: str, seed: int, pipe: Any) -> None:
    """Runs a process of the bare emulator: receives seconds, sends agent steps a second."""
    play = bare_stepper(game, seed)
    pipe.send(0.0)
    while (seconds := pipe.recv()) > 0:
        pipe.send(timed(play, 50, seconds))


def bare(game: str, processes: int, stack: ExitStack) -> Contest:
    context = multiprocessing.get_context("spawn")
    pipes = []
    for seed in range(processes):
        pipe, far_end = context.Pipe()
        context.Process(target=serve_bare, args=(game, seed, far_end), daemon=True).start()
        stack.callback(pipe.send, 0.0)
        pipes.append(pipe)

    def play(seconds: float) -> float:
        for pipe in pipes:
            pipe.send(seconds)
        return sum(pipe.recv() for pipe in pipes)

    for pipe in pipes:
        pipe.recv()
    return play


def random_actions(actions: int, count: int) -> Iterator[Any]:
    return itertools.cycle(np.random.default_rng(0).integers(actions, size=(4096, count)))


def single_env(game: str) -> Contest:
    one = AtariEnv(game, EnvConfig(), stream(1, "env"))
    out = np.zeros((84, 84), dtype=np.uint8)
    choices = np.random.default_rng(0).integers(one.spec.num_actions, size=100_000).tolist()
    actions = itertools.cycle(choices)

    def play() -> None:
        for _ in range(50):
            one.step(next(actions), out)

    return lambda seconds: timed(play, 50, seconds)


def vector_env(game: str, envs: int, workers: int, stack: ExitStack) -> Contest:
    vector = stack.enter_context(
        VectorEnv(game, EnvConfig(num_envs=envs, num_workers=workers), stream(1, "env"))
    )
    actions = random_actions(vector.spec.num_actions, envs)
    return lambda seconds: timed(lambda: vector.step(next(actions)), envs, seconds)


def ale_vector(game: str, envs: int, batch: int, threads: int, stack: ExitStack) -> Contest:
    """ALE's own vector environment; with a batch smaller than `envs` it runs asynchronously."""
    env = AtariVectorEnv(
        game,
        num_envs=envs,
        batch_size=batch,
        num_threads=threads,
        repeat_action_probability=0.0,
        reward_clipping=False,
        use_fire_reset=False,
    )
    stack.callback(env.close)
    actions = random_actions(int(env.single_action_space.n), batch)
    env.reset(seed=0)
    if batch == envs:
        return lambda seconds: timed(lambda: env.step(next(actions)), envs, seconds)

    def step() -> None:
        env.send(next(actions))
        env.recv()

    for _ in range(envs // batch - 1):  # reset returned one batch and left the others to be taken
        step()
    return lambda seconds: timed(step, batch, seconds)


def contestants(game: str, envs: list[int], stack: ExitStack) -> dict[str, Contest]:
    field = {
        ONE: bare(game, 1, stack),
        ALL: bare(game, CORES, stack),
        "environment, 1 process": single_env(game),
    }
    for count in envs:
        field[f"VectorEnv, {count} environments, {CORES} workers"] = vector_env(
            game, count, CORES, stack
        )
    for count in envs:
        half = count // 2
        field[f"ALE vector, {count} envs, {CORES} threads"] = ale_vector(
            game, count, count, CORES, stack
        )
        field[f"ALE vector, {count} envs by {half}, {CORES} threads"] = ale_vector(
            game, count, half, CORES, stack
        )
    return field


def measure(game: str, envs: list[int], rounds: int, seconds: float) -> dict[str, Any]:
    with ExitStack() as stack:
        field = contestants(game, envs, stack)
        figures: dict[str, list[float]] = {name: [] for name in field}
        for turn in range(rounds + 1):
            for name, contest in field.items():
                figure = contest(seconds if turn else min(seconds, 0.5))
                if turn:  # the first round warms up
                    figures[name].append(figure)
    gc.collect()
    medians = {name: statistics.median(values) for name, values in figures.items()}
    best = {
        kind: max((name for name in medians if name.startswith(kind)), key=medians.__getitem__)
        for kind in ("VectorEnv", "ALE vector")
    }

    def ratio(above: str, below: str) -> dict[str, float]:
        pairs = sorted(a / b for a, b in zip(figures[above], figures[below], strict=True))
        return {
            "of_medians": medians[above] / medians[below],
            "median_of_rounds": statistics.median(pairs),
            "low": pairs[0],
            "high": pairs[-1],
        }

    return {
        "game": game,
        "steps_per_second": figures,
        "ratios": {
            f"environment / {ONE}": ratio("environment, 1 process", ONE),
            f"{best['VectorEnv']} / {ALL}": ratio(best["VectorEnv"], ALL),
            f"{best['VectorEnv']} / {best['ALE vector']}": ratio(
                best["VectorEnv"], best["ALE vector"]
            ),
        },
    }


def show(result: dict[str, Any]) -> None:
    print(f"\n{result['game']}: agent steps/s, median (low..high) of the rounds")
    for name, values in result["steps_per_second"].items():
        median = statistics.median(values)
        print(f"  {name:42s} {median:8.0f}  ({min(values):.0f}..{max(values):.0f})")
    for name, values in result["ratios"].items():
        print(
            f"  {name}: {values['of_medians']:.3f}  "
            f"(rounds {values['low']:.3f}..{values['median_of_rounds']:.3f}..{values['high']:.3f})"
        )
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--games", nargs="+", default=GAMES)
    parser.add_argument(
        "--envs", nargs="+", type=int, default=[16, 64], help="numbers of environments E"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a measurement")
    parser.add_argument("--json", type=Path, help="file for the results")
    options = parser.parse_args()
    results = []
    for game in options.games:
        results.append(measure(game, options.envs, options.rounds, options.seconds))
        show(results[-1])
    if options.json is not None:
        machine = {
            "cores": CORES,
            "machine": platform.machine(),
            "python": platform.python_version(),
            "ale_py": ale_py.__version__,
            "frame_kernel": _core.instruction_set(),
        }
        report = {"machine": machine, "rounds": options.rounds, "seconds": options.seconds}
        options.json.write_text(json.dumps(report | {"games": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
