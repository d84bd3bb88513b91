"""The default command beside fixed settings, on an idle machine and beside other work.

`python bench/bench_threads.py` starts `python -m atari_fast.train` as a user does, without
arguments and with fixed numbers of threads and workers, and prints emulator frames a second while
it learns, and the default's share of the best fixed setting. Three situations: nothing else runs;
another process keeps one core busy; two trainings with the same setting run side by side (the mean
of the two counts). Rounds are interleaved; medians and extremes of `--rounds`.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SETTINGS = {
    "default": [],
    **{
        f"{threads} threads, {workers} workers": [
            *("--threads", str(threads), "--env.num-workers", str(workers))
        ]
        for threads in (1, 2)
        for workers in (0, 1)
    },
}
BUSY = "while True: pass"


def start(arguments: list[str], directory: Path) -> subprocess.Popen[bytes]:
    """A training that writes metrics often and never evaluates."""
    run = ["--run.dir", str(directory), "--run.log-period", "800", "--run.eval-period", "0"]
    command = [sys.executable, "-m", "atari_fast.train", "pong", *run, "--run.no-finish"]
    return subprocess.Popen(
        [*command, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def rate(directory: Path) -> float:
    """Frames a second between the first and the last line of metrics with updates."""
    lines = map(json.loads, (directory / "metrics.jsonl").read_text().splitlines())
    learning = [line for line in lines if line["train/updates"] > 0]
    first, last = learning[0], learning[-1]
    return float((last["frames"] - first["frames"]) / (last["seconds"] - first["seconds"]))


def measure(arguments: list[str], copies: int, seconds: float) -> float:
    """Mean rate of `copies` trainings that run at the same time."""
    with tempfile.TemporaryDirectory() as folder:
        runs = [Path(folder, str(copy)) for copy in range(copies)]
        trainings = [start(arguments, run) for run in runs]
        time.sleep(seconds)
        for training in trainings:
            training.send_signal(signal.SIGINT)
        for training in trainings:
            training.wait()
        return statistics.mean(map(rate, runs))


def main() -> None:
    """Prints a table for each situation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each training")
    options = parser.parse_args()
    for situation, busy, copies in (("idle", 0, 1), ("one core busy", 1, 1), ("two runs", 0, 2)):
        rates: dict[str, list[float]] = {name: [] for name in SETTINGS}
        others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(busy)]
        try:
            for _ in range(options.rounds):
                for name, arguments in SETTINGS.items():
                    rates[name].append(measure(arguments, copies, options.seconds))
        finally:
            for other in others:
                other.kill()
                other.wait()
        medians = {name: statistics.median(values) for name, values in rates.items()}
        best = max(value for name, value in medians.items() if name != "default")
        print(f"{situation}: default {medians['default'] / best:.2f} of the best fixed setting")
        for name, values in rates.items():
            spread = f"{min(values):.0f} to {max(values):.0f}"
            print(f"  {name:20} {medians[name]:6.0f} frames/s ({spread})", flush=True)


if __name__ == "__main__":
    main()
