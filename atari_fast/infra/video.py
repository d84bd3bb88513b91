"""Writing mp4 videos of play."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atari_fast.errors import CheckpointError, EnvError
from atari_fast.infra.files import reason, remove, temporary_name

_CODECS = ("avc1", "mp4v")
"""H.264 where OpenCV was built with an encoder for it, else MPEG-4."""


class VideoWriter:
    """Writes frames into an mp4 file that appears under its name when it is finished.

    Leaving the `with` block by an exception, or without a frame, leaves no file. Not thread-safe.
    """

    def __init__(
        self, path: Path, size: tuple[int, int], fps: float = 60.0, scale: int = 2
    ) -> None:
        """Open the writer.

        Args:
            path: the file to write, ending in .mp4; its folder is made where it is missing.
            size: (height, width) of a frame in pixels.
            fps: frames per second of the video.
            scale: each pixel becomes scale x scale pixels; the scaled sides must be even.

        Raises:
            CheckpointError: the folder cannot be written.
            EnvError: OpenCV has no encoder for such a video.
        """
        height, width = (side * scale for side in size)
        if min(height, width) < 1 or height % 2 or width % 2:
            raise EnvError(f"video: expected sides that are even, got {size} times {scale}")
        self.frames = 0
        """Frames written so far."""
        self._path = path
        self._shape = (*size, 3)
        self._scale = scale
        self._temporary = path.parent / f"{temporary_name()}.mp4"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._temporary.touch(exist_ok=False)
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be written: {reason(error)}") from error
        self._writer = _open_writer(self._temporary, fps, (width, height))
        if self._writer is None:
            remove(self._temporary)
            raise EnvError(f"{path}: OpenCV has no encoder for mp4 ({' or '.join(_CODECS)})")

    def write(self, frame: NDArray[np.uint8]) -> None:
        """Append a frame.

        Args:
            frame: uint8[H, W, 3], red, green, blue.
        """
        if frame.dtype != np.uint8 or frame.shape != self._shape:
            raise ValueError(f"frame: expected uint8{self._shape}, got {frame.dtype}{frame.shape}")
        scaled = frame[:, :, ::-1].repeat(self._scale, axis=0).repeat(self._scale, axis=1)
        self._writer.write(scaled)
        self.frames += 1

    def close(self) -> None:
        """Finish the file and give it its name; a second call does nothing.

        Raises:
            CheckpointError: the file could not be renamed.
        """
        self._finish(keep=self.frames > 0)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._finish(keep=kind is None and self.frames > 0)

    def _finish(self, keep: bool) -> None:
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        if not keep:
            remove(self._temporary)
            return
        try:
            self._temporary.replace(self._path)
        except OSError as error:
            remove(self._temporary)
            raise CheckpointError(f"{self._path}: cannot be written: {reason(error)}") from error


def _open_writer(path: Path, fps: float, size: tuple[int, int]) -> Any:
    """An open `cv2.VideoWriter` with the best codec there is, None where there is none."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # FFmpeg tells of each codec it lacks
    import cv2

    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        for codec in _CODECS:
            code = cv2.VideoWriter.fourcc(*codec)
            writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, fps, size)
            if writer.isOpened():
                return writer
            writer.release()
    finally:
        cv2.utils.logging.setLogLevel(level)
    return None
