"""The tree is clean for the tools that CONTRIBUTING.md names; the installed package is whole."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import sys
from pathlib import Path

import atari_fast
from atari_fast import _core

ROOT = Path(__file__).parents[2]


def run(*command: str | Path, cwd: Path = ROOT) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{command[0]} {command[1]}\n{done.stdout}{done.stderr}"


def test_ruff_check_is_clean():
    run(sys.executable, "-m", "ruff", "check", ".")


def test_ruff_format_is_clean():
    run(sys.executable, "-m", "ruff", "format", "--check", ".")


def test_mypy_is_clean():
    run(sys.executable, "-m", "mypy")


def test_stub_of_the_extension_is_true(tmp_path):
    run(sys.executable, "-m", "mypy.stubtest", "atari_fast._core", cwd=tmp_path)


def cpp_files() -> list[Path]:
    folders = (ROOT / "csrc", ROOT / "cpp_tests", ROOT / "bench")
    return [
        path for folder in folders for path in folder.rglob("*") if path.suffix in (".h", ".cpp")
    ]


def test_cpp_lines_are_at_most_100_columns():
    lines = [
        f"{path.name}:{number}"
        for path in cpp_files()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if len(line) > 100
    ]
    assert not lines


def test_clang_format_is_clean():
    run(Path(sys.executable).parent / "clang-format", "--dry-run", "-Werror", *cpp_files())


def test_versions_agree():
    version = importlib.metadata.version("atari_fast")
    assert _core.__version__ == version
    project = (ROOT / "pyproject.toml").read_text()
    assert re.search(rf'^version = "{re.escape(version)}"$', project, re.MULTILINE)


def test_package_says_that_it_is_typed():
    folder = Path(_core.__file__).parent
    assert folder.name == "atari_fast"
    assert (Path(atari_fast.__file__).parent / "py.typed").exists()


def test_package_runs_in_a_clone_that_holds_no_compiled_extension(tmp_path):
    shutil.copytree(ROOT / "atari_fast", tmp_path / "atari_fast")
    run(sys.executable, "-c", "from atari_fast import _core", cwd=tmp_path)
