from __future__ import annotations

import hashlib
import importlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atari_fast.config import EnvConfig
from atari_fast.envs.atari_env import make_env
from atari_fast.envs.vector_env import VectorEnv
from atari_fast.errors import ConfigError, EnvError, WorkerError
from atari_fast.seeding import child, stream
from atari_fast.types import Flag
from processes import KillingPipe, alive, gone, shared_files

SEED = stream(1, "env")
PATIENCE = 120.0
"""Seconds after which what has not happened counts as never happening, on any machine."""


@pytest.fixture
def broken_envs(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of misbehaving environments, importable here and in workers."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("broken_envs")


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []
    assert shared_files(os.getpid()) == []


def _worker_pids() -> list[int]:
    """Process ids of the workers, in the order of their environments."""
    processes = sorted(multiprocessing.active_children(), key=lambda process: process.name)
    return [process.pid for process in processes if process.pid is not None]


def _actions(envs: VectorEnv, action: int = 0) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.full(envs.num_envs, action, dtype=np.int64)


def _play(envs: VectorEnv, actions: np.ndarray[Any, np.dtype[np.int64]]) -> None:
    for _ in range(1_000):
        envs.step(actions)


@pytest.mark.parametrize(
    "config",
    [
        EnvConfig(protocol="machado", life_loss="episodic"),
        EnvConfig(protocol="deepmind", max_episode_frames=90),
    ],
)
def test_results_do_not_depend_on_the_number_of_workers(config: EnvConfig) -> None:
    digests = set()
    for workers in (0, 1, 3):
        settings = EnvConfig(**{**vars(config), "num_envs": 4, "num_workers": workers})
        rng = np.random.default_rng(5)
        digest = hashlib.sha256()
        with VectorEnv("breakout", settings, SEED) as envs:
            for step in range(50):
                batch = envs.step(rng.integers(envs.spec.num_actions, size=4))
                assert (step > 0) or (batch.flags == Flag.FIRST).all()
                for array in batch:
                    digest.update(array.tobytes())
        digests.add(digest.hexdigest())
    assert len(digests) == 1


def test_a_vector_env_is_its_envs() -> None:
    config = EnvConfig(num_envs=5, num_workers=2)
    singles = [make_env("catch", config, child(SEED, index)) for index in range(5)]
    out = np.zeros(singles[0].spec.frame_shape, dtype=np.uint8)
    with VectorEnv("catch", config, SEED) as envs:
        assert (envs.num_envs, envs.spec) == (5, singles[0].spec)
        rng = np.random.default_rng(1)
        for _ in range(40):
            actions = rng.integers(3, size=5)
            batch = envs.step(actions)
            assert batch.frames.dtype == batch.flags.dtype == np.uint8
            assert batch.rewards.dtype == np.float32
            for index, env in enumerate(singles):
                result = env.step(int(actions[index]), out)
                assert (batch.rewards[index], batch.flags[index]) == result
                np.testing.assert_array_equal(batch.frames[index], out)


def test_batches_stay_until_the_next_send() -> None:
    with VectorEnv("catch", EnvConfig(num_envs=3), SEED) as envs:
        batch = envs.step(_actions(envs))
        before = batch.frames.copy()
        time.sleep(0.05)
        np.testing.assert_array_equal(batch.frames, before)
        envs.send(_actions(envs))
        envs.recv()
        assert not np.array_equal(batch.frames, before)


@pytest.mark.parametrize("workers", [0, 2])
def test_wrong_actions_are_refused_and_change_nothing(workers: int) -> None:
    cases: list[tuple[Any, str]] = [
        (np.zeros(4, np.int32), r"got int32\[4\], expected int64\[4\]"),
        (np.zeros(3, np.int64), r"got int64\[3\]"),
        (np.zeros((4, 1), np.int64), r"got int64\[4, 1\]"),
        (np.zeros(4), r"got float64\[4\]"),
        ([0, 0, 0, 0], "got list"),
        (None, "got NoneType"),
        (np.array([0, 0, -1, 0]), "got -1 in environment 2"),
        (np.array([0, 3, 0, 0]), "got 3 in environment 1, .* from 0 to 2"),
    ]
    with (
        VectorEnv("catch", EnvConfig(num_envs=4, num_workers=workers), SEED) as envs,
        VectorEnv("catch", EnvConfig(num_envs=4), SEED) as untouched,
    ):
        for actions, message in cases:
            with pytest.raises(EnvError, match=f"actions: {message}"):
                envs.send(actions)
        for _ in range(12):
            frames = envs.step(_actions(envs)).frames
            np.testing.assert_array_equal(frames, untouched.step(_actions(envs)).frames)


@pytest.mark.parametrize("workers", [0, 1])
def test_send_and_recv_alternate(workers: int) -> None:
    with VectorEnv("catch", EnvConfig(num_envs=2, num_workers=workers), SEED) as envs:
        with pytest.raises(EnvError, match="nothing was sent"):
            envs.recv()
        envs.send(_actions(envs))
        with pytest.raises(EnvError, match="call recv"):
            envs.send(_actions(envs))
        envs.recv()
        with pytest.raises(EnvError, match="nothing was sent"):
            envs.recv()
        envs.step(_actions(envs))
    with pytest.raises(EnvError, match="closed"):
        envs.send(_actions(envs))
    with pytest.raises(EnvError, match="closed"):
        envs.recv()


@pytest.mark.parametrize(("count", "workers"), [(0, 0), (2, 3), (2, -2), (-1, 0)])
def test_impossible_numbers(count: int, workers: int) -> None:
    with pytest.raises(ConfigError, match=f"got {count} and {workers}"):
        VectorEnv("catch", EnvConfig(num_envs=count, num_workers=workers), SEED)


def test_unknown_game_is_an_error_at_once() -> None:
    with pytest.raises(EnvError, match="breakout"):
        VectorEnv("breakot", EnvConfig(num_envs=2, num_workers=2), SEED)


def test_a_killed_worker_is_named() -> None:
    envs = VectorEnv("catch", EnvConfig(num_envs=4, num_workers=2), SEED)
    envs.step(_actions(envs))
    os.kill(_worker_pids()[1], signal.SIGKILL)
    with pytest.raises(
        WorkerError, match=r"worker 1 \(environments 2 to 3 of catch\) was killed by SIGKILL"
    ):
        _play(envs, _actions(envs))
    with pytest.raises(EnvError, match="closed"):
        envs.step(_actions(envs))


def test_a_worker_killed_in_the_middle_of_a_step_is_named(broken_envs: Any) -> None:
    envs = VectorEnv("catch", EnvConfig(num_envs=4, num_workers=2), SEED, make=broken_envs.sleeping)
    envs.step(_actions(envs))
    envs.send(np.array([2, 0, 0, 0]))
    os.kill(_worker_pids()[0], signal.SIGKILL)
    with pytest.raises(
        WorkerError, match=r"worker 0 \(environments 0 to 1 of catch\) was killed by SIGKILL"
    ):
        envs.recv()


def test_a_worker_killed_in_the_middle_of_an_answer_is_named(broken_envs: Any) -> None:
    envs = VectorEnv("catch", EnvConfig(num_envs=2, num_workers=1), SEED, make=broken_envs.heavy)
    envs.step(_actions(envs))
    (worker,) = envs._workers
    envs._workers[0] = worker._replace(pipe=KillingPipe(worker))
    with pytest.raises(WorkerError, match=r"worker 0 .* was killed by SIGKILL"):
        envs.states()


def test_a_hanging_env_is_named_after_the_timeout(broken_envs: Any) -> None:
    config = EnvConfig(num_envs=4, num_workers=2, worker_timeout=2.0)
    envs = VectorEnv("catch", config, SEED, make=broken_envs.sleeping)
    envs.step(_actions(envs))
    with pytest.raises(
        WorkerError, match=r"worker 1 \(environments 2 to 3 of catch\) gave no answer for 2 "
    ):
        envs.step(np.array([0, 0, 0, 2]))


def test_a_stopped_worker_is_named_and_ended() -> None:
    envs = VectorEnv("catch", EnvConfig(num_envs=2, num_workers=1, worker_timeout=2.0), SEED)
    envs.step(_actions(envs))
    pid = _worker_pids()[0]
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(WorkerError, match=r"worker 0 .* gave no answer for 2 seconds"):
        envs.step(_actions(envs))
    assert not alive(pid)


def test_a_worker_that_starts_has_the_timeout_too(
    broken_envs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atari_fast.envs.vector_env._START_SECONDS", -1.0)
    config = EnvConfig(num_envs=1, num_workers=1, worker_timeout=60.0)
    VectorEnv("catch", config, SEED, make=broken_envs.starting_late).close()
    with pytest.raises(WorkerError, match=r"gave no answer for 0.1 seconds"):
        VectorEnv("catch", EnvConfig(num_envs=1, num_workers=1, worker_timeout=0.1), SEED)


def test_a_vector_env_may_live_in_a_thread() -> None:
    flags = []

    def play() -> None:
        with VectorEnv("catch", EnvConfig(num_envs=4, num_workers=2), SEED) as envs:
            flags.extend(envs.step(_actions(envs)).flags)

    thread = threading.Thread(target=play)
    thread.start()
    thread.join(PATIENCE)
    assert flags == [Flag.FIRST] * 4


def test_an_exception_in_an_env_is_reported_with_its_trace(broken_envs: Any) -> None:
    envs = VectorEnv("catch", EnvConfig(num_envs=4, num_workers=2), SEED, make=broken_envs.breaking)
    with pytest.raises(
        WorkerError,
        match=r"worker 1 \(environments 2 to 3 of catch\) failed: ValueError: the joystick broke",
    ) as caught:
        _play(envs, np.array([0, 0, 0, 2]))
    assert "in step" in str(caught.value.__cause__)


def test_an_environment_error_in_an_env_stays_one(broken_envs: Any) -> None:
    envs = VectorEnv(
        "catch", EnvConfig(num_envs=4, num_workers=2), SEED, make=broken_envs.complaining
    )
    with pytest.raises(EnvError, match=r"worker 0 .* failed: cartridge: got dust"):
        _play(envs, np.array([0, 2, 0, 0]))


def test_an_exception_without_workers_is_the_env_s_own(broken_envs: Any) -> None:
    envs = VectorEnv("catch", EnvConfig(num_envs=2), SEED, make=broken_envs.breaking)
    with pytest.raises(ValueError, match="the joystick broke"):
        _play(envs, np.array([0, 2]))
    with pytest.raises(EnvError, match="closed"):
        envs.recv()


def test_errors_of_construction_arrive(broken_envs: Any) -> None:
    with pytest.raises(EnvError, match=r"^game: the ROM of catch cannot be used$"):
        VectorEnv("catch", EnvConfig(num_envs=2, num_workers=2), SEED, make=broken_envs.refusing)
    with pytest.raises(WorkerError, match=r"worker 0 .* failed: ZeroDivisionError: no game today"):
        VectorEnv("catch", EnvConfig(num_envs=2, num_workers=1), SEED, make=broken_envs.failing)


def test_workers_ignore_the_keyboard() -> None:
    with VectorEnv("catch", EnvConfig(num_envs=2, num_workers=2), SEED) as envs:
        for pid in _worker_pids():
            os.kill(pid, signal.SIGINT)
        for _ in range(3):
            envs.step(_actions(envs))


def test_closing_ends_the_workers_and_may_be_repeated() -> None:
    envs = VectorEnv("catch", EnvConfig(num_envs=2, num_workers=2), SEED)
    pids = _worker_pids()
    envs.send(_actions(envs))
    assert shared_files(os.getpid()) == []
    envs.close()
    envs.close()
    assert not any(alive(pid) for pid in pids)


def test_a_forgotten_vector_env_ends() -> None:
    envs = VectorEnv("catch", EnvConfig(num_envs=2, num_workers=1), SEED)
    pids = _worker_pids()
    del envs
    assert gone(pids, PATIENCE)


def _interrupted(pids: list[int]) -> None:
    with VectorEnv("catch", EnvConfig(num_envs=2, num_workers=2), SEED) as envs:
        pids += _worker_pids()
        envs.send(_actions(envs))
        raise KeyboardInterrupt


def test_nothing_is_left_after_an_exception_in_the_caller() -> None:
    pids: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        _interrupted(pids)
    assert len(pids) == 2
    assert not any(alive(pid) for pid in pids)


def test_vector_envs_do_not_leak_files(broken_envs: Any) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    # The first one starts the resource tracker, which has files of its own.
    VectorEnv("catch", EnvConfig(num_envs=2, num_workers=1), SEED).close()
    before = descriptors()
    for _ in range(3):
        VectorEnv("catch", EnvConfig(num_envs=2, num_workers=1), SEED).close()
    assert descriptors() <= before
