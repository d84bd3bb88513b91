"""Compressed replay of real frames beside cpprb's raw one: `python bench/bench_frames.py`.

For each game, frames of real play fill a prioritized replay (stacks of 4, n = 1, 8 environments):
`real` rows per environment are played, random actions by default, and go round until the replay is
full. Prints bytes a frame with everything counted (codes, indexes, unused room), microseconds to
append a frame, and transitions/s of drawing on one thread; cpprb runs in the same turns, with
next_of and stack_compress, its best setting, and as many frames. Medians of the repeats and their
range.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from functools import partial
from importlib import util
from pathlib import Path

import numpy as np
import torch
from bench_replay import NUM_ENVS, SIDE, STACK, Cpprb, measure
from numpy.typing import NDArray

from atari_fast import _core
from atari_fast.agents.agent import ActorSpec
from atari_fast.agents.restore import load_agent
from atari_fast.config import DqnAgentConfig, EnvConfig, NetConfig, ReplayConfig
from atari_fast.envs.vector_env import VectorEnv
from atari_fast.replay.transition import TransitionReplay
from atari_fast.runtime.acting import StackedActor
from atari_fast.runtime.device import Autocast
from atari_fast.seeding import stream
from atari_fast.types import Acted, StepBatch

GAMES = ["breakout", "ms_pacman", "seaquest", "montezuma_revenge", "pong"]
CPU = torch.device("cpu")


@dataclasses.dataclass(frozen=True)
class Play:
    """Rows of real play of 8 environments."""

    frames: NDArray[np.uint8]
    """uint8[rows, 8, 84, 84]"""
    flags: NDArray[np.uint8]
    """uint8[rows, 8]"""


def play(game: str, rows: int, agent: Path | None) -> Play:
    frames = np.zeros((rows, NUM_ENVS, SIDE, SIDE), np.uint8)
    flags = np.zeros((rows, NUM_ENVS), np.uint8)
    rng = np.random.default_rng(0)
    with VectorEnv(game, EnvConfig(num_envs=NUM_ENVS), stream(1, "env")) as envs:
        actor = None
        if agent is not None:
            trained = load_agent(agent, "best", CPU).agent
            acting = ActorSpec(NUM_ENVS, "evaluate", rng, Autocast(CPU, "fp32"), epsilon=0.01)
            actor = StackedActor(trained, acting, envs.spec, CPU)
        actions = np.zeros(NUM_ENVS, np.int64)
        for row in range(rows):
            step = envs.step(actions)
            frames[row], flags[row] = step.frames, step.flags
            if actor is None:
                actions = rng.integers(envs.spec.num_actions, size=NUM_ENVS)
            else:
                actions = actor.act(step).actions
    return Play(frames, flags)


def new_replay(capacity: int) -> TransitionReplay:
    return TransitionReplay(
        EnvConfig(num_envs=NUM_ENVS),
        NetConfig(stack=STACK),
        DqnAgentConfig(n_step=1),
        ReplayConfig(capacity=capacity, prioritized=True),
        (SIDE, SIDE),
        seed=1,
    )


def fill(replay: TransitionReplay, real: Play, rows: int) -> float:
    """Appends `rows` rows to every environment and returns microseconds a frame."""
    actions, rewards = np.ones(NUM_ENVS, np.int64), np.ones(NUM_ENVS, np.float32)
    start = time.perf_counter()
    for row in range(rows):
        at = row % len(real.frames)
        replay.append(StepBatch(real.frames[at], rewards, real.flags[at]), Acted(actions))
    return 1e6 * (time.perf_counter() - start) / (rows * NUM_ENVS)


def frame_bytes(replay: TransitionReplay, capacity: int) -> float:
    """Bytes that a frame takes: all that the replay does, less rewards, flags and so on (14 a row
    and the inner nodes of the tree)."""
    rows = capacity // NUM_ENVS * NUM_ENVS
    others = rows * (6 + 8 * 8 / 7)
    return (replay.bytes_used - others) / rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--games", nargs="+", default=GAMES)
    parser.add_argument("--capacity", type=int, default=1_000_000)
    parser.add_argument(
        "--real", type=int, default=6_000, help="rows of real play of each environment"
    )
    parser.add_argument("--agent", type=Path, help="trained agent that plays, instead of chance")
    parser.add_argument("--repeats", type=int, default=7, help="repeats a figure, at least 5")
    parser.add_argument("--seconds", type=float, default=0.3, help="length of a repeat")
    parser.add_argument("--instruction-set", help="one of this CPU's, instead of the best")
    parser.add_argument("--json", type=Path, help="file that the figures are written to")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.instruction_set:
        _core.set_instruction_set(args.instruction_set)
    peer = None
    if util.find_spec("cpprb"):
        noise = np.random.default_rng(0).integers(0, 256, (2048, SIDE, SIDE), dtype=np.uint8)
        peer = Cpprb(args.capacity, noise)
    else:
        print("cpprb is not installed: its rows are left out")
    rows = []
    for game in args.games:
        replay = new_replay(args.capacity)
        micros = fill(replay, play(game, args.real, args.agent), args.capacity // NUM_ENVS)
        row = {
            "game": game,
            "instruction_set": _core.instruction_set(),
            "bytes_a_frame": frame_bytes(replay, args.capacity),
            "append_us": micros,
        }
        print(
            f"{game:18} {row['bytes_a_frame']:6.0f} bytes a frame, append {micros:.2f} us a frame",
            flush=True,
        )
        for size in (32, 256):
            batch = replay.new_batch(size, pinned=False)
            sides = {"atari_fast": partial(replay.sample_into, batch, 0.4)}
            if peer:
                sides["cpprb"] = peer.sampler(size)
            figures: dict[str, list[float]] = {side: [] for side in sides}
            for repeat in range(max(5, args.repeats) + 1):
                for side, call in sides.items():
                    rate = measure(call, args.seconds) * size
                    if repeat:
                        figures[side].append(rate)
            for side, values in figures.items():
                ratio = statistics.median(figures["atari_fast"]) / statistics.median(values)
                print(
                    f"  sample {size:3} {side:10} {statistics.median(values):9,.0f} transitions/s "
                    f"({min(values):,.0f}..{max(values):,.0f})"
                    + ("" if side == "atari_fast" else f"  atari_fast is {ratio:.2f}x"),
                    flush=True,
                )
            row[f"sample_{size}"] = figures
        rows.append(row)
    mean = statistics.mean(row["bytes_a_frame"] for row in rows)
    print(f"mean of the games: {mean:.0f} bytes a frame")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
