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
from atari_fast.envs.lane import make_lane
from atari_fast.envs.pool import LanePool
from atari_fast.errors import ConfigError, EnvError, WorkerError
from atari_fast.seeding import child, stream
from atari_fast.types import Flag
from processes import alive, gone, shared_files

SEED = stream(1, "env")
PATIENCE = 120.0
"""Seconds after which what has not happened counts as never happening, on any machine."""


@pytest.fixture
def lanes(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of misbehaving lanes, importable here and in workers."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("pool_lanes")


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []
    assert shared_files(os.getpid()) == []


def _worker_pids() -> list[int]:
    """Process ids of the workers, in the order of their lanes."""
    processes = sorted(multiprocessing.active_children(), key=lambda process: process.name)
    return [process.pid for process in processes if process.pid is not None]


def _actions(pool: LanePool, action: int = 0) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.full(pool.num_lanes, action, dtype=np.int64)


def _play(pool: LanePool, actions: np.ndarray[Any, np.dtype[np.int64]]) -> None:
    for _ in range(1_000):
        pool.step(actions)


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
        settings = EnvConfig(**{**vars(config), "lanes": 4, "workers": workers})
        rng = np.random.default_rng(5)
        digest = hashlib.sha256()
        with LanePool("breakout", settings, SEED) as pool:
            for step in range(50):
                batch = pool.step(rng.integers(pool.spec.num_actions, size=4))
                assert (step > 0) or (batch.flags == Flag.FIRST).all()
                for array in batch:
                    digest.update(array.tobytes())
        digests.add(digest.hexdigest())
    assert len(digests) == 1


def test_a_pool_is_its_lanes() -> None:
    config = EnvConfig(lanes=5, workers=2)
    singles = [make_lane("catch", config, child(SEED, index)) for index in range(5)]
    out = np.zeros(singles[0].spec.frame_shape, dtype=np.uint8)
    with LanePool("catch", config, SEED) as pool:
        assert (pool.num_lanes, pool.spec) == (5, singles[0].spec)
        rng = np.random.default_rng(1)
        for _ in range(40):
            actions = rng.integers(3, size=5)
            batch = pool.step(actions)
            assert batch.frames.dtype == batch.flags.dtype == np.uint8
            assert batch.rewards.dtype == np.float32
            for index, lane in enumerate(singles):
                result = lane.step(int(actions[index]), out)
                assert (batch.rewards[index], batch.flags[index]) == result
                np.testing.assert_array_equal(batch.frames[index], out)


def test_batches_stay_until_the_next_send() -> None:
    with LanePool("catch", EnvConfig(lanes=3), SEED) as pool:
        batch = pool.step(_actions(pool))
        before = batch.frames.copy()
        time.sleep(0.05)
        np.testing.assert_array_equal(batch.frames, before)
        pool.send(_actions(pool))
        pool.recv()
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
        (np.array([0, 0, -1, 0]), "got -1 in lane 2"),
        (np.array([0, 3, 0, 0]), "got 3 in lane 1, .* from 0 to 2"),
    ]
    with (
        LanePool("catch", EnvConfig(lanes=4, workers=workers), SEED) as pool,
        LanePool("catch", EnvConfig(lanes=4), SEED) as untouched,
    ):
        for actions, message in cases:
            with pytest.raises(EnvError, match=f"actions: {message}"):
                pool.send(actions)
        for _ in range(12):
            frames = pool.step(_actions(pool)).frames
            np.testing.assert_array_equal(frames, untouched.step(_actions(pool)).frames)


@pytest.mark.parametrize("workers", [0, 1])
def test_send_and_recv_alternate(workers: int) -> None:
    with LanePool("catch", EnvConfig(lanes=2, workers=workers), SEED) as pool:
        with pytest.raises(EnvError, match="nothing was sent"):
            pool.recv()
        pool.send(_actions(pool))
        with pytest.raises(EnvError, match="call recv"):
            pool.send(_actions(pool))
        pool.recv()
        with pytest.raises(EnvError, match="nothing was sent"):
            pool.recv()
        pool.step(_actions(pool))
    with pytest.raises(EnvError, match="closed"):
        pool.send(_actions(pool))
    with pytest.raises(EnvError, match="closed"):
        pool.recv()


@pytest.mark.parametrize(("count", "workers"), [(0, 0), (2, 3), (2, -2), (-1, 0)])
def test_impossible_numbers(count: int, workers: int) -> None:
    with pytest.raises(ConfigError, match=f"got {count} and {workers}"):
        LanePool("catch", EnvConfig(lanes=count, workers=workers), SEED)


def test_unknown_game_is_an_error_at_once() -> None:
    with pytest.raises(EnvError, match="breakout"):
        LanePool("breakot", EnvConfig(lanes=2, workers=2), SEED)


def test_a_killed_worker_is_named() -> None:
    pool = LanePool("catch", EnvConfig(lanes=4, workers=2), SEED)
    pool.step(_actions(pool))
    os.kill(_worker_pids()[1], signal.SIGKILL)
    with pytest.raises(
        WorkerError, match=r"worker 1 \(lanes 2 to 3 of catch\) was killed by SIGKILL"
    ):
        _play(pool, _actions(pool))
    with pytest.raises(EnvError, match="closed"):
        pool.step(_actions(pool))


def test_a_worker_killed_in_the_middle_of_a_step_is_named(lanes: Any) -> None:
    pool = LanePool("catch", EnvConfig(lanes=4, workers=2), SEED, make=lanes.sleeping)
    pool.step(_actions(pool))
    pool.send(np.array([2, 0, 0, 0]))
    os.kill(_worker_pids()[0], signal.SIGKILL)
    with pytest.raises(
        WorkerError, match=r"worker 0 \(lanes 0 to 1 of catch\) was killed by SIGKILL"
    ):
        pool.recv()


def test_a_hanging_lane_is_named_after_the_timeout(lanes: Any) -> None:
    config = EnvConfig(lanes=4, workers=2, worker_timeout=2.0)
    pool = LanePool("catch", config, SEED, make=lanes.sleeping)
    pool.step(_actions(pool))
    with pytest.raises(
        WorkerError, match=r"worker 1 \(lanes 2 to 3 of catch\) gave no answer for 2 "
    ):
        pool.step(np.array([0, 0, 0, 2]))


def test_a_stopped_worker_is_named_and_ended() -> None:
    pool = LanePool("catch", EnvConfig(lanes=2, workers=1, worker_timeout=2.0), SEED)
    pool.step(_actions(pool))
    pid = _worker_pids()[0]
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(WorkerError, match=r"worker 0 .* gave no answer for 2 seconds"):
        pool.step(_actions(pool))
    assert not alive(pid)


def test_a_worker_that_starts_has_the_timeout_too(
    lanes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atari_fast.envs.pool._START_SECONDS", -1.0)
    config = EnvConfig(lanes=1, workers=1, worker_timeout=60.0)
    LanePool("catch", config, SEED, make=lanes.starting_late).close()
    with pytest.raises(WorkerError, match=r"gave no answer for 0.1 seconds"):
        LanePool("catch", EnvConfig(lanes=1, workers=1, worker_timeout=0.1), SEED)


def test_a_pool_may_live_in_a_thread() -> None:
    flags = []

    def play() -> None:
        with LanePool("catch", EnvConfig(lanes=4, workers=2), SEED) as pool:
            flags.extend(pool.step(_actions(pool)).flags)

    thread = threading.Thread(target=play)
    thread.start()
    thread.join(PATIENCE)
    assert flags == [Flag.FIRST] * 4


def test_an_exception_in_a_lane_is_reported_with_its_trace(lanes: Any) -> None:
    pool = LanePool("catch", EnvConfig(lanes=4, workers=2), SEED, make=lanes.breaking)
    with pytest.raises(
        WorkerError,
        match=r"worker 1 \(lanes 2 to 3 of catch\) failed: ValueError: the joystick broke",
    ) as caught:
        _play(pool, np.array([0, 0, 0, 2]))
    assert "in step" in str(caught.value.__cause__)


def test_an_environment_error_in_a_lane_stays_one(lanes: Any) -> None:
    pool = LanePool("catch", EnvConfig(lanes=4, workers=2), SEED, make=lanes.complaining)
    with pytest.raises(EnvError, match=r"worker 0 .* failed: cartridge: got dust"):
        _play(pool, np.array([0, 2, 0, 0]))


def test_an_exception_without_workers_is_the_lane_s_own(lanes: Any) -> None:
    pool = LanePool("catch", EnvConfig(lanes=2), SEED, make=lanes.breaking)
    with pytest.raises(ValueError, match="the joystick broke"):
        _play(pool, np.array([0, 2]))
    with pytest.raises(EnvError, match="closed"):
        pool.recv()


def test_errors_of_construction_arrive(lanes: Any) -> None:
    with pytest.raises(EnvError, match=r"^game: the ROM of catch cannot be used$"):
        LanePool("catch", EnvConfig(lanes=2, workers=2), SEED, make=lanes.refusing)
    with pytest.raises(WorkerError, match=r"worker 0 .* failed: ZeroDivisionError: no game today"):
        LanePool("catch", EnvConfig(lanes=2, workers=1), SEED, make=lanes.failing)


def test_workers_ignore_the_keyboard() -> None:
    with LanePool("catch", EnvConfig(lanes=2, workers=2), SEED) as pool:
        for pid in _worker_pids():
            os.kill(pid, signal.SIGINT)
        for _ in range(3):
            pool.step(_actions(pool))


def test_closing_ends_the_workers_and_may_be_repeated() -> None:
    pool = LanePool("catch", EnvConfig(lanes=2, workers=2), SEED)
    pids = _worker_pids()
    pool.send(_actions(pool))
    assert shared_files(os.getpid()) == []
    pool.close()
    pool.close()
    assert not any(alive(pid) for pid in pids)


def test_a_forgotten_pool_ends() -> None:
    pool = LanePool("catch", EnvConfig(lanes=2, workers=1), SEED)
    pids = _worker_pids()
    del pool
    assert gone(pids, PATIENCE)


def _interrupted(pids: list[int]) -> None:
    with LanePool("catch", EnvConfig(lanes=2, workers=2), SEED) as pool:
        pids += _worker_pids()
        pool.send(_actions(pool))
        raise KeyboardInterrupt


def test_nothing_is_left_after_an_exception_in_the_caller() -> None:
    pids: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        _interrupted(pids)
    assert len(pids) == 2
    assert not any(alive(pid) for pid in pids)


def test_open_pools_do_not_leak_files(lanes: Any) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    LanePool("catch", EnvConfig(lanes=2, workers=1), SEED).close()  # the resource tracker's own
    before = descriptors()
    for _ in range(3):
        LanePool("catch", EnvConfig(lanes=2, workers=1), SEED).close()
    assert descriptors() <= before
