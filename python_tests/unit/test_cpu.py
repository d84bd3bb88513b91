"""How many cores a process may use, and how long it waits for them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from atari_fast.infra.cpu import available_cores, cpu_quota


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_available_cores_honour_the_affinity() -> None:
    core = min(os.sched_getaffinity(0))
    program = (
        f"import os; os.sched_setaffinity(0, [{core}]); "
        "from atari_fast.infra.cpu import available_cores; print(available_cores())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "1", done.stderr


@pytest.mark.parametrize(
    ("value", "cores"), [("1", 1), ("1,4", 1), (" 1 ", 1), ("0", None), ("all", None), ("", None)]
)
def test_available_cores_honour_omp_num_threads(
    value: str, cores: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    without = available_cores()
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert available_cores() == (without if cores is None else cores)


def test_a_quota_of_version_2_counts_with_those_above_it(tmp_path: Path) -> None:
    write(tmp_path / "self", "0::/jobs/mine\n")
    write(tmp_path / "fs" / "jobs" / "mine" / "cpu.max", "max 100000\n")
    assert cpu_quota(tmp_path / "self", tmp_path / "fs") is None
    write(tmp_path / "fs" / "jobs" / "cpu.max", "250000 100000\n")
    assert cpu_quota(tmp_path / "self", tmp_path / "fs") == 2.5
    write(tmp_path / "fs" / "jobs" / "mine" / "cpu.max", "50000 100000\n")
    assert cpu_quota(tmp_path / "self", tmp_path / "fs") == 0.5


def test_a_quota_of_version_1(tmp_path: Path) -> None:
    write(tmp_path / "self", "5:memory:/x\n4:cpu,cpuacct:/docker/abc\n")
    folder = tmp_path / "fs" / "cpu" / "docker" / "abc"
    write(folder / "cpu.cfs_quota_us", "-1\n")
    write(folder / "cpu.cfs_period_us", "100000\n")
    assert cpu_quota(tmp_path / "self", tmp_path / "fs") is None
    write(folder / "cpu.cfs_quota_us", "300000\n")
    assert cpu_quota(tmp_path / "self", tmp_path / "fs") == 3.0


@pytest.mark.parametrize("text", ["", "0::/", "nonsense\n", "0::/../..\n"])
def test_no_quota_where_nothing_says_so(text: str, tmp_path: Path) -> None:
    write(tmp_path / "self", text)
    assert cpu_quota(tmp_path / "self", tmp_path / "fs") is None
    assert cpu_quota(tmp_path / "none", tmp_path / "fs") is None


def test_a_quota_below_two_cores_leaves_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for quota, most in ((0.5, 1), (1.5, 2), (1.0, 1)):
        monkeypatch.setattr("atari_fast.infra.cpu.cpu_quota", lambda *_, quota=quota: quota)
        assert 1 <= available_cores() <= most


def test_cpu_wait_sees_two_threads_that_share_a_core() -> None:
    program = """
import os, threading, time
from atari_fast.infra.cpu import CpuWait
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
end = time.monotonic() + 1.5
def work():
    while time.monotonic() < end:
        sum(bytearray(100_000_000))  # releases no lock; the other process is what waits
if os.fork():
    wait = CpuWait()
    work()
    print(wait.take())
else:
    work()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    if not Path("/proc/self/schedstat").exists():
        assert float(done.stdout) == 0.0
    else:
        assert 0.1 < float(done.stdout) <= 1.5, done.stderr
