from __future__ import annotations

import json
import os
import pickle  # noqa: TID251 - to show that nothing loads it
import resource
import shutil
import types
import zlib
from pathlib import Path

import pytest
import torch

from atari_fast.errors import CheckpointError
from atari_fast.infra import checkpoint as ckpt
from atari_fast.infra.weights import load_weights

TENSORS = {
    "online": {
        "weight": torch.arange(12, dtype=torch.float32).reshape(3, 4).t(),
        "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 3),
    },
    "optimizer": {"step": torch.tensor(3.0)},
}
RECORDS = {"counters": {"frames": 400, "updates": 12, "best": -21.0}, "config": {"a": [1, None]}}
FILES = ["online.safetensors", "optimizer.safetensors", "counters.json", "config.json"]


def write(root: Path, frames: int = 400, keep_last: int = 3) -> Path:
    return ckpt.write_checkpoint(root, frames, TENSORS, RECORDS, keep_last)


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def test_checkpoint_round_trip_is_exact(tmp_path):
    path = write(tmp_path)
    assert path == tmp_path / "ckpt-000000000400"
    assert names(path) == sorted([*FILES, "manifest.json"])
    read = ckpt.read_checkpoint(path)
    assert read.frames == 400
    assert read.records == RECORDS
    for group, tensors in TENSORS.items():
        assert read.tensors[group].keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert read.tensors[group][name].dtype == tensor.dtype
            assert torch.equal(read.tensors[group][name], tensor)


def test_checkpoint_manifest_names_sizes_and_checksums(tmp_path):
    path = write(tmp_path)
    manifest = json.loads((path / "manifest.json").read_text())
    assert sorted(manifest["files"]) == sorted(FILES)
    for name, entry in manifest["files"].items():
        blob = (path / name).read_bytes()
        assert entry == {"bytes": len(blob), "crc32": f"{zlib.crc32(blob):08x}"}


def test_checkpoint_tensors_that_share_memory_are_stored(tmp_path):
    shared = torch.arange(4.0)
    path = ckpt.write_checkpoint(tmp_path, 4, {"net": {"a": shared, "b": shared}}, {}, keep_last=1)
    read = ckpt.read_checkpoint(path).tensors["net"]
    assert torch.equal(read["a"], shared)
    assert torch.equal(read["b"], shared)


def test_checkpoint_is_never_replaced(tmp_path):
    first, second, third = write(tmp_path), write(tmp_path), write(tmp_path)
    assert [first.name, second.name, third.name] == [
        "ckpt-000000000400",
        "ckpt-000000000400.1",
        "ckpt-000000000400.2",
    ]
    assert ckpt.latest_checkpoint(tmp_path) == third
    assert write(tmp_path, frames=404) == ckpt.latest_checkpoint(tmp_path)


def test_prune_keeps_last_and_best(tmp_path):
    ckpt.mark_best(tmp_path, write(tmp_path, 4), score=3.0)
    for frames in range(8, 32, 4):
        write(tmp_path, frames, keep_last=2)
    kept = [path.name for path in ckpt.list_checkpoints(tmp_path)]
    assert kept == ["ckpt-000000000004", "ckpt-000000000024", "ckpt-000000000028"]
    assert ckpt.best_checkpoint(tmp_path).name == "ckpt-000000000004"
    assert names(tmp_path) == ["best.json", *kept]


def test_prune_spares_the_new_one_behind_a_later_damaged_one(tmp_path):
    damaged = write(tmp_path, 800, keep_last=1)
    (damaged / "online.safetensors").unlink()
    assert write(tmp_path, 400, keep_last=1) == ckpt.latest_checkpoint(tmp_path)
    assert names(tmp_path) == ["ckpt-000000000400"]


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_damaged_file_is_refused_by_name(tmp_path, name):
    path = write(tmp_path)
    file = path / name
    blob = file.read_bytes()
    for length in (0, 1, len(blob) // 2, len(blob) - 1):
        file.write_bytes(blob[:length])
        with pytest.raises(CheckpointError, match=name):
            ckpt.read_checkpoint(path)
    file.write_bytes(blob + b"\0")
    with pytest.raises(CheckpointError, match=name):
        ckpt.read_checkpoint(path)
    offsets = torch.randint(len(blob), (60,), generator=torch.Generator().manual_seed(0)).tolist()
    for offset in {0, 7, 8, len(blob) - 1, *offsets}:
        for bit in range(8):
            flipped = bytearray(blob)
            flipped[offset] ^= 1 << bit
            file.write_bytes(flipped)
            with pytest.raises(CheckpointError, match=name):
                ckpt.verify_checkpoint(path)
    file.unlink()
    with pytest.raises(CheckpointError, match=name):
        ckpt.read_checkpoint(path)
    file.mkdir()
    with pytest.raises(CheckpointError, match=name):
        ckpt.read_checkpoint(path)
    file.rmdir()
    file.symlink_to(file)
    with pytest.raises(CheckpointError, match=name):
        ckpt.read_checkpoint(path)
    file.unlink()
    file.write_bytes(blob)
    assert ckpt.read_checkpoint(path).frames == 400


def test_swapped_files_are_refused(tmp_path):
    path = write(tmp_path)
    first, second, spare = path / FILES[0], path / FILES[1], path / "spare"
    first.rename(spare)
    second.rename(first)
    spare.rename(second)
    with pytest.raises(CheckpointError, match=FILES[0]):
        ckpt.read_checkpoint(path)


def test_files_of_another_checkpoint_are_refused(tmp_path):
    path = write(tmp_path)
    other = ckpt.write_checkpoint(tmp_path, 404, TENSORS, {**RECORDS, "config": {"a": [2]}}, 3)
    shutil.copy(other / "config.json", path / "config.json")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        ckpt.read_checkpoint(path)


def test_pickle_in_place_of_a_file_runs_no_code(tmp_path):
    canary = tmp_path / "canary"

    class Attack:
        def __reduce__(self):
            return (Path.touch, (canary,))

    path = write(tmp_path)
    for name in [*FILES, "manifest.json"]:
        blob = (path / name).read_bytes()
        (path / name).write_bytes(pickle.dumps(Attack()))
        with pytest.raises(CheckpointError, match=name):
            ckpt.read_checkpoint(path)
        with pytest.raises(CheckpointError):
            load_weights(path / name)
        (path / name).write_bytes(blob)
    assert not canary.exists()


def forge_manifest(path: Path, **changes: object) -> None:
    """A manifest whose own checksum is right."""
    body = json.loads((path / "manifest.json").read_text()) | changes
    del body["manifest_crc32"]
    crc = f"{zlib.crc32((json.dumps(body, indent=2, sort_keys=True) + chr(10)).encode()):08x}"
    text = json.dumps({**body, "manifest_crc32": crc}, indent=2, sort_keys=True) + "\n"
    (path / "manifest.json").write_text(text)


@pytest.mark.parametrize(
    "name", ["../secret.json", "/etc/passwd.json", "a/b.json", "x.pkl", ".json"]
)
def test_manifest_that_names_files_elsewhere_is_refused(tmp_path, name):
    (tmp_path / "secret.json").write_text("{}")
    path = write(tmp_path)
    forge_manifest(path, files={name: {"bytes": 2, "crc32": f"{zlib.crc32(b'{}'):08x}"}})
    with pytest.raises(CheckpointError, match="is not the name of a file of a checkpoint"):
        ckpt.read_checkpoint(path)


@pytest.mark.parametrize("files", [None, [], {"config.json": 3}, {"config.json": {"bytes": "2"}}])
def test_manifest_of_wrong_types_is_refused(tmp_path, files):
    path = write(tmp_path)
    forge_manifest(path, files=files)
    with pytest.raises(CheckpointError, match=r"manifest\.json: damaged"):
        ckpt.read_checkpoint(path)


def test_other_format_version_is_refused(tmp_path):
    path = write(tmp_path)
    forge_manifest(path, format=2)
    with pytest.raises(CheckpointError, match="has format 2, this version reads format 1"):
        ckpt.read_checkpoint(path)


def test_latest_falls_back_with_a_warning(tmp_path):
    older, newer = write(tmp_path, 400), write(tmp_path, 800)
    assert ckpt.latest_checkpoint(tmp_path) == newer
    (newer / "counters.json").write_bytes(b"{}")
    with pytest.warns(RuntimeWarning, match=r"counters\.json.*FALLING BACK.*ckpt-000000000400"):
        assert ckpt.latest_checkpoint(tmp_path) == older
    (older / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match=r"no checkpoint is whole: .*counters.*manifest"):
        ckpt.latest_checkpoint(tmp_path)


def test_latest_without_checkpoints_says_so(tmp_path):
    with pytest.raises(CheckpointError, match="found none"):
        ckpt.latest_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="no such file or directory"):
        ckpt.latest_checkpoint(tmp_path / "missing")


def test_open_removes_what_an_interrupted_writer_left(tmp_path):
    path = write(tmp_path)
    half = tmp_path / ".tmp-0123"
    half.mkdir()
    (half / "online.safetensors").write_bytes(b"half")
    (tmp_path / ".tmp-best").write_bytes(b"half")
    assert ckpt.latest_checkpoint(tmp_path) == path
    lock = ckpt.open_checkpoints(tmp_path)
    assert names(tmp_path) == [path.name]
    with pytest.raises(CheckpointError, match="another training is writing here"):
        ckpt.open_checkpoints(tmp_path)
    os.close(lock)
    os.close(ckpt.open_checkpoints(tmp_path))


@pytest.mark.parametrize("root", ["file", "file/below", "x" * 300])
def test_unwritable_root_is_one_sentence(tmp_path, root):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot keep checkpoints here"):
        ckpt.open_checkpoints(tmp_path / root)
    with pytest.raises(CheckpointError, match="cannot write a checkpoint of"):
        write(tmp_path / root)
    with pytest.raises(CheckpointError):
        ckpt.read_checkpoint(tmp_path / root)
    assert names(tmp_path) == ["file"]


def test_unicode_and_spaces_in_the_path_work(tmp_path):
    assert ckpt.read_checkpoint(write(tmp_path / "a b" / "ü ✓")).frames == 400


def test_full_disk_leaves_nothing_and_the_older_one_whole(tmp_path):
    older = write(tmp_path, 400)
    big = {"online": {"weight": torch.zeros(200_000)}}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(CheckpointError, match=r"of 80\d{4} bytes \(\d+ bytes are free\)"):
            ckpt.write_checkpoint(tmp_path, 800, big, RECORDS, keep_last=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names(tmp_path) == [older.name]
    assert ckpt.latest_checkpoint(tmp_path) == older
    ckpt.write_checkpoint(tmp_path, 800, big, RECORDS, keep_last=1)
    assert names(tmp_path) == ["ckpt-000000000800"]


def test_checkpoint_larger_than_the_free_space_is_refused_first(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: types.SimpleNamespace(free=1))
    with pytest.raises(CheckpointError, match=r"\(1 bytes are free\): no space left on device"):
        write(tmp_path)
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "../a", "manifest", "a.b", "x" * 101])
def test_bad_names_of_parts_are_refused(tmp_path, name):
    with pytest.raises(CheckpointError, match="expected a name"):
        ckpt.write_checkpoint(tmp_path, 4, {}, {name: {}}, keep_last=1)
    assert names(tmp_path) == []


def test_bad_arguments_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="frames"):
        write(tmp_path, frames=-1)
    with pytest.raises(CheckpointError, match="frames"):
        write(tmp_path, frames=10**12)
    with pytest.raises(CheckpointError, match="keep"):
        write(tmp_path, keep_last=0)
    with pytest.raises(CheckpointError, match="record odd: cannot be stored as JSON"):
        ckpt.write_checkpoint(tmp_path, 4, {}, {"odd": object()}, keep_last=1)
    assert names(tmp_path) == []


def test_best_pointer_is_replaced_and_checked(tmp_path):
    with pytest.raises(CheckpointError, match=r"best\.json: missing"):
        ckpt.best_checkpoint(tmp_path)
    first, second = write(tmp_path, 4), write(tmp_path, 8)
    ckpt.mark_best(tmp_path, first, 1.0)
    ckpt.mark_best(tmp_path, second, 2.5)
    assert ckpt.best_checkpoint(tmp_path) == second
    assert json.loads((tmp_path / "best.json").read_text())["score"] == 2.5
    (second / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json"):
        ckpt.best_checkpoint(tmp_path)
    for text in ("", "{}", "[1]", '{"checkpoint": "../x"}'):
        (tmp_path / "best.json").write_text(text)
        with pytest.raises(CheckpointError, match=r"best\.json: damaged"):
            ckpt.best_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="expected a checkpoint in"):
        ckpt.mark_best(tmp_path, tmp_path / "ckpt-000000000099", 1.0)
