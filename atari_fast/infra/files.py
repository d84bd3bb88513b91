"""Reading and writing of whole files: synced, replaced atomically, every failure a sentence."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import uuid
import warnings
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atari_fast.errors import AtariFastError, CheckpointError, WorkerError

if TYPE_CHECKING:
    from torch import Tensor

_NO_DIRECTORY_SYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EBADF)
TEMPORARY = ".tmp-"
"""Prefix of every temporary name; no reader's pattern matches it."""


def temporary_name() -> str:
    """A new name that no reader mistakes for a finished file."""
    return TEMPORARY + uuid.uuid4().hex


def crc32(blob: bytes) -> str:
    """CRC-32 (`zlib.crc32`) as 8 hexadecimal digits."""
    return f"{zlib.crc32(blob):08x}"


def crc32_of_file(path: Path) -> str:
    """CRC-32 of a file's content, read in pieces."""
    crc = 0
    try:
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                crc = zlib.crc32(piece, crc)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {reason(error)}") from error
    return f"{crc:08x}"


def dump_json(value: Any) -> bytes:
    """The one JSON text of a value: sorted keys, two spaces, a newline at the end."""
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def parse_json(path: Path, blob: bytes) -> Any:
    """Parse the content of `path`; CheckpointError names the file where it is no JSON."""
    try:
        return json.loads(blob)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged: not JSON ({error})") from error


def parse_tensors(path: Path, blob: bytes) -> dict[str, Tensor]:
    """Parse the content of `path`; CheckpointError names the file where it is no safetensors."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors: dict[str, Tensor] = load(blob)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: damaged: not safetensors ({error})") from error
    return tensors


def dump_tensors(tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    """Safetensors of copies on the CPU, contiguous and sharing no memory."""
    from safetensors.torch import save

    plain = {name: t.detach().to("cpu", copy=True).contiguous() for name, t in tensors.items()}
    blob: bytes = save(plain, metadata)
    return blob


def read_bytes(path: Path, limit: int | None = None) -> bytes:
    """The content of a regular file of at most `limit` bytes."""
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise CheckpointError(f"{path}: expected a file")
        if limit is not None and size > limit:
            raise CheckpointError(f"{path}: damaged: expected {limit} bytes, found {size}")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read: {reason(error)}") from error


def read_checked(path: Path, entry: Mapping[str, Any]) -> bytes:
    """The content of a file whose size and checksum are those that a manifest has."""
    blob = read_bytes(path, entry["bytes"])
    if len(blob) != entry["bytes"]:
        raise CheckpointError(
            f"{path}: damaged: expected {entry['bytes']} bytes, found {len(blob)}"
        )
    if crc32(blob) != entry.get("crc32"):
        raise CheckpointError(f"{path}: damaged: its checksum does not match the manifest's")
    return blob


def check_file(path: Path, entry: Mapping[str, Any]) -> None:
    """Refuse a file whose size or checksum is not what a manifest has; reads it in pieces."""
    try:
        found = path.stat().st_size
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {reason(error)}") from error
    if found != entry["bytes"]:
        raise CheckpointError(f"{path}: damaged: expected {entry['bytes']} bytes, found {found}")
    if crc32_of_file(path) != entry.get("crc32"):
        raise CheckpointError(f"{path}: damaged: its checksum does not match the manifest's")


@contextlib.contextmanager
def wrap_errors(path: Path) -> Iterator[None]:
    """Turns whatever goes wrong with the content of `path` into a CheckpointError that names it.

    For values that passed all checksums and that nothing here can have written.
    """
    try:
        yield
    except (WorkerError, MemoryError):
        raise
    except Exception as error:
        problem = str(error) if isinstance(error, AtariFastError) else repr(error)
        if isinstance(error, CheckpointError) and str(path) in problem:
            raise
        raise CheckpointError(
            f"{path}: does not fit together or this version: {problem}; expected what this version "
            "wrote"
        ) from error


def replace_file(path: Path, blob: bytes) -> None:
    """Write a file beside `path`, sync it and rename it over `path`; CheckpointError on failure."""
    temporary = path.parent / temporary_name()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_synced(temporary, blob)
        temporary.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot write {len(blob)} bytes ({free_text(path.parent)}): {reason(error)}"
        ) from error
    finally:
        remove(temporary)


def require_writable(path: Path, makes_folders: bool = False) -> None:
    """Refuse a file that cannot be written, before the work whose result it is to hold.

    Args:
        path: the file.
        makes_folders: its writer, `replace_file`, makes the folders that are missing.

    Raises:
        CheckpointError: its folder is missing, it is a folder, or its permissions forbid it.
    """
    folder = path.parent
    while makes_folders and not folder.exists():
        folder = folder.parent
    problem = ""
    if not folder.is_dir():
        problem = f"{folder} is no directory"
    elif path.is_dir():
        problem = "it is a directory"
    elif not os.access(folder if makes_folders or not path.exists() else path, os.W_OK):
        problem = "permission denied"
    if problem:
        raise CheckpointError(f"{path}: cannot be written: {problem}")


def write_synced(path: Path, blob: bytes) -> None:
    """Write a new file and wait until the disk has it."""
    with path.open("xb") as file:
        file.write(blob)
        file.flush()
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Wait until the disk has the names in a directory; warn where a file system cannot do so."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_DIRECTORY_SYNC:
            raise
        warnings.warn(
            f"the file system of the run cannot sync directories ({reason(error)}): a power "
            "failure may lose the newest checkpoint",
            RuntimeWarning,
            stacklevel=2,
        )
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file or a directory, under a temporary name first: no half of it keeps its name."""
    with contextlib.suppress(OSError):
        if not path.name.startswith(TEMPORARY):
            path = path.rename(path.parent / temporary_name())
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def reason(error: Exception) -> str:
    """What the operating system said, in lower case and without the path."""
    return (getattr(error, "strerror", None) or str(error)).lower()


def free_text(path: Path) -> str:
    """How much room the disk of `path` has, for a message."""
    try:
        return f"{shutil.disk_usage(path).free} bytes are free"
    except OSError:
        return "free space unknown"
