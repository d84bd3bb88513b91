"""Named places where a test makes the process die or a write fail."""

from __future__ import annotations

import errno
import os
import re
import signal

from atari_fast.errors import ConfigError

VARIABLE = "AF_FAILPOINT"
"""Environment variable `NAME:kill` or `NAME:full`, with `:N` to act at the N-th time (from 1)."""

_VALUE = re.compile(r"([^:]+):(kill|full)(?::([1-9]\d{0,8}))?")
_passed: dict[str, int] = {}


def fail_point(name: str) -> None:
    """Does nothing unless `AF_FAILPOINT` names this place.

    Raises:
        OSError: the disk is "full" (action `full`). The action `kill` ends the process as `kill -9`
            does.
        ConfigError: the variable says something else.
    """
    value = os.environ.get(VARIABLE, "")
    if not value:
        return
    match = _VALUE.fullmatch(value)
    if match is None:
        raise ConfigError(
            f"{VARIABLE}: got {value!r}, expected NAME:kill or NAME:full, and :N behind it for the "
            "N-th time (from 1)"
        )
    place, action, count = match.groups()
    if place != name:
        return
    _passed[name] = _passed.get(name, 0) + 1
    if _passed[name] != int(count or 1):
        return
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
