"""Fingerprints of short trainings: whether a change of the code changed what a training computes.

`python python_tests/fingerprints.py OUT.json` trains every preset of the DQN family on Catch and
four presets on Pong with one thread, and writes SHA-256 digests of the networks, the optimizer's
moments, the replay and the metrics. `--compare OLD.json` then lists what differs from an earlier
file. Digests depend on the CPU and on the versions of the libraries, so both files must come from
one machine.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from atari_fast.config import DqnFamilyConfig
from atari_fast.infra.checkpoint import latest_checkpoint, read_checkpoint
from atari_fast.infra.logging import read_metrics
from atari_fast.infra.weights import unpack_state
from atari_fast.presets import PRESETS

ON_PONG = ("pong", "rainbow", "iqn", "ls-dqn-dueling")
COMMON = [
    *("--seed", "1", "--threads", "1", "--run.no-finish", "--run.no-tensorboard"),
    *("--run.eval-episodes", "2", "--agent.target-period", "800"),
]
CATCH = [
    *("--game", "catch", "--total-frames", "20000", "--net.torso", "mlp", "--net.hidden", "32"),
    *("--replay.capacity", "4000", "--replay.min-frames", "1600", "--run.log-period", "2000"),
    *("--run.eval-period", "8000", "--optim.update-period", "16"),
]
PONG = [
    *("--game", "pong", "--total-frames", "20000", "--replay.capacity", "4000"),
    *("--replay.min-frames", "8000", "--run.log-period", "4000", "--run.eval-period", "0"),
    *("--optim.update-period", "64"),
]
LEAST_SQUARES = ["--ls.period", "6000", "--ls.samples", "1000", "--ls.games", "2"]


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """All tensors of nested dicts, lists and tuples."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)


def below(value: Any, name: str) -> Iterator[Any]:
    """Values of the key `name` at any depth."""
    for key, item in value.items() if isinstance(value, dict) else ():
        if key == name:
            yield item
        else:
            yield from below(item, name)


def digest(tensors: Iterable[torch.Tensor]) -> str:
    """A digest of the contents that depends neither on names nor on order."""
    parts = []
    for tensor in tensors:
        array = tensor.contiguous()
        content = array.reshape(-1).view(torch.uint8).numpy().tobytes() if array.numel() else b""
        parts.append(f"{array.dtype} {list(array.shape)} {hashlib.sha256(content).hexdigest()}")
    return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()


def fingerprint(arguments: list[str]) -> dict[str, str]:
    """Digests of one training."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        command = [sys.executable, "-m", "atari_fast.train", *arguments, "--run.dir", str(run)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        checkpoint = read_checkpoint(latest_checkpoint(run / "checkpoints"))
        state = unpack_state(checkpoint.tensors.pop("state"), checkpoint.records["state"])
        metrics = [
            {key: value for key, value in row.items() if not key.startswith(("seconds", "perf/"))}
            for row in read_metrics(run)
        ]
        replay = hashlib.sha256()
        for path in sorted(checkpoint.path.glob("*.bin")):
            replay.update(path.read_bytes())
        return {
            "networks": digest(tensors_in(checkpoint.tensors)),
            "optimizer": digest(tensors_in(list(below(state, "optimizer")))),
            "replay": replay.hexdigest(),
            "metrics": hashlib.sha256(json.dumps(metrics, sort_keys=True).encode()).hexdigest(),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--compare", type=Path)
    options = parser.parse_args()
    trainings = {}
    for preset, make in PRESETS.items():
        if not isinstance(make(), DqnFamilyConfig):
            continue
        extra = LEAST_SQUARES if preset.startswith("ls-") else []
        trainings[f"catch {preset}"] = [preset, *COMMON, *CATCH, *extra]
        if preset in ON_PONG:
            trainings[f"pong {preset}"] = [preset, *COMMON, *PONG, *extra]
    found = {}
    for name, arguments in trainings.items():
        found[name] = fingerprint(arguments)
        print(name, found[name]["networks"][:12], flush=True)
    options.out.write_text(json.dumps(found, indent=2) + "\n")
    if options.compare:
        before = json.loads(options.compare.read_text())
        differ = [
            f"{name}: {', '.join(k for k in parts if parts[k] != before[name][k])}"
            for name, parts in found.items()
            if parts != before[name]
        ]
        print("\n".join(differ) or f"all {len(found)} trainings are the same")
        sys.exit(bool(differ))


if __name__ == "__main__":
    main()
