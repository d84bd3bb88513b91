"""Writing videos of play that browsers show."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atari_fast.errors import CheckpointError, EnvError, raise_interrupt
from atari_fast.infra.files import TEMPORARY, reason, remove, temporary_name

_CODECS = {".webm": ("VP90", "VP80"), ".mp4": ("avc1", "vp09")}
"""Those that browsers play, by the file they go into, the better one first. OpenCV's own wheels
have no encoder for avc1 (H.264), so that their .mp4 holds VP9."""
SUFFIXES = tuple(_CODECS)
"""How the name of a video may end."""


class VideoWriter:
    """Writes frames into a video that appears under its name when it is finished.

    Leaving the `with` block by an exception, or without a frame, leaves no file; what a process
    that was killed left in the folder is removed by the next writer. Not thread-safe.
    """

    def __init__(
        self, path: Path, size: tuple[int, int], fps: float = 60.0, scale: int = 2
    ) -> None:
        """Open the writer.

        Args:
            path: the file to write, ending in .webm (VP9) or .mp4 (H.264 where OpenCV has an
                encoder for it, else VP9); its folder is made where it is missing.
            size: (height, width) of a frame in pixels.
            fps: frames per second of the video.
            scale: each pixel becomes scale x scale pixels; the scaled sides must be even.

        Raises:
            CheckpointError: the folder cannot be written.
            EnvError: OpenCV is missing, or has no encoder for such a video.
        """
        height, width = (side * scale for side in size)
        if min(height, width) < 1 or height % 2 or width % 2:
            raise EnvError(f"video: expected sides that are even, got {size} times {scale}")
        if path.suffix not in _CODECS:
            raise EnvError(f"video: expected a name ending in {' or '.join(_CODECS)}, got {path}")
        self.frames = 0
        """Frames written so far."""
        self._path = path
        self._shape = (*size, 3)
        self._scale = scale
        self._writer: Any = None
        _import_opencv(path)  # takes a second: before there is a file to clean up
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(path.parent)
            self._temporary, self._lock = _create(path)
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be written: {reason(error)}") from error
        try:
            self._writer = _open_writer(path, self._temporary, fps, (width, height))
        except BaseException:
            self._discard()
            raise

    def write(self, frame: NDArray[np.uint8]) -> None:
        """Append a frame.

        Args:
            frame: uint8[H, W, 3], red, green, blue.
        """
        if frame.dtype != np.uint8 or frame.shape != self._shape:
            raise ValueError(f"frame: expected uint8{self._shape}, got {frame.dtype}{frame.shape}")
        scaled = frame[:, :, ::-1].repeat(self._scale, axis=0).repeat(self._scale, axis=1)
        with _standard_error_unheard():
            self._writer.write(scaled)
        self.frames += 1

    def close(self) -> None:
        """Finish the file and give it its name; a second call does nothing.

        Raises:
            CheckpointError: the file is not whole, as on a full disk, or could not be renamed.
        """
        self._finish(keep=self.frames > 0)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._finish(keep=kind is None and self.frames > 0)

    def _finish(self, keep: bool) -> None:
        if self._writer is None:
            return
        writer, self._writer = self._writer, None
        try:
            with _standard_error_unheard():
                writer.release()
            if keep:
                _check_last_frame(self._path, self._temporary, self.frames)
                self._temporary.replace(self._path)
        except OSError as error:
            raise CheckpointError(f"{self._path}: cannot be written: {reason(error)}") from error
        finally:
            self._discard()

    def _discard(self) -> None:
        """Remove the temporary file, if it is still there, and what marks it as being written."""
        remove(self._temporary)
        with contextlib.suppress(OSError):
            os.close(self._lock)


def _create(path: Path) -> tuple[Path, int]:
    """A new temporary file beside `path`, and the lock that shows that it is being written."""
    while True:
        temporary = path.parent / f"{temporary_name()}{path.suffix}"
        lock = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        if os.fstat(lock).st_nlink:
            return temporary, lock
        os.close(lock)  # another writer took it for abandoned before it was locked


def _remove_abandoned(folder: Path) -> None:
    """Remove the temporary files that nobody is writing any more."""
    for path in folder.glob(TEMPORARY + "*"):
        if path.suffix in _CODECS:
            with contextlib.suppress(OSError), path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove(path)


def _import_opencv(path: Path) -> Any:
    """The module cv2."""
    try:
        import cv2
    except Exception as error:  # of a wheel that needs libGL, or another numpy
        raise_interrupt(error)
        raise EnvError(
            f"{path}: OpenCV cannot be imported ({error}); install opencv-python-headless alone"
        ) from error
    return cv2


def _open_writer(path: Path, temporary: Path, fps: float, size: tuple[int, int]) -> Any:
    """An open `cv2.VideoWriter` with the best codec there is."""
    codecs, cv2 = _CODECS[path.suffix], _import_opencv(path)
    with _standard_error_unheard():
        for codec in codecs:
            code = cv2.VideoWriter.fourcc(*codec)
            writer = cv2.VideoWriter(str(temporary), cv2.CAP_FFMPEG, code, fps, size)
            if writer.isOpened():
                return writer
            writer.release()
    raise EnvError(
        f"{path}: OpenCV has no encoder for {path.suffix} ({' or '.join(codecs)}), "
        "or there is no room for the file"
    )


def _check_last_frame(path: Path, temporary: Path, frames: int) -> None:
    """Refuse a file that ends before its last frame; OpenCV does not tell of a disk that is full.

    Raises:
        CheckpointError: it is not whole.
    """
    import cv2

    with _standard_error_unheard():
        capture = cv2.VideoCapture(str(temporary), cv2.CAP_FFMPEG)
        capture.set(cv2.CAP_PROP_POS_FRAMES, frames - 1)
        whole = capture.read()[0] and round(capture.get(cv2.CAP_PROP_POS_FRAMES)) == frames
        capture.release()
    if not whole:
        raise CheckpointError(f"{path}: the video is not whole; is the disk full?")


@contextlib.contextmanager
def _standard_error_unheard() -> Iterator[None]:
    """Hides what C code prints to standard error: OpenCV and FFmpeg tell of all that they lack."""
    try:
        kept = os.dup(2)
    except OSError:  # there is no standard error
        yield
        return
    try:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
