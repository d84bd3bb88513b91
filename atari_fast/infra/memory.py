"""How much memory there is, asked before it is taken."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from atari_fast.errors import ConfigError

_SHARE = 0.9
_GB = 1e9


def available_bytes(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Memory that this process can still take, in bytes.

    The smallest of what the machine has available and what the control groups (v1 or v2) around
    this process leave; on systems without `/proc`, the machine's physical memory.

    Args:
        proc: where the proc file system is mounted.
        cgroup: where the control groups are mounted.
    """
    rooms = list(_control_group_rooms(proc, cgroup))
    machine = _machine_bytes(proc)
    if machine is not None:
        rooms.append(machine)
    return max(0, min(rooms)) if rooms else 2**63 - 1


def require_memory(needed: int, what: str, remedy: str) -> None:
    """Refuse to start what would not fit into memory.

    Args:
        needed: bytes that will be taken.
        what: what takes them, the head of the message.
        remedy: how the user can need less.

    Raises:
        ConfigError: `needed` is more than nine tenths of what is available.
    """
    available = available_bytes()
    if needed > _SHARE * available:
        raise ConfigError(
            f"{what}: needs {needed / _GB:.1f} GB, {available / _GB:.1f} GB available "
            f"(at most {_SHARE:.0%} of it is taken); {remedy}"
        )


def _machine_bytes(proc: Path) -> int | None:
    for line in _read(proc / "meminfo").splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return int(rest.split()[0]) * 1024
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _control_group_rooms(proc: Path, cgroup: Path) -> Iterator[int]:
    """What each limit on the way from this process's groups to the root leaves, in bytes."""
    for line in _read(proc / "self" / "cgroup").splitlines():
        fields = line.split(":", 2)
        if len(fields) != 3:
            continue
        _, controllers, group = fields
        if not controllers:
            base, limit, used, cache = cgroup, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            base = cgroup / "memory"
            limit, used = "memory.limit_in_bytes", "memory.usage_in_bytes"
            cache = "total_inactive_file"
        else:
            continue
        folder = base / group.lstrip("/")
        for level in [folder, *folder.parents]:
            room = _room(level, limit, used, cache)
            if room is not None:
                yield room
            if level == base:
                break


def _room(level: Path, limit: str, used: str, cache: str) -> int | None:
    """What one group leaves; its inactive file cache counts as free. None: it has no limit."""
    most, taken = _read(level / limit).strip(), _read(level / used).strip()
    if not most.isdigit() or not taken.isdigit():
        return None
    stats = dict(
        line.split() for line in _read(level / "memory.stat").splitlines() if line.count(" ") == 1
    )
    return int(most) - int(taken) + int(stats.get(cache, "0"))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
