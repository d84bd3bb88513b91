"""What a command says while it works: a reader who left, or a full disk, never ends the work."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TextIO, cast


class LossyStream(io.TextIOBase):
    """A text stream that drops what the stream below it cannot take; no write or flush raises.

    The stream below may be closed, be a terminal or pipe whose other end is gone, lie on a full
    disk, have too small an alphabet (escapes are written then), or be None. Each write is tried
    anew, so that a disk that has room again gets the rest.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.lost: Exception | None = None
        """The first failure."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Encoding of the stream below, by which `rich` chooses its characters."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Whether the stream below is a terminal that is still there."""
        with contextlib.suppress(Exception):
            return self._stream is not None and self._stream.isatty()
        return False

    def writable(self) -> bool:
        """Always true."""
        return True

    def fileno(self) -> int:
        """Number of the file below; raises OSError where there is none."""
        return super().fileno() if self._stream is None else self._stream.fileno()

    def write(self, text: str) -> int:
        """Write a text; returns its length, as if all of it had been written."""
        self._dropping(lambda stream: _write(stream, text))
        return len(text)

    def flush(self) -> None:
        """Hand over what was written."""
        self._dropping(lambda stream: stream.flush())

    def line(self, text: str) -> None:
        """Write a line and hand it over."""
        self.write(text + "\n")
        self.flush()

    def release(self) -> None:
        """Hand over the rest, or drop it for good where that fails.

        Python tries once more when the process ends, and would end it with an error of its own.
        """
        self.flush()
        if self.lost is not None:
            with contextlib.suppress(Exception), Path(os.devnull).open("w") as nowhere:
                os.dup2(nowhere.fileno(), self.fileno())

    def _dropping(self, call: Callable[[TextIO], object]) -> None:
        try:
            if self._stream is not None:
                call(self._stream)
        except Exception as error:  # whatever stands below: it only shows
            self.lost = self.lost or error


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
    except UnicodeEncodeError as error:
        stream.write(text.encode(error.encoding, "backslashreplace").decode(error.encoding))


def lossy(stream: TextIO | None) -> LossyStream:
    """A stream that drops what it cannot write: `stream` itself where it is one."""
    return stream if isinstance(stream, LossyStream) else LossyStream(stream)


def number(value: float) -> str:
    """A score or another number, for people: 0.3333, -20.7, 9,999 and 1,234,568."""
    return f"{value:,.4g}" if abs(value) < 9_999.5 else f"{value:,.0f}"


def say(text: str) -> None:
    """Print a line to standard output, if it can be written there."""
    lossy(sys.stdout).line(text)


def warn(text: str) -> None:
    """Issue a RuntimeWarning at the caller's caller; that it cannot be printed is no error.

    Only a filter that makes errors of warnings raises it.
    """
    with contextlib.suppress(OSError, ValueError, AttributeError):  # of a broken standard error
        warnings.warn(text, RuntimeWarning, stacklevel=3)


def take_standard_streams() -> tuple[LossyStream, LossyStream]:
    """Make standard output and error of this process lossy, for all that prints; returns them.

    Also opens those of the standard three that the process was started without. The next files
    that it opens, checkpoints among them, would otherwise get their numbers, and with them whatever
    C code prints. Worker processes inherit them.
    """
    with contextlib.suppress(OSError):
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
            os.set_inheritable(descriptor, True)
        os.close(descriptor)
    output, errors = lossy(sys.stdout), lossy(sys.stderr)
    sys.stdout, sys.stderr = cast(TextIO, output), cast(TextIO, errors)
    return output, errors
