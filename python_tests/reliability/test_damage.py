"""Damaged checkpoints are refused by name, or the one before is taken with a loud warning."""

from __future__ import annotations

import functools
import io
import os
import pickle  # noqa: TID251 - to show that nothing loads it
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from atari_fast.agents.restore import load_agent
from atari_fast.config import DqnAgentConfig, DqnConfig, EnvConfig, NetConfig, ReplayConfig
from atari_fast.envs.vector_env import VectorEnv
from atari_fast.errors import CheckpointError, EnvError, NumericError
from atari_fast.infra import checkpoint as ckpt
from atari_fast.infra.checkpoint import (
    Snapshot,
    best_checkpoint,
    latest_checkpoint,
    list_checkpoints,
    read_checkpoint,
    write_checkpoint,
)
from atari_fast.infra.weights import pack_state, unpack_state
from atari_fast.seeding import stream
from atari_fast.train import main
from atari_fast.types import Acted, StepBatch
from commands import AGENT57, CATCH, PPO, R2D2, one_sentence, outcome, train
from run_parts import CPU, make_replay


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run, whose last checkpoints are at 2400 and 2800 frames."""
    folder = tmp_path_factory.mktemp("damage")
    assert train(*CATCH, cwd=folder).returncode == 0
    return folder / "run"


class Malice:
    """Runs a command where it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch '{self.canary}'",)


def pickles(canary: Path) -> Iterator[bytes]:
    for protocol in (0, 2, pickle.HIGHEST_PROTOCOL):
        yield pickle.dumps(Malice(canary), protocol)
    stream = io.BytesIO()
    torch.save({"weight": Malice(canary)}, stream)
    yield stream.getvalue()


def contents(file: Path, flips: int, canary: Path, rng: random.Random) -> Iterator[bytes]:
    """Everything that a file may hold instead of what was written."""
    blob = file.read_bytes()
    for length in (0, 1, len(blob) // 2, len(blob) - 1):
        yield blob[:length]
    yield blob + b"\0"
    yield from pickles(canary)
    for offset in {0, len(blob) - 1, *rng.choices(range(len(blob)), k=flips)}:
        flipped = bytearray(blob)
        flipped[offset] ^= 1 << rng.randrange(8)
        yield bytes(flipped)


def refused(newest: Path, before: str, *names: str) -> None:
    """Checks that a damaged checkpoint is named, and that the one before is taken loudly."""
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(newest)
    assert any(str(newest / name) in str(caught.value) for name in names), caught.value
    with pytest.warns(RuntimeWarning, match="FALLING BACK") as warned:
        assert latest_checkpoint(newest.parent, holding="replay.bin").name == before
    assert any(name in str(warned[0].message) for name in names)


def put(file: Path, content: bytes) -> None:
    """Replaces a file, which other checkpoints may have as well."""
    file.unlink()
    file.write_bytes(content)


def sweep(files: Sequence[Path], flips: int, canary: Path, check: Callable[..., None]) -> int:
    """Calls `check` with the names of what is damaged, in all ways; returns how many they were."""
    rng = random.Random(0)
    cases = 0
    for index, file in enumerate(files):
        blob = file.read_bytes()
        for content in contents(file, flips, canary, rng):
            put(file, content)
            check(file.name)
            cases += 1
        file.unlink()
        check(file.name)
        file.mkdir()
        check(file.name)
        file.rmdir()
        file.symlink_to(file.name)
        check(file.name)
        put(file, blob)
        cases += 3
        for other in files[index + 1 :]:
            theirs = other.read_bytes()
            if theirs == blob:
                continue
            put(file, theirs)
            put(other, blob)
            check(file.name, other.name)
            put(file, blob)
            put(other, theirs)
            cases += 1
    assert not canary.exists()
    return cases


@pytest.mark.parametrize("flips", [27, pytest.param(270, marks=pytest.mark.slow)])
def test_damage_is_named_and_the_checkpoint_before_is_taken(
    run: Path, tmp_path: Path, flips: int
) -> None:
    root = shutil.copytree(run, tmp_path / "run") / "checkpoints"
    newest = latest_checkpoint(root)
    files = sorted(newest.iterdir())
    assert len(files) == 7
    check = functools.partial(refused, newest, "ckpt-000000002400")
    assert sweep(files, flips, tmp_path / "canary", check) > 7 * flips
    assert latest_checkpoint(root) == newest  # all of it was put back


NOISE = DqnConfig(
    env=EnvConfig(num_envs=2),
    net=NetConfig(stack=2),
    agent=DqnAgentConfig(n_step=1),
    replay=ReplayConfig(capacity=2_000),
)


def noise_checkpoints(root: Path, seed: int) -> Path:
    """Two checkpoints of a replay of noise, one shared part per environment; returns the second."""
    replay = make_replay(NOISE, (84, 84))
    rng = np.random.default_rng(seed)
    path = None
    for frames in (4, 8):
        for _ in range(400):
            noise = rng.integers(0, 256, (2, 84, 84), dtype=np.uint8)
            step = StepBatch(noise, np.zeros(2, np.float32), np.zeros(2, np.uint8))
            replay.append(step, Acted(np.zeros(2, np.int64)))
        save = functools.partial(
            replay.save, split=True, previous=path / "replay.bin" if path else None
        )
        snapshot = Snapshot(replay.bytes_used, save)
        path = write_checkpoint(root, frames, {}, {}, 2, {"replay": snapshot})
    assert path is not None
    return path


@pytest.mark.parametrize("flips", [5, pytest.param(100, marks=pytest.mark.slow)])
def test_damage_to_parts_of_the_replay_is_named(tmp_path: Path, flips: int) -> None:
    newest = noise_checkpoints(tmp_path / "mine", seed=0)
    theirs = noise_checkpoints(tmp_path / "theirs", seed=1)
    parts = sorted(newest.glob("replay-lane*-*.bin"))
    assert [part.name for part in parts] == [
        f"replay-lane{env}-{number}.bin" for env in (0, 1) for number in (0, 1)
    ]
    replay = make_replay(NOISE, (84, 84))

    def check(*names: str) -> None:
        refused(newest, "ckpt-000000000004", *names)
        with pytest.raises(CheckpointError) as caught:  # whatever the manifest says
            replay.load(newest / "replay.bin")
        assert any(name in str(caught.value) for name in names)
        assert len(replay) == 0

    assert sweep(parts, flips, tmp_path / "canary", check) > 4 * flips
    for part in parts:
        blob = part.read_bytes()
        put(part, (theirs / part.name).read_bytes())
        check(part.name)
        put(part, blob)
    assert latest_checkpoint(newest.parent) == newest
    replay.load(newest / "replay.bin")
    assert len(replay) > 0


def test_damage_to_a_part_that_checkpoints_share_leaves_none_whole(tmp_path: Path) -> None:
    newest = noise_checkpoints(tmp_path, seed=0)
    shared = newest / "replay-lane0-0.bin"
    assert shared.stat().st_nlink == 2
    shared.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"no checkpoint is whole: .*replay-lane0-0\.bin"):
        latest_checkpoint(tmp_path, holding="replay.bin")


def test_resume_takes_the_checkpoint_before_a_damaged_one(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    newest = latest_checkpoint(copy / "checkpoints")
    (newest / "state.json").write_bytes(b"{}")
    done = train("--resume", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("warning: damaged checkpoint passed over")
    assert "state.json" in done.stderr
    assert "FALLING BACK" in done.stderr
    shutil.rmtree(newest)
    assert outcome(copy) == outcome(run)
    for path in list_checkpoints(copy / "checkpoints"):
        (path / "replay.bin").unlink()
    one_sentence(train("--resume", "run", cwd=tmp_path), 4, "no checkpoint is whole", "replay.bin")


@pytest.mark.parametrize("which", ["best", "last"])
def test_an_agent_is_loaded_without_a_look_at_the_replay(
    run: Path, tmp_path: Path, which: str
) -> None:
    """Hundreds of megabytes that an evaluation does not need; its networks are checked as ever."""
    root = shutil.copytree(run, tmp_path / "run") / "checkpoints"
    for path in list_checkpoints(root):
        (path / "replay.bin").unlink()
    expected = latest_checkpoint(root, snapshots=False)
    if which == "best":
        expected = best_checkpoint(root, snapshots=False)
    for path in (root.parent, expected):
        assert load_agent(path, which, CPU).source == expected
    (expected / "online.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"online\.safetensors: damaged"):
        load_agent(expected, which, CPU)


def test_resume_checks_the_replay_once(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, checked = ckpt.check_file, []

    def check_file(path: Path, entry: dict[str, Any]) -> None:
        checked.append(path.name)
        real(path, entry)

    monkeypatch.chdir(shutil.copytree(run, tmp_path / "run").parent)
    monkeypatch.setattr(ckpt, "check_file", check_file)
    assert main(["--resume", "run", "--total-frames", "2804"]) == 0
    assert checked.count("replay.bin") == 1


class Forger:
    """Writes checkpoints whose checksums are right and whose content is not, and resumes them."""

    def __init__(self, run: Path, folder: Path) -> None:
        self.path = list_checkpoints(run / "checkpoints")[-2]
        self.folder = folder
        self.checkpoint = read_checkpoint(self.path)
        self.state = self.fresh_state()

    def fresh_state(self) -> dict[str, Any]:
        read = self.checkpoint
        return unpack_state(read.tensors["state"], read.records["state"])

    def resume(
        self,
        tensors: dict[str, Any] | None = None,
        records: dict[str, Any] | None = None,
        replay: Path | None = None,
    ) -> int:
        shutil.rmtree(self.folder / "run", ignore_errors=True)
        state_tensors, state_record = pack_state(self.state)
        replay = replay or self.path / "replay.bin"
        write_checkpoint(
            self.folder / "run" / "checkpoints",
            self.checkpoint.frames,
            {**self.checkpoint.tensors, "state": state_tensors, **(tensors or {})},
            {**self.checkpoint.records, "state": state_record, **(records or {})},
            keep_last=1,
            snapshots={"replay": Snapshot(0, lambda path: shutil.copyfile(replay, path))},
        )
        return main(["--resume", "run"])

    def refused(self, **parts: Any) -> None:
        with pytest.raises(CheckpointError, match="run/checkpoints/ckpt-000000002400") as caught:
            self.resume(**parts)
        assert "\n" not in str(caught.value).partition("Error(s) in loading")[0]


@pytest.fixture
def forger(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Forger:
    monkeypatch.chdir(tmp_path)
    return Forger(run, tmp_path)


def test_a_forged_checkpoint_is_refused(forger: Forger, tmp_path: Path) -> None:
    assert forger.resume() == 0  # the forger can write a good one
    tensors = forger.checkpoint.tensors
    name, weight = next(iter(tensors["online"].items()))
    forger.refused(tensors={"online": {}})
    forger.refused(tensors={"online": {**tensors["online"], name: weight[:1]}})
    forger.refused(tensors={"target": {**tensors["target"], "more": weight}})
    forger.refused(tensors={"state": {}})
    for config in (None, 1, {}, {"schema": 99}, {"schema": 1, "config": {"seed": "x"}}):
        forger.refused(records={"config": config})
    for state in (None, [], {}, {"dict": []}, {"dict": 1}, {"tensor": "no"}):
        forger.refused(records={"state": state})
    other = tmp_path / "other"
    other.mkdir()
    assert train(*CATCH, "--replay.capacity", "300", cwd=other).returncode == 0
    forger.refused(replay=latest_checkpoint(other / "run" / "checkpoints") / "replay.bin")


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of what is in a state, of a list only its first item."""
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list | tuple):
        items = list(enumerate(value))[:1]
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


CHANGES = ["delete", None, "x", [], {}, -1, 1e300, torch.zeros(2, 3), torch.zeros(1)]


@pytest.mark.parametrize("every", [30, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "arguments",
    [CATCH, R2D2, AGENT57, PPO],
    ids=["dqn", "r2d2-bandit", "agent57", "ppo-lstm"],
)
def test_a_forged_state_is_refused_or_goes_on(
    arguments: list[str], every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever stands in it: never another error than the one that names it."""
    monkeypatch.chdir(tmp_path)
    assert train(*arguments, cwd=tmp_path).returncode == 0
    whole = (tmp_path / "run").rename(tmp_path / "whole")
    forger = Forger(whole, tmp_path)
    cases = [(place, change) for place in places(forger.state) for change in CHANGES]
    outcomes = {0: 0, 4: 0}
    for place, change in cases[::every]:
        forger.state = forger.fresh_state()
        parent: Any = forger.state
        for key in place[:-1]:
            parent = parent[key]
        if isinstance(parent, tuple):
            continue
        if isinstance(change, str) and change == "delete":
            del parent[place[-1]]
        else:
            parent[place[-1]] = change
        try:
            outcomes[forger.resume()] += 1
        except (CheckpointError, NumericError):
            outcomes[4] += 1
        except Exception as error:
            raise AssertionError(f"{place} = {change!r}: {error!r}") from error
    assert outcomes[4] > outcomes[0]


@pytest.mark.parametrize("workers", [0, 1])
def test_the_states_of_another_game_are_refused(workers: int) -> None:
    config = EnvConfig(num_envs=1, num_workers=workers)
    with VectorEnv("breakout", config, stream(0, "x")) as other:
        other.step(np.zeros(1, np.int64))
        states = other.states()
    with (
        VectorEnv("pong", config, stream(0, "x")) as envs,
        pytest.raises(EnvError, match="not the state of an environment of this game"),
    ):
        envs.load_states(states)
