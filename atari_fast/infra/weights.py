"""Weights and state as safetensors and JSON, without pickle."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atari_fast.errors import CheckpointError
from atari_fast.infra.files import (
    dump_tensors,
    parse_json,
    parse_tensors,
    read_bytes,
    replace_file,
)

if TYPE_CHECKING:
    from torch import Tensor

FORMAT_VERSION = 1


def export_weights(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write one safetensors file with JSON metadata, as the zoo keeps them; replaces atomically."""
    record = json.loads(json.dumps(dict(metadata)))
    header = {"format": FORMAT_VERSION, "crc32": _checksum(tensors, record), "metadata": record}
    replace_file(path, dump_tensors(tensors, {"atari_fast": json.dumps(header)}))


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `export_weights` wrote: (tensors on the CPU, metadata).

    Raises:
        CheckpointError: the file is missing, damaged or was not written by `export_weights`.
    """
    blob = read_bytes(path)
    tensors = parse_tensors(path, blob)
    length = int.from_bytes(blob[:8], "little")
    fields = json.loads(blob[8 : 8 + length]).get("__metadata__", {})
    header = parse_json(path, fields.get("atari_fast", "null").encode())
    if not isinstance(header, dict) or header.get("format") != FORMAT_VERSION:
        raise CheckpointError(f"{path}: expected weights exported by atari_fast, format 1")
    metadata = header.get("metadata")
    if not isinstance(metadata, dict) or header.get("crc32") != _checksum(tensors, metadata):
        raise CheckpointError(f"{path}: damaged: its checksum does not match")
    return tensors, metadata


def pack_state(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], Any]:
    """Split a state, such as a `state_dict()`, into (tensors, JSON-able record), exactly.

    Works on any nesting of dicts (keys str or int), lists, tuples, tensors and plain values.
    """
    import torch

    tensors: dict[str, Tensor] = {}

    def pack(value: Any, path: str) -> Any:
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, torch.Tensor):
            while path in tensors:  # the keys 0 and "0" of one dict
                path += "'"
            tensors[path] = value
            return {"tensor": path}
        if isinstance(value, list | tuple):
            kind = "list" if isinstance(value, list) else "tuple"
            return {kind: [pack(item, f"{path}/{i}") for i, item in enumerate(value)]}
        if isinstance(value, dict) and all(type(key) in (str, int) for key in value):
            return {"dict": [[key, pack(item, f"{path}/{key}")] for key, item in value.items()]}
        raise CheckpointError(f"{path}: a {type(value).__name__} cannot be stored without pickle")

    return tensors, pack(dict(state), "state")


def unpack_state(tensors: Mapping[str, Tensor], record: Any) -> dict[str, Any]:
    """Put together what `pack_state` split.

    Raises:
        CheckpointError: tensors and record do not belong together.
    """

    def unpack(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        ((kind, content),) = value.items()
        if kind == "tensor":
            return tensors[content]
        if kind == "dict":
            return {key: unpack(item) for key, item in content}
        return {"list": list, "tuple": tuple}[kind](unpack(item) for item in content)

    try:
        state = unpack(record)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"state: damaged: {error!r}") from error
    if not isinstance(state, dict):
        raise CheckpointError("state: damaged: expected a dict")
    return state


def checked_like(value: Tensor, template: Tensor) -> Tensor:
    """`value` on the device of `template`; ValueError where shape or type is another."""
    if value.shape != template.shape or value.dtype != template.dtype:
        raise ValueError(
            f"expected {template.dtype}{list(template.shape)}, got {value.dtype}{list(value.shape)}"
        )
    return value.to(template.device)


def _checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> str:
    import torch

    crc = zlib.crc32(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        crc = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), crc)
        crc = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, crc)
    return f"{crc:08x}"
