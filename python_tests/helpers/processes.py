"""What there is of other processes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any


def shared_files(pid: int) -> list[Path]:
    return [path for path in Path("/dev/shm").glob("*") if f"-{pid}-" in path.name]


class KillingPipe:
    """The pipe of a worker that is killed when its next message is read, which is half written."""

    def __init__(self, worker: Any) -> None:
        self._worker, self._pipe = worker, worker.pipe

    def __getattr__(self, name: str) -> Any:
        if name in ("recv", "recv_bytes"):
            self._worker.process.kill()
            self._worker.process.join()
        return getattr(self._pipe, name)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def gone(pids: list[int], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(alive(pid) for pid in pids):
            return True
        time.sleep(0.02)
    return False
