"""Checkpoints that released versions wrote go on, or are refused with the version that is needed.

`fixtures/format-<n>` is the run of a version that wrote format n. It is never written again: a
change that makes its test fail needs a new format, and the old one a refusal or a migration.
"""

from __future__ import annotations

import json
import shutil
import zlib
from pathlib import Path

import pytest

from atari_fast import _core
from atari_fast.infra.checkpoint import latest_checkpoint, read_checkpoint
from atari_fast.infra.files import dump_json
from atari_fast.infra.manifest import FORMAT_VERSION
from atari_fast.train import main
from commands import one_sentence, train

FIXTURES = Path(__file__).parent / "fixtures"


def test_every_format_has_its_fixture() -> None:
    found = sorted(path.name for path in FIXTURES.iterdir())
    assert found == [f"format-{number + 1}" for number in range(FORMAT_VERSION)]


def test_a_run_of_format_1_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(FIXTURES / "format-1", "run")
    assert main(["--resume", "run", "--total-frames", "400"]) == 0
    assert read_checkpoint(latest_checkpoint(Path("run") / "checkpoints")).frames == 400


def test_a_newer_format_is_refused_with_the_version_that_is_needed(tmp_path: Path) -> None:
    run = shutil.copytree(FIXTURES / "format-1", tmp_path / "run")
    manifest = latest_checkpoint(run / "checkpoints") / "manifest.json"
    body = json.loads(manifest.read_bytes())
    assert body["versions"]["atari_fast"] == _core.__version__
    del body["manifest_crc32"]
    body["format"] = FORMAT_VERSION + 1
    body["versions"]["atari_fast"] = "7.8.9"
    body["manifest_crc32"] = f"{zlib.crc32(dump_json(body)):08x}"
    manifest.write_bytes(dump_json(body))
    done = train("--resume", "run", cwd=tmp_path)
    words = ("manifest.json", f"format {FORMAT_VERSION + 1}", "use atari_fast 7.8.9")
    one_sentence(done, 4, *words)
