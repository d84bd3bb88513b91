"""Checkpoints: directories that are either whole or not there, and pickle nowhere.

A checkpoint `ckpt-<frames>/` holds safetensors, JSON and .bin files (snapshots, which other parts
write and read themselves) and a `manifest.json` with the size and CRC-32 (`zlib.crc32`) of each.
It is written under a temporary name, synced to the disk, and renamed to a name that no directory
had before, so a crash at any moment leaves every older checkpoint as it was.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from atari_fast.errors import CheckpointError
from atari_fast.infra.failpoint import fail_point
from atari_fast.infra.files import (
    TEMPORARY,
    check_file,
    crc32,
    crc32_of_file,
    dump_json,
    dump_tensors,
    free_text,
    parse_json,
    parse_tensors,
    read_bytes,
    read_checked,
    reason,
    remove,
    replace_file,
    sync_directory,
    temporary_name,
    write_synced,
)
from atari_fast.infra.manifest import MANIFEST, dump_manifest, file_name, read_manifest

if TYPE_CHECKING:
    from torch import Tensor

BEST = "best.json"
_DIRECTORY = re.compile(r"ckpt-(\d{12})(?:\.(\d{1,6}))?")
_MAX_FRAMES = 10**12 - 1


class Snapshot(NamedTuple):
    """A file that another part writes, without holding it in memory."""

    bytes: int
    """The most that it may take."""
    write: Callable[[Path], None]
    """Writes and syncs it; of `x.bin` it may write parts `x-*.bin` too."""


class Checkpoint(NamedTuple):
    """What `read_checkpoint` found, every byte that it read checked."""

    path: Path
    """Directory it was read from."""
    tensors: dict[str, dict[str, Tensor]]
    """Groups of named tensors on the CPU, by the name they were written under."""
    records: dict[str, Any]
    """JSON records, by the name they were written under."""
    manifest: dict[str, Any]
    """Format version, frames, versions of the libraries, and the list of files."""

    @property
    def frames(self) -> int:
        """Emulator frames of play at which it was written."""
        return int(self.manifest["frames"])


def open_checkpoints(root: Path) -> int:
    """Create `root` where it is missing and remove what an interrupted writer left in it.

    Args:
        root: directory of the checkpoints of one run.

    Returns:
        A file descriptor; until it is closed, or the process ends, no other can open `root`.

    Raises:
        CheckpointError: `root` cannot be made or written, or is open already.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = os.open(root, os.O_RDONLY)
    except OSError as error:
        raise CheckpointError(f"{root}: cannot keep checkpoints here: {reason(error)}") from error
    try:
        _lock(lock, root)
        for path in root.glob(TEMPORARY + "*"):
            remove(path)
        probe = root / temporary_name()
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        os.close(lock)
        if isinstance(error, BlockingIOError):
            raise CheckpointError(
                f"{root}: another training is writing here; wait for it or name another --run.dir"
            ) from error
        raise CheckpointError(f"{root}: cannot keep checkpoints here: {reason(error)}") from error
    return lock


def _lock(descriptor: int, root: Path) -> None:
    """Locks a directory; raises BlockingIOError where another process has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:  # some network file systems have no locks
        warnings.warn(
            f"{root}: cannot be locked ({reason(error)}): nothing keeps a second training from "
            "writing here",
            RuntimeWarning,
            stacklevel=3,
        )


def write_checkpoint(
    root: Path,
    frames: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    records: Mapping[str, Any],
    keep_last: int,
    snapshots: Mapping[str, Snapshot] | None = None,
    keep: Path | None = None,
) -> Path:
    """Write a checkpoint, then prune old ones.

    Args:
        root: directory of the checkpoints; made where it is missing.
        frames: emulator frames of play so far, 0 to 10^12 - 1.
        tensors: groups of named tensors; each group becomes NAME.safetensors.
        records: JSON-able values; each becomes NAME.json.
        keep_last: number of checkpoints that stay, at least 1; the best one stays besides.
        snapshots: files that other parts write; each becomes NAME.bin.
        keep: another checkpoint that stays.

    Returns:
        The new directory: `ckpt-<frames>`, or `ckpt-<frames>.<n>` where that name is taken.

    Raises:
        CheckpointError: it could not be written; nothing of it is left, older ones are untouched.
    """
    if not 0 <= frames <= _MAX_FRAMES:
        raise CheckpointError(f"frames: expected 0 to {_MAX_FRAMES}, got {frames}")
    if keep_last < 1:
        raise CheckpointError(f"keep_last: expected at least 1 checkpoint, got {keep_last}")
    blobs = _serialise(tensors, records)
    others = {file_name(name, "bin"): snapshot for name, snapshot in (snapshots or {}).items()}
    needed = sum(map(len, blobs.values())) + sum(other.bytes for other in others.values())
    temporary = root / temporary_name()
    try:
        fail_point("checkpoint.before")
        root.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(root).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        temporary.mkdir()
        fail_point("checkpoint.after_mkdir")
        entries: dict[str, dict[str, Any]] = {}
        for name, blob in blobs.items():
            write_synced(temporary / name, blob)
            entries[name] = {"bytes": len(blob), "crc32": crc32(blob)}
            fail_point(f"checkpoint.after_{name}")
        for name, other in others.items():
            path = temporary / name
            other.write(path)
            for file in (path, *sorted(temporary.glob(f"{path.stem}-*.bin"))):
                entries[file.name] = {"bytes": file.stat().st_size, "crc32": crc32_of_file(file)}
            fail_point(f"checkpoint.after_{name}")
        write_synced(temporary / MANIFEST, dump_manifest(frames, entries))
        fail_point("checkpoint.after_manifest")
        sync_directory(temporary)
        fail_point("checkpoint.before_rename")
        final = _rename_to_new(temporary, root, frames)
        fail_point("checkpoint.after_rename")
        sync_directory(root)
    except (OSError, CheckpointError) as error:
        raise CheckpointError(
            f"{root}: cannot write a checkpoint of {needed} bytes ({free_text(root)}): "
            f"{reason(error)}; make room or name another --run.dir"
        ) from error
    finally:
        remove(temporary)
    fail_point("checkpoint.before_prune")
    _prune(root, final, keep_last, keep)
    fail_point("checkpoint.after_prune")
    return final


def read_checkpoint(path: Path, snapshots: bool = True) -> Checkpoint:
    """Read a checkpoint after checking the size and the checksum of every file.

    Args:
        path: the checkpoint, a directory.
        snapshots: check the .bin files too, which can be many times as large as all others; who
            does not need them, or has verified them, leaves them alone.

    Raises:
        CheckpointError: a file is missing, damaged or of another format version; names the file.
    """
    manifest = read_manifest(path)
    tensors: dict[str, dict[str, Tensor]] = {}
    records: dict[str, Any] = {}
    for name, entry in manifest["files"].items():
        stem, _, kind = name.rpartition(".")
        if kind == "bin":
            if snapshots:
                check_file(path / name, entry)
            continue
        blob = read_checked(path / name, entry)
        if kind == "json":
            records[stem] = parse_json(path / name, blob)
        else:
            tensors[stem] = parse_tensors(path / name, blob)
    return Checkpoint(path, tensors, records, manifest)


def verify_checkpoint(path: Path, snapshots: bool = True) -> None:
    """Check manifest, sizes and checksums without building tensors; see `read_checkpoint`.

    Raises:
        CheckpointError: names the file that is missing or damaged.
    """
    for name, entry in read_manifest(path)["files"].items():
        if snapshots or not name.endswith(".bin"):
            check_file(path / name, entry)


def list_checkpoints(root: Path) -> list[Path]:
    """The directories in `root` that are named as checkpoints, oldest first, unverified."""
    try:
        found = [(match, path) for path in root.iterdir() if (match := _match(path))]
    except OSError as error:
        raise CheckpointError(f"{root}: no checkpoints here: {reason(error)}") from error
    return [path for _, path in sorted(found)]


def latest_checkpoint(root: Path, holding: str | None = None, snapshots: bool = True) -> Path:
    """The newest checkpoint that is whole; warns when a newer one is damaged.

    Args:
        root: directory of the checkpoints.
        holding: pass over checkpoints without this file.
        snapshots: as for `read_checkpoint`.

    Raises:
        CheckpointError: there is no such checkpoint, or none is whole.
    """
    problems: list[str] = []
    for path in reversed(list_checkpoints(root)):
        try:
            if holding is not None and holding not in read_manifest(path)["files"]:
                continue
            verify_checkpoint(path, snapshots)
        except CheckpointError as error:
            problems.append(str(error))
            continue
        if problems:
            warnings.warn(
                f"damaged checkpoint passed over ({'; '.join(problems)}): "
                f"FALLING BACK to the older {path.name}",
                RuntimeWarning,
                stacklevel=2,
            )
        return path
    if problems:
        raise CheckpointError(f"{root}: no checkpoint is whole: {'; '.join(problems)}")
    wanted = "ckpt-<frames>" if holding is None else f"ckpt-<frames> with {holding}"
    raise CheckpointError(f"{root}: expected at least one checkpoint {wanted}, found none")


def mark_best(root: Path, path: Path, score: float) -> None:
    """Point `best.json` at a checkpoint of `root`, which pruning then spares.

    Args:
        root: directory of the checkpoints.
        path: the checkpoint, a directory in `root`.
        score: mean raw return of the evaluation that chose it.
    """
    if _match(path) is None or not (root / path.name).is_dir():
        raise CheckpointError(f"{path}: expected a checkpoint in {root}")
    blob = dump_json({"checkpoint": path.name, "score": float(score)})
    fail_point("checkpoint.before_best")
    replace_file(root / BEST, blob)
    fail_point("checkpoint.after_best")


def is_best(path: Path) -> bool:
    """Whether `mark_best` named this checkpoint last."""
    return _best_name(path.parent, quiet=True) == path.name


def best_checkpoint(root: Path, snapshots: bool = True) -> Path:
    """The checkpoint that `mark_best` named last, verified; see `read_checkpoint`.

    Raises:
        CheckpointError: none was marked, or the pointer or the checkpoint is damaged.
    """
    name = _best_name(root)
    if name is None:
        raise CheckpointError(f"{root / BEST}: missing, so no evaluation has chosen a best yet")
    verify_checkpoint(root / name, snapshots)
    return root / name


def _serialise(
    tensors: Mapping[str, Mapping[str, Tensor]], records: Mapping[str, Any]
) -> dict[str, bytes]:
    blobs: dict[str, bytes] = {}
    for name, group in tensors.items():
        blobs[file_name(name, "safetensors")] = dump_tensors(group)
    for name, record in records.items():
        try:
            blobs[file_name(name, "json")] = dump_json(record)
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"record {name}: cannot be stored as JSON: {error}") from error
    return blobs


def _rename_to_new(temporary: Path, root: Path, frames: int) -> Path:
    """Give the directory a name that none has; an existing directory is never replaced."""
    final = root / f"ckpt-{frames:012d}"
    taken = 0
    while final.exists():
        taken += 1
        final = root / f"ckpt-{frames:012d}.{taken}"
    return temporary.rename(final)


def _prune(root: Path, newest: Path, keep_last: int, keep: Path | None) -> None:
    """Remove all but `newest`, the best, `keep` and the last `keep_last - 1` others."""
    kept = {newest.name, _best_name(root, quiet=True), keep.name if keep else None}
    others = [path for path in list_checkpoints(root) if path.name not in kept]
    for path in others[: max(0, len(others) - (keep_last - 1))]:
        remove(path)


def _match(path: Path) -> tuple[int, int] | None:
    match = _DIRECTORY.fullmatch(path.name)
    return (int(match[1]), int(match[2] or 0)) if match else None


def _best_name(root: Path, quiet: bool = False) -> str | None:
    """The name in `best.json`, None where there is no such file (or, if `quiet`, no good one)."""
    path = root / BEST
    try:
        if not path.exists():
            return None
        record = parse_json(path, read_bytes(path))
        name = record.get("checkpoint") if isinstance(record, dict) else None
        if not isinstance(name, str) or not _DIRECTORY.fullmatch(name):
            raise CheckpointError(f"{path}: damaged: it names no checkpoint")
    except CheckpointError:
        if quiet:
            return None
        raise
    return name
