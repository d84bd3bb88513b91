"""A file imports only from layers below it, or from its own folder (docs/architecture.md)."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from atari_fast import _core
from atari_fast.config import CONFIGS

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "atari_fast"
CSRC = ROOT / "csrc"

CSRC_LAYERS = {"base": 0, "kernels": 1, "structures": 2, "replay": 3, "bindings": 4}

LAYERS = {
    "_core": 0,
    "types": 0,
    "errors": 0,
    "seeding": 0,
    "schedules": 0,
    "games": 0,
    "places": 0,
    "config": 1,
    "config_io": 2,
    "config_schema": 1,
    "presets": 2,
    "infra": 1,
    "envs": 2,
    "replay": 2,
    "nets": 2,
    "ops": 2,
    "exploration": 3,
    "agents": 4,
    "runtime": 5,
    "train": 6,
    "evaluate": 6,
    "record": 6,
    "plot": 6,
    "__main__": 6,
    "__init__": 6,
}
"""Layer of every file and folder of the package."""

LATE = {"torch", "cv2", "matplotlib", "tensorboard", "safetensors"}
"""Slow to import: infra and the command lines import them inside functions."""


def unit(path: Path) -> str:
    """The name in LAYERS of a file of the package."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py").removesuffix(".pyi")


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    """Dotted names of all modules that a file imports."""
    tree = ast.parse(path.read_text(), str(path))
    found: set[str] = set()
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = ("." * node.level) + (node.module or "")
            found.update(f"{module}.{alias.name}" for alias in node.names)
    return found


def is_allowed(mine: str, theirs: str) -> bool:
    """Whether a unit may import another: from below, from its own folder."""
    if mine == theirs or LAYERS[theirs] < LAYERS[mine]:
        return True
    files = not (PACKAGE / mine).is_dir() and not (PACKAGE / theirs).is_dir()
    return files and LAYERS[theirs] == LAYERS[mine]


def breaches(path: Path) -> list[str]:
    """What a file of the package imports against the rule."""
    mine = unit(path)
    found = []
    for name in sorted(imports(path)):
        first, *rest = name.split(".")
        if first == "":
            found.append(f"{mine}: relative import {name}; name the package")
        if first != "atari_fast" or not rest:
            continue
        theirs = rest[0] if rest[0] in LAYERS else "__init__"
        if not is_allowed(mine, theirs):
            found.append(f"{mine} (layer {LAYERS[mine]}) imports {name} (layer {LAYERS[theirs]})")
    return found


def python_files() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)


def test_every_file_has_a_layer():
    unknown = {unit(path) for path in python_files()} - set(LAYERS)
    assert not unknown, f"no layer for {sorted(unknown)}; see docs/architecture.md"
    folders = {path.name for path in CSRC.iterdir() if path.is_dir()}
    assert folders <= set(CSRC_LAYERS), f"no layer for {sorted(folders - set(CSRC_LAYERS))}"


def test_python_imports_stay_in_their_layers():
    found = [breach for path in python_files() for breach in breaches(path)]
    assert not found, "\n".join(found)


def test_the_runtime_and_the_commands_name_no_algorithm():
    """They know agents by `agents/agent.py`, the registry, and trained agents on disk."""
    known = {f"atari_fast.agents.{name}" for name in ("agent", "registry", "restore")}
    settings = {kind.__name__ for kind in CONFIGS.values()}
    commands = [PACKAGE / f"{name}.py" for name in ("train", "evaluate", "record", "plot")]
    for path in [*(PACKAGE / "runtime").glob("*.py"), *commands]:
        for name in imports(path):
            if name.startswith("atari_fast.agents"):
                assert name.rpartition(".")[0] in known, f"{path.name} imports {name}"
            assert name.rpartition(".")[2] not in settings, f"{path.name} imports {name}"


@pytest.mark.parametrize(
    ("file", "text", "breach"),
    [
        ("ops/x.py", "from atari_fast.agents import dqn", "imports atari_fast.agents.dqn"),
        ("ops/x.py", "import atari_fast.nets.heads", "imports atari_fast.nets.heads"),
        ("infra/x.py", "def f():\n    from atari_fast.config import DqnConfig", "imports"),
        ("errors.py", "from atari_fast.config import DqnConfig", "imports"),
        ("config.py", "from atari_fast.infra import cli", "imports"),
        ("agents/x.py", "from atari_fast import runtime", "imports atari_fast.runtime"),
        ("agents/x.py", "from ..runtime import loop", "relative import"),
        ("envs/x.py", "from atari_fast import __version__", "imports atari_fast.__version__"),
    ],
)
def test_a_breach_of_the_layers_is_found(tmp_path, monkeypatch, file, text, breach):
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    for folder in ("ops", "nets", "infra", "agents", "runtime", "envs"):
        (tmp_path / folder).mkdir()
    path = tmp_path / file
    path.write_text(text)
    (found,) = breaches(path)
    assert breach in found


def test_slow_libraries_are_imported_late():
    commands = [path for path in PACKAGE.glob("*.py") if LAYERS[unit(path)] != 0]
    for path in [*commands, *(PACKAGE / "infra").glob("*.py")]:
        early = {name.split(".")[0] for name in imports(path, top_level_only=True)} & LATE
        assert not early, f"{path.name} imports {sorted(early)} at its top; do it in a function"


def includes(path: Path) -> list[str]:
    return re.findall(r'^\s*#\s*include\s+[<"]([^>"]+)[>"]', path.read_text(), re.MULTILINE)


def cpp_files() -> list[Path]:
    return sorted(path for path in CSRC.rglob("*") if path.suffix in (".h", ".cpp"))


def test_cpp_includes_stay_in_their_layers():
    assert cpp_files()
    for path in cpp_files():
        mine = path.relative_to(CSRC).parts[0]
        for name in includes(path):
            theirs = name.split("/")[0]
            if theirs in CSRC_LAYERS:
                assert theirs == mine or CSRC_LAYERS[theirs] < CSRC_LAYERS[mine], (
                    f"{mine}/{path.name} includes {name}"
                )


def test_only_bindings_know_python_and_nothing_knows_torch():
    for path in cpp_files():
        for name in includes(path):
            assert not name.startswith(("torch/", "ATen/", "c10/")), f"{path.name}: {name}"
            if path.parent.name != "bindings":
                assert not name.startswith(("pybind11/", "Python.h")), f"{path.name}: {name}"
                assert "numpy" not in name, f"{path.name}: {name}"


def test_the_core_has_no_streams() -> None:
    """Where libstdc++ is linked into it, its streams crash beside the libstdc++ of torch."""
    assert b"basic_ostream" not in Path(_core.__file__).read_bytes()
