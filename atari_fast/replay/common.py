"""What the replays and the episodic memory share: memory of frames, and snapshots."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from atari_fast import _core
from atari_fast.errors import CheckpointError, ConfigError

_RAW_SHARE = 8
_SMALL_BYTES = 2**26


def frame_memory(capacity: int, frame_gb: float, frame_shape: tuple[int, int]) -> int:
    """Bytes that the frames of a replay may take; 0 stands for no limit.

    `frame_gb` gigabytes if that is above 0, else an eighth of what `capacity` frames of H x W bytes
    are uncompressed, but 64 MiB if they need them.
    """
    if frame_gb > 0:
        return int(frame_gb * 1e9)
    raw = capacity * frame_shape[0] * frame_shape[1]
    return 0 if raw <= _SMALL_BYTES else max(raw // _RAW_SHARE, _SMALL_BYTES)


class _Core(Protocol):
    @property
    def save(self) -> Callable[..., None]: ...
    def load(self, path: str) -> None: ...


@contextlib.contextmanager
def checked_settings() -> Iterator[None]:
    """Turn the core's refusal of an option into an error of the settings.

    Raises:
        ConfigError: an option does not fit the others.
    """
    try:
        yield
    except ValueError as error:
        text = str(error).replace("frame_memory:", "replay.frame_gb, in bytes:")
        raise ConfigError(f"replay: {text}") from error


def save_snapshot(core: _Core, path: Path, **files: bool | str) -> None:
    """Writes the whole state of a replay or memory to a file.

    Args:
        core: the replay or memory.
        path: the file.
        files: for replays, see `TransitionReplay.save` in `_core.pyi`.

    Raises:
        CheckpointError: the file cannot be written.
    """
    try:
        core.save(str(path), **files)
    except _core.SnapshotError as error:
        raise CheckpointError(str(error)) from error


def load_snapshot(core: _Core, path: Path) -> None:
    """Takes the state of a replay or memory with the same settings out of a file.

    Both states are in memory until the file is known to be whole: as many bytes as the saved
    replay took (its `bytes_used`) are needed beside those of this one.

    Raises:
        CheckpointError: the file is missing, damaged or has other settings; nothing has changed.
    """
    try:
        core.load(str(path))
    except _core.SnapshotError as error:
        raise CheckpointError(str(error)) from error
