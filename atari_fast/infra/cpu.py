"""Number of CPU cores available to this process, and the time spent waiting for them."""

from __future__ import annotations

import os
import time
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def available_cores() -> int:
    """Number of cores that this process may use, at least 1.

    The minimum of its CPU affinity, the CPU quota of its control groups (set by containers and job
    schedulers; rounded up), and OMP_NUM_THREADS if it is set.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    limits = [affinity or 1]
    quota = cpu_quota(Path("/proc/self/cgroup"), _CGROUPS)
    if quota is not None:
        limits.append(-int(-quota // 1))
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if wanted.isdecimal() and int(wanted) > 0:
        limits.append(int(wanted))
    return max(1, min(limits))


def cpu_quota(membership: Path, root: Path) -> float | None:
    """CPU quota of a process in cores, or None if there is no quota.

    Args:
        membership: the process's /proc/<id>/cgroup.
        root: mount point of the control groups, version 2 or version 1.
    """
    quotas = []
    for line in _read(membership).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if controllers == "":  # version 2
            base = root
        elif "cpu" in controllers.split(","):
            base = root / "cpu"
        else:
            continue
        folder = base / group.strip("/")
        while True:  # a group has at most what those above it have
            quotas.append(_quota_of(folder))
            if folder == base or base not in folder.parents:
                break
            folder = folder.parent
    known = [quota for quota in quotas if quota is not None]
    return min(known, default=None)


def _quota_of(folder: Path) -> float | None:
    text = _read(folder / "cpu.max") or " ".join(
        _read(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")
    )
    try:
        quota, period = map(float, text.split())
    except ValueError:  # `max`, or no such files
        return None
    return quota / period if quota > 0 and period > 0 else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""


class CpuWait:
    """Measures how long threads of this process were ready to run but had no core (Linux only).

    On systems without /proc/self/task/*/schedstat the result is always 0.
    """

    def __init__(self) -> None:
        self._time = time.monotonic()
        self._waited = _waited()

    @property
    def seconds(self) -> float:
        """Seconds since the last call of `take`."""
        return time.monotonic() - self._time

    def take(self) -> float:
        """Average number of threads that waited for a core since the last call; 0 when idle.

        1.0 means that one thread waited all the time, or two threads half of the time.
        """
        now, waited = time.monotonic(), _waited()
        seconds = now - self._time
        more = sum(max(0, ns - self._waited.get(thread, 0)) for thread, ns in waited.items())
        self._time, self._waited = now, waited
        return more / 1e9 / seconds if seconds > 0 else 0.0


def _waited() -> dict[str, int]:
    """Nanoseconds that each thread of this process has waited for a core, by its id."""
    found = {}
    for path in Path("/proc/self/task").glob("*/schedstat"):
        numbers = _read(path).split()
        if len(numbers) == 3:
            found[path.parent.name] = int(numbers[1])
    return found
