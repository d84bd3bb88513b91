"""The manifest of a checkpoint: its files with their sizes and checksums, and what wrote it."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atari_fast import _core
from atari_fast.errors import CheckpointError
from atari_fast.infra.files import crc32, dump_json, parse_json, read_bytes

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
_STEM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_FILE = re.compile(_STEM.pattern + r"\.(safetensors|json|bin)")
_MAX_MANIFEST_BYTES = 1 << 24


def file_name(stem: str, kind: str) -> str:
    """The name of a part of a checkpoint; CheckpointError where no file can have it."""
    name = f"{stem}.{kind}"
    if not _STEM.fullmatch(stem) or name == MANIFEST:
        raise CheckpointError(
            f"{stem!r}: expected a name of letters, digits, - and _ for a part of a checkpoint"
        )
    return name


def library_versions() -> dict[str, str]:
    """Versions of what decides how a checkpoint is read and goes on."""
    import ale_py
    import safetensors
    import torch

    return {
        "ale_py": ale_py.__version__,
        "atari_fast": _core.__version__,
        "python": platform.python_version(),
        "safetensors": safetensors.__version__,
        "torch": str(torch.__version__),
    }


def dump_manifest(frames: int, entries: Mapping[str, Mapping[str, Any]]) -> bytes:
    """The content of a manifest: frames of play, and bytes and crc32 of every file."""
    body = {
        "format": FORMAT_VERSION,
        "checksum": "crc32 (zlib)",
        "frames": frames,
        "versions": library_versions(),
        "files": entries,
    }
    return dump_json({**body, "manifest_crc32": crc32(dump_json(body))})


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a checkpoint; every byte of it is covered by its own checksum."""
    name = path / MANIFEST
    blob = read_bytes(name, _MAX_MANIFEST_BYTES)
    body = parse_json(name, blob)
    if not isinstance(body, dict) or "format" not in body:
        raise CheckpointError(f"{name}: damaged: it is no manifest")
    if body["format"] != FORMAT_VERSION:
        raise CheckpointError(
            f"{name}: has format {body['format']!r}, this version reads format {FORMAT_VERSION}; "
            f"use atari_fast {_version_of(body)}, which wrote it"
        )
    crc = body.pop("manifest_crc32", None)
    if crc != crc32(dump_json(body)) or dump_json({**body, "manifest_crc32": crc}) != blob:
        raise CheckpointError(f"{name}: damaged: its own checksum does not match")
    _check_manifest(name, body)
    return body


def _version_of(body: Mapping[str, Any]) -> str:
    """The version of atari_fast that wrote a manifest of whatever format."""
    versions = body.get("versions")
    return str(versions.get("atari_fast", "?")) if isinstance(versions, dict) else "?"


def _check_manifest(name: Path, body: Mapping[str, Any]) -> None:
    """Refuse a manifest that was made up: types, and names that lead elsewhere."""
    files = body.get("files")
    if not isinstance(files, dict) or type(body.get("frames")) is not int:
        raise CheckpointError(f"{name}: damaged: expected `files` and `frames`")
    for file, entry in files.items():
        if not _FILE.fullmatch(file) or file == MANIFEST:
            raise CheckpointError(f"{name}: {file!r} is not the name of a file of a checkpoint")
        if not isinstance(entry, dict) or type(entry.get("bytes")) is not int:
            raise CheckpointError(f"{name}: damaged: no size for {file}")
