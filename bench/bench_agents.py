"""Learner updates of every algorithm beside DQN's, and how much its arithmetic explains.

    python bench/bench_agents.py [--windows 5] [--updates 40] [--precision fp32] [--json FILE]

One update is a sampled batch of 32 real Pong transitions, loss, gradient, optimizer and priorities,
with the published networks. The algorithms take turns, `updates` a window. Prints updates/s
(median, range), the ratio to DQN, the ratio that equal arithmetic a second would give (operations
of one update as torch counts them: convolutions and products), and the first ratio over the second:
below 0.5 an algorithm takes more than twice the time that its arithmetic explains.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from atari_fast.agents.registry import build
from atari_fast.config import DqnFamilyConfig
from atari_fast.envs.vector_env import VectorEnv
from atari_fast.infra.cpu import available_cores
from atari_fast.presets import PRESETS
from atari_fast.runtime.device import Autocast, keep_freed_memory, select_device, set_threads
from atari_fast.runtime.learner import Learner
from atari_fast.seeding import stream
from atari_fast.types import Acted

NAMES = (
    "dqn-nature", "double-dqn", "dueling", "per", "al", "pal", "m-dqn", "c51", "rainbow",
    "qr-dqn", "iqn", "m-iqn",
)  # fmt: skip


def settings(name: str, precision: str) -> DqnFamilyConfig:
    """A preset with one optimizer for all, on Pong."""
    config = PRESETS[name]()
    return dataclasses.replace(
        config,
        game="pong",
        precision=precision,
        env=dataclasses.replace(config.env, num_envs=8),
        replay=dataclasses.replace(config.replay, capacity=8_000),
        optim=PRESETS["dqn-adam"]().optim,
    )


def make_learner(
    config: DqnFamilyConfig, device: torch.device, threads: int, steps: int = 400
) -> Learner:
    """A learner whose replay holds `steps` steps of random play in each of its environments."""
    rng = np.random.default_rng(0)
    with VectorEnv(config.game, config.env, stream(1, "lanes")) as envs:
        agent = build(config, envs.spec, device)
        memory = agent.make_memory(1)
        step = envs.step(np.zeros(envs.num_envs, np.int64))
        for _ in range(steps):
            actions = rng.integers(envs.spec.num_actions, size=envs.num_envs)
            memory.append(step, Acted(actions))
            step = envs.step(actions)
    autocast = Autocast(device, config.precision)
    return Learner(agent, memory, device, autocast, threads=threads)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--windows", type=int, default=5)
    parser.add_argument("--updates", type=int, default=40)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    set_threads(1)  # as in a run: the learner's threads share batches, not operations
    keep_freed_memory()
    device = select_device(options.device)
    threads = 1 if device.type == "cuda" else options.threads or available_cores()
    learners = {
        name: make_learner(settings(name, options.precision), device, threads) for name in NAMES
    }
    operations = {}
    for name, learner in learners.items():
        learner.update(0.5)
        with FlopCounterMode(display=False) as counter:
            learner.update(0.5)
        operations[name] = counter.get_total_flops()
    rates: dict[str, list[float]] = {name: [] for name in NAMES}
    for _ in range(options.windows):
        for name, learner in learners.items():
            start = time.perf_counter()
            for _ in range(options.updates):
                learner.update(0.5)
            learner.take_metrics()  # waits for the device
            rates[name].append(options.updates / (time.perf_counter() - start))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    print(f"{device}, {threads} threads, precision {options.precision}")
    for name, values in rates.items():
        ratio = medians[name] / medians["dqn-nature"]
        explained = operations["dqn-nature"] / operations[name]
        print(
            f"{name:12s} {medians[name]:7.1f} updates/s ({min(values):.1f} to {max(values):.1f}, "
            f"n={len(values)})  {ratio:.2f}x DQN, arithmetic {explained:.2f}x, "
            f"share {ratio / explained:.2f}"
        )
    if options.json:
        record = {"updates_per_s": rates, "operations": operations}
        options.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
