"""Updates of recurrent agents beside their bare passes, and acting beside networks and emulators.

    python bench/bench_recurrent.py [--agent r2d2|ngu|agent57] [--small] [--windows 5]
        [--threads 1] [--batch 32] [--rows 0] [--json FILE]

An update is `--batch` sequences of real play of Pong, with the preset's lengths. "Bare" is a torch
loop that does only the forward and backward passes of the same networks on the same batch: no
sampling, targets, priorities, clipping or optimizer. Acting is 16 environments with the recurrent
networks, beside the sum of their forward pass alone and of the emulators alone; with an intrinsic
reward, "novelty" is its part of acting, with `--rows` random rows in each episodic memory. Sides
take turns; figures are medians with the range.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from atari_fast.agents.agent import ActorSpec
from atari_fast.agents.recurrent import unroll
from atari_fast.agents.registry import build
from atari_fast.config import RecurrentConfig
from atari_fast.envs.vector_env import VectorEnv
from atari_fast.ops.stacks import cut_sequence_stacks
from atari_fast.presets import PRESETS
from atari_fast.runtime.acting import StackedActor
from atari_fast.runtime.device import Autocast, keep_freed_memory, set_threads, torch_threads
from atari_fast.runtime.gradients import ThreadChoice
from atari_fast.runtime.learner import Learner
from atari_fast.seeding import stream

NUM_ENVS = 16
CPU = torch.device("cpu")


def settings(options: argparse.Namespace) -> RecurrentConfig:
    config = PRESETS[f"{options.agent}-small" if options.small else options.agent]()
    assert isinstance(config, RecurrentConfig)
    return dataclasses.replace(
        config,
        game="pong",
        precision=options.precision,
        env=dataclasses.replace(config.env, num_envs=NUM_ENVS),
        replay=dataclasses.replace(config.replay, capacity=20_000),
        optim=dataclasses.replace(config.optim, batch_size=options.batch),
    )


def sides(options: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    config = settings(options)
    autocast = Autocast(CPU, config.precision)
    envs = VectorEnv(config.game, config.env, stream(1, "envs"))
    agent = build(config, envs.spec, CPU)
    memory = agent.make_memory(1)
    spec = ActorSpec(NUM_ENVS, "train", np.random.default_rng(0), autocast)
    actor = StackedActor(agent, spec, envs.spec, CPU)
    step = envs.step(np.zeros(NUM_ENVS, np.int64))
    for _ in range(400):
        acted = actor.act(step)
        memory.append(step, acted)
        step = envs.step(acted.actions)
    learner = Learner(agent, memory, CPU, autocast, check_period=1, threads=options.threads)
    if options.threads > 1:  # not the updates that try the other way
        ThreadChoice.parallel = lambda _: True
    learner.update(memory.beta(0.0))
    batch = learner.batch
    burn_in, intrinsic = config.replay.burn_in, options.agent != "r2d2"
    inner = actor.actor.recurrent if intrinsic else actor.actor
    online, target = [agent.nets["online"]], [agent.nets["target"]]
    if intrinsic:
        online, target = list(agent.nets["online"].values), list(agent.nets["target"])
    novelty = agent.nets["online"].novelty if intrinsic else None
    previous = batch.columns[3][..., 0] if intrinsic else None

    def bare() -> None:
        with torch_threads(options.threads), autocast():
            stacks = cut_sequence_stacks(batch.frames, config.net.stack)
            for k, net in enumerate(online):
                unroll(net, stacks, batch, burn_in, intrinsic=previous, network=k).sum().backward()
            with torch.no_grad():
                for k, net in enumerate(target):
                    unroll(net, stacks, batch, burn_in, intrinsic=previous, network=k)
            if novelty is not None:
                rows = config.novelty.rows
                newest = batch.frames[-rows - 1 :]
                embeddings = novelty.embedding(newest.flatten(0, 1)).view(
                    rows + 1, options.batch, -1
                )
                novelty.embedding.predict(embeddings[:-1], embeddings[1:]).sum().backward()
                novelty.distillation(newest[1:].flatten(0, 1)).sum().backward()

    def act() -> None:
        nonlocal step
        acted = actor.act(step)
        memory.append(step, acted)
        step = envs.step(acted.actions)

    def forward() -> None:
        none = torch.zeros(NUM_ENVS)
        seen = inner._prev_actions, none, none.long(), none if intrinsic else None
        with torch.inference_mode(), autocast():
            for k, net in enumerate(online):
                state = inner._states[2 * k], inner._states[2 * k + 1]
                h, _ = net.step(net.inputs(actor.observations, *seen), state)
                net.q_values(h)

    def emulate() -> None:
        envs.step(np.zeros(NUM_ENVS, np.int64))

    calls = {
        "update": lambda: learner.update(0.6),
        "bare": bare,
        "act": act,
        "forward": forward,
        "emulate": emulate,
    }
    if intrinsic:
        reward, rng = actor.actor._reward, torch.Generator().manual_seed(0)
        for _ in range(options.rows):
            reward._memory.append(torch.rand(NUM_ENVS, config.novelty.embedding, generator=rng))
        none = np.zeros(NUM_ENVS, np.bool_)
        calls["novelty"] = lambda: reward(actor.observations[:, -1], none)
    return calls


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--agent", choices=("r2d2", "ngu", "agent57"), default="r2d2")
    parser.add_argument("--rows", type=int, default=0)
    parser.add_argument("--windows", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    set_threads(1)
    keep_freed_memory()
    repeats = {"update": 1, "bare": 1, "act": 50, "forward": 50, "emulate": 50, "novelty": 50}
    calls = sides(options)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(options.windows):
        for name, call in calls.items():
            start = time.perf_counter()
            for _ in range(repeats[name]):
                call()
            seconds[name].append((time.perf_counter() - start) / repeats[name])
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, values in seconds.items():
        low, high = 1e3 * min(values), 1e3 * max(values)
        print(f"{name:8s} {1e3 * medians[name]:9.2f} ms ({low:.2f} to {high:.2f}, n={len(values)})")
    print(f"update over bare passes: {medians['update'] / medians['bare']:.2f}")
    alone = medians["forward"] + medians["emulate"]
    print(f"forward and emulators alone over acting: {alone / medians['act']:.2f}")
    if "novelty" in medians:
        rest = medians["act"] - medians["novelty"]
        print(f"novelty over the rest of acting: {medians['novelty'] / rest:.2f}")
    if options.json:
        options.json.write_text(json.dumps(seconds, indent=2) + "\n")


if __name__ == "__main__":
    main()
