"""Acting, sampling, updates and whole trainings on a GPU; `--device cpu` is a dry run.

    python bench/bench_gpu.py [--device cuda] [--seconds 120] [--tiny] [--only NAME ...]
        [--json FILE]

Every figure is the median of at least 5 windows with its range, beside a baseline of the same run.

- acting: observations of E environments to actions (`StackedActor.act`), synthetic frames, among
  them 1 % random actions; then steps of real environments, alone and with acting in turn.
- sampling: batches drawn into page-locked memory, and copied to the device, beside a copy of as
  many bytes in main memory by one thread.
- updates: `Learner.update` whole, by precision; a window ends when the device is done. Beside
  it the most memory of the device that torch has reserved in that row.
- training: emulator frames a second of whole loops, while the GPU's utilisation is asked for (the
  share of time in which any kernel ran, by nvidia-smi; n/a on the CPU). Then the same loops with a
  clock around their parts, for shares. The device is waited for before the clocks of acting and of
  updates stop, so that its time counts where it was asked for: these are the shares of a loop that
  overlaps less.

It measures for about `--seconds`; memories have to be filled before. `--tiny`: networks and numbers
that a dry run on two cores has time for. Nothing passes or fails by its time.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from loops import Loop, Utilisation, dqn, filled, recurrent, rollouts

from atari_fast.agents.agent import ActorSpec, tensors_of
from atari_fast.agents.registry import build
from atari_fast.envs.vector_env import VectorEnv
from atari_fast.infra.cpu import available_cores
from atari_fast.runtime.acting import StackedActor
from atari_fast.runtime.device import Autocast, keep_freed_memory, select_device, set_threads
from atari_fast.runtime.learner import Learner
from atari_fast.runtime.prefetcher import to_device
from atari_fast.seeding import stream
from atari_fast.types import EnvSpec, Flag, StepBatch

WINDOWS = 5
PLAIN = ("dqn-nature", "rainbow")
RECURRENT = ("r2d2", "ngu-gpu", "agent57-gpu")
ROLLOUTS = ("ppo", "pqn")


class Bench:
    """Where it runs, how long, and the rows that were measured."""

    def __init__(self, device: torch.device, seconds: float, tiny: bool, path: Path | None) -> None:
        self.device = device
        self.cell = seconds / 105
        """Seconds of one figure; trainings have those of several."""
        self.tiny = tiny
        self.pinned = device.type == "cuda"
        self.threads = 1 if self.pinned else available_cores()
        self._path = path
        self.record: dict[str, Any] = {
            "device": torch.cuda.get_device_name(device) if self.pinned else "cpu",
            "torch": torch.__version__,
            "cores": available_cores(),
            "seconds": seconds,
            "tiny": tiny,
            "rows": [],
        }

    def wait(self) -> None:
        """Until the device has done all that it was given."""
        if self.pinned:
            torch.cuda.synchronize(self.device)

    def peak_gb(self) -> float:
        """The most memory of the device that was reserved since the last call."""
        peak = torch.cuda.max_memory_reserved(self.device) / 1e9
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.device)
        return round(peak, 2)

    def rates(self, work: Callable[[], object], seconds: float = 0.0) -> list[float]:
        """Calls a second in each window, after one call and one window that do not count."""
        work()
        self.wait()
        start = time.perf_counter()
        work()
        self.wait()
        once = time.perf_counter() - start
        calls = max(1, round((seconds or self.cell) / (WINDOWS + 1) / max(once, 1e-6)))
        found = []
        for _ in range(WINDOWS + 1):
            start = time.perf_counter()
            for _ in range(calls):
                work()
            self.wait()
            found.append(calls / (time.perf_counter() - start))
        return found[1:]

    def row(
        self,
        section: str,
        name: str,
        rates: Sequence[float],
        unit: str,
        baseline: float = 0.0,
        **more: object,
    ) -> float:
        """Prints and keeps a row; returns its median."""
        median = statistics.median(rates)
        ratio = median / baseline if baseline else None
        low, high = min(rates), max(rates)
        entry = {"section": section, "name": name, "unit": unit, "median": median, "low": low}
        entry |= {"high": high, "windows": len(rates), "ratio": ratio, **more}
        self.record["rows"].append(entry)
        beside = f"  {ratio:.2f}x" if ratio is not None else ""
        notes = "".join(f"  {key} {value}" for key, value in more.items())
        print(
            f"{section:9s} {name:34s} {median:12,.1f} {unit:9s} ({low:,.1f} to {high:,.1f}, "
            f"n={len(rates)}){beside}{notes}"
        )
        if self._path:  # after every row: a run that is ended leaves what it has
            self._path.write_text(json.dumps(self.record, indent=2) + "\n")
        return median


def synthetic_acting(bench: Bench, config: Any, name: str, sizes: Sequence[int]) -> None:
    """Steps a second of an actor of E environments with random frames."""
    spec = EnvSpec((84, 84), tuple(f"action {i}" for i in range(18)))
    agent = build(config, spec, bench.device)
    autocast = Autocast(bench.device, "auto")
    rng = np.random.default_rng(0)
    baseline = 0.0
    for num_envs in sizes:
        frames = rng.integers(0, 256, (num_envs, *spec.frame_shape), np.uint8)
        flags = np.zeros(num_envs, np.uint8)
        step = StepBatch(frames, np.zeros(num_envs, np.float32), flags)
        acting = ActorSpec(num_envs, "evaluate", rng, autocast, 0.01)
        actor = StackedActor(agent, acting, spec, bench.device)
        actor.act(step._replace(flags=flags | np.uint8(Flag.FIRST)))
        rates = bench.rates(lambda actor=actor, step=step: actor.act(step))
        rates = [rate * num_envs for rate in rates]
        median = bench.row("acting", f"{name}, E = {num_envs}", rates, "steps/s", baseline)
        baseline = baseline or median


def real_acting(bench: Bench, config: Any, name: str) -> None:
    """Steps a second of environments alone and with acting in turn; the emulators' share."""
    with VectorEnv(config.game, config.env, stream(1, "envs")) as envs:
        agent = build(config, envs.spec, bench.device)
        autocast = Autocast(bench.device, "auto")
        acting = ActorSpec(envs.num_envs, "evaluate", np.random.default_rng(0), autocast, 0.01)
        actor = StackedActor(agent, acting, envs.spec, bench.device)
        actions = np.random.default_rng(0).integers(envs.spec.num_actions, size=envs.num_envs)
        step = envs.step(actions)

        def act_and_step() -> None:
            nonlocal step
            step = envs.step(actor.act(step).actions)

        size = f"{name}, {config.env.num_workers} workers, E = {envs.num_envs}"
        alone = [rate * envs.num_envs for rate in bench.rates(lambda: envs.step(actions))]
        baseline = bench.row("acting", f"{size}, emulators", alone, "steps/s")
        both = [rate * envs.num_envs for rate in bench.rates(act_and_step)]
        share = statistics.median(both) / baseline
        bench.row("acting", f"{size}, both", both, "steps/s", baseline, share=round(share, 3))


def sampling(bench: Bench, name: str, memory: Any, size: int) -> None:
    """Batches and bytes a second, drawn and copied to the device."""
    batch = memory.new_batch(size, pinned=bench.pinned)
    tensors = list(tensors_of(batch))
    gigabytes = sum(tensor.nbytes for tensor in tensors) / 1e9
    copies = [torch.empty_like(tensor) for tensor in tensors]

    def copy() -> None:
        for to, tensor in zip(copies, tensors, strict=True):
            to.copy_(tensor)

    memory.sample_into(batch, 0.5)
    baseline = 0.0
    for what, work in (
        ("copy in main memory", copy),
        ("drawn", lambda: memory.sample_into(batch, 0.5)),
        ("to the device", lambda: to_device(batch, bench.device)),
    ):
        rates = bench.rates(work)
        speed = round(statistics.median(rates) * gigabytes, 3)
        label = f"{name} {size}, {what}"
        median = bench.row("sampling", label, rates, "batches/s", baseline, gb_per_s=speed)
        baseline = baseline or median


def updates(bench: Bench, name: str, agent: Any, memory: Any, sizes: Sequence[int]) -> None:
    """Updates a second by batch size and precision; the baseline is the first row."""
    baseline = 0.0
    for size in sizes:
        sized = dataclasses.replace(agent, batch_size=size)
        for precision in ("fp32", "bf16"):
            autocast = Autocast(bench.device, precision)
            learner: Learner[Any] = Learner(
                sized, memory, bench.device, autocast, threads=bench.threads
            )
            for _ in range(4):  # the last of them records a CUDA graph
                learner.update(0.5)
            rates = bench.rates(lambda learner=learner: learner.update(0.5))
            learner.state()  # takes in priorities that are on their way
            label = f"{name} {size}, {precision}"
            more = {"gpu_gb": bench.peak_gb()} if bench.pinned else {}
            median = bench.row("updates", label, rates, "/s", baseline, **more)
            baseline = baseline or median
            del learner


def training(bench: Bench, name: str, config: Any) -> None:
    """Frames a second of a whole loop, the GPU's utilisation, and the shares of its parts."""
    with Loop(config, bench.device, bench.threads) as loop:
        loop.warm_up()
        bench.wait()
        with Utilisation(bench.device) as utilisation:
            rates = loop.frame_rates(WINDOWS, 4 * bench.cell, bench.wait)
        loop.take_shares(bench.wait)
        loop.frame_rates(1, 2 * bench.cell, bench.wait)
        shares = {part: round(share, 3) for part, share in loop.shares().items()}
        more = {"updates": loop.updates, "utilisation": utilisation.mean, "shares": shares}
        bench.row("training", name, rates, "frames/s", **more)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--json", type=Path)
    names = (*PLAIN, *RECURRENT, *ROLLOUTS)
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    options = parser.parse_args()
    device = select_device(options.device)
    set_threads(1 if device.type == "cpu" else available_cores())
    keep_freed_memory()
    bench = Bench(device, options.seconds, options.tiny, options.json)
    print(f"{bench.record['device']}, torch {torch.__version__}, {available_cores()} cores")
    tiny, numbers = options.tiny, (8, 16) if options.tiny else (32, 256)
    configs = {
        name: (dqn if name in PLAIN else recurrent)(name, tiny)
        for name in options.only
        if name not in ROLLOUTS
    }
    for name, config in configs.items():
        if name != "rainbow":  # acts as dqn-nature
            synthetic_acting(bench, config, name, (4, 8) if tiny else (16, 64, 256))
            real_acting(bench, config, name)
    for name, config in configs.items():
        agent, memory = filled(config, device, 50 if tiny else 300)
        size = config.optim.batch_size
        sizes = {"dqn-nature": numbers, "rainbow": numbers[:1]}.get(name, (size,))
        if name in ("dqn-nature", "r2d2"):
            for size in sizes:
                sampling(bench, name, memory, size)
        updates(bench, name, agent, memory, sizes)
        del agent, memory
    for name, config in configs.items():
        if name != "rainbow":
            training(bench, name, config)
    for name in filter(ROLLOUTS.__contains__, options.only):
        for num_envs in (8, 16) if tiny else (128, 1024):
            config = rollouts(name, tiny, num_envs)
            real_acting(bench, config, name)
            training(bench, f"{name} {num_envs}", config)


if __name__ == "__main__":
    main()
