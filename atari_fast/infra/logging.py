"""Metrics of a run: `metrics.jsonl` is the truth, TensorBoard a view of it."""

from __future__ import annotations

import contextlib
import json
import math
import numbers
import os
import socket
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from atari_fast.errors import CheckpointError
from atari_fast.infra.console import warn
from atari_fast.infra.files import reason

METRICS = "metrics.jsonl"


class RunLogger:
    """Appends metrics to a run directory; a full disk or a broken TensorBoard costs one warning.

    Each line of `metrics.jsonl` is a JSON object: `frames` (emulator frames of play), `seconds`
    (since the run began, resumes included) and the values, with null for what is not finite. Not
    thread-safe.
    """

    def __init__(
        self,
        directory: Path,
        tensorboard: bool,
        *,
        size: int | None = None,
        frames: int = 0,
        seconds: float = 0.0,
    ) -> None:
        """Open the files of a run.

        Args:
            directory: the run directory; made where it is missing.
            tensorboard: also write TensorBoard events, with frames on the x-axis.
            size: bytes of the metrics to keep, those of a checkpoint that the run is resumed from.
            frames: TensorBoard hides what it has after these frames.
            seconds: how long the run had taken there.

        Raises:
            CheckpointError: the directory cannot be made or written.
        """
        self._path = directory / METRICS
        self._start = time.monotonic() - seconds
        self._warned = False
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            if size is not None and os.fstat(self._file).st_size > size:
                os.ftruncate(self._file, size)
            self._size = _drop_torn_line(self._file)
        except OSError as error:
            raise CheckpointError(f"{self._path}: cannot be written: {reason(error)}") from error
        self._events = _EventWriter(directory) if tensorboard else None
        if self._events is not None and size is not None:
            self._events.purge(frames)

    @property
    def seconds(self) -> float:
        """Seconds that the run has taken so far, those before a resume included."""
        return round(time.monotonic() - self._start, 3)

    @property
    def size(self) -> int:
        """Bytes of the metrics so far."""
        return self._size

    def scalars(self, frames: int, values: Mapping[str, float]) -> None:
        """Write one line of metrics.

        Args:
            frames: emulator frames of play so far.
            values: numbers by name, such as {"train/return_mean_100": 12.5}.
        """
        line: dict[str, float | None] = {"frames": frames, "seconds": self.seconds}
        line.update((name, _plain(value)) for name, value in values.items())
        self._append(json.dumps(line).encode() + b"\n")
        if self._events is not None:
            self._events.write(frames, values)

    def close(self) -> None:
        """Flush and close; a second call does nothing."""
        if self._file >= 0:
            with contextlib.suppress(OSError):  # of a network's file system
                os.close(self._file)
            self._file = -1
        if self._events is not None:
            self._events.close()

    def __enter__(self) -> RunLogger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _append(self, line: bytes) -> None:
        """Write a whole line or nothing; `size` is what stands in the file."""
        try:
            status = os.fstat(self._file)
            self._size = min(self._size, status.st_size)
            if self._size < status.st_size:  # half a line, which could not be cut off before
                os.ftruncate(self._file, self._size)
            if os.write(self._file, line) < len(line):
                problem = "no space left on device"
            elif status.st_nlink == 0:
                problem = "the file was removed"
            else:
                self._size += len(line)
                return
        except OSError as error:
            problem = reason(error)
        with contextlib.suppress(OSError):
            os.ftruncate(self._file, self._size)
        if not self._warned:
            self._warned = True
            warn(f"{self._path}: metrics are being lost: {problem}; training goes on")


def read_metrics(directory: Path) -> list[dict[str, Any]]:
    """All lines of a run's metrics, oldest first; a torn last line is left out.

    Args:
        directory: the run directory.

    Raises:
        CheckpointError: there are no metrics, or another line than the last is damaged.
    """
    path = directory / METRICS
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {reason(error)}") from error
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            row = json.loads(line)
            if not isinstance(row, dict) or "frames" not in row:
                raise ValueError("no object with `frames`")
        except ValueError as error:
            if number == len(lines):
                break
            raise CheckpointError(f"{path}: line {number} is damaged: {error}") from error
        rows.append(row)
    return rows


class _EventWriter:
    """TensorBoard events through the tensorboard package; gives up after its first failure.

    Its records are written at once and by this thread: the writer that the package has for that
    prints the traceback of a full disk from a thread of its own.
    """

    def __init__(self, directory: Path) -> None:
        self._writer: Any = None
        self._file: BinaryIO | None = None
        with self._giving_up(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from tensorboard.compat.proto.event_pb2 import Event, SessionLog
            from tensorboard.compat.proto.summary_pb2 import Summary
            from tensorboard.summary.writer.record_writer import RecordWriter

            self._event, self._summary, self._session_log = Event, Summary, SessionLog
            name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
            self._file = (directory / name).open("xb")
            self._writer = RecordWriter(self._file)
            self._add(file_version="brain.Event:2")

    def write(self, frames: int, values: Mapping[str, float]) -> None:
        if self._writer is None:
            return
        with self._giving_up():
            scalars = [self._summary.Value(tag=k, simple_value=float(v)) for k, v in values.items()]
            self._add(step=frames, summary=self._summary(value=scalars))

    def purge(self, frames: int) -> None:
        """Tell TensorBoard that what other files have after `frames` is void."""
        if self._writer is None:
            return
        with self._giving_up():
            start = self._session_log(status=self._session_log.START)
            self._add(step=frames + 1, session_log=start)

    def close(self) -> None:
        if self._writer is None:
            return
        with self._giving_up():
            self._writer.close()
        self._writer = None

    def _add(self, **content: Any) -> None:
        self._writer.write(self._event(wall_time=time.time(), **content).SerializeToString())
        self._writer.flush()

    @contextlib.contextmanager
    def _giving_up(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever a foreign package raises must not stop a training
            self._writer = None
            with contextlib.suppress(OSError):
                if self._file is not None:
                    self._file.close()
            warn(f"TensorBoard: no more events are written: {error}; {METRICS} goes on")


def _drop_torn_line(file: int) -> int:
    """Cut off what a killed writer left after the last newline; returns the size then."""
    size = os.fstat(file).st_size
    end = size
    while end > 0:
        start = max(0, end - 65536)
        newline = os.pread(file, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        os.ftruncate(file, end)
    return end


def _plain(value: float) -> float | int | None:
    """A Python number that JSON has; None for NaN and infinities."""
    if isinstance(value, numbers.Integral):
        return int(value)
    value = float(value)
    return value if math.isfinite(value) else None
