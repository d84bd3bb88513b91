"""Named places where a test makes the process die or a write fail."""

from __future__ import annotations

import errno
import os
import signal

VARIABLE = "AF_FAILPOINT"
"""Environment variable `NAME:kill` or `NAME:full`, with `:N` to act at the N-th time (from 1)."""

_passed: dict[str, int] = {}


def fail_point(name: str) -> None:
    """Does nothing unless `AF_FAILPOINT` names this place.

    Raises:
        OSError: the disk is "full" (action `full`). The action `kill` ends the process as `kill -9`
            does.
    """
    place, _, what = os.environ.get(VARIABLE, "").partition(":")
    if place != name:
        return
    action, _, count = what.partition(":")
    _passed[name] = _passed.get(name, 0) + 1
    if _passed[name] != int(count or 1):
        return
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
