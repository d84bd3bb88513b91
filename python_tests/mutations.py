"""Changes random lines of the package one at a time, and says which changes no test notices.

`python python_tests/mutations.py SEED NUMBER`, from the repository, makes each change in a copy of
the package. Tests that name the changed module run first, then the other fast ones, until one
fails. What survives is the same program in other words, needs a GPU, or lacks a test.
"""

from __future__ import annotations

import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from atari_fast import _core

TESTS = Path(__file__).parent
ROOT = TESTS.parent
PARTS = ("agents", "envs", "nets", "ops", "replay", "runtime")
PAIRS = "Lt LtE, Gt GtE, Eq NotEq, Is IsNot, In NotIn, Add Sub, Mult Div, FloorDiv Mod, And Or"
SWAPS = {
    getattr(ast, one): getattr(ast, other)
    for pair in [*PAIRS.split(", "), "BitAnd BitOr"]
    for one, other in (pair.split(), pair.split()[::-1])
}
# Takes the package from the path although an editable install points elsewhere.
NOT_EDITABLE = """import sys
sys.meta_path[:] = [f for f in sys.meta_path if type(f).__name__ != "ScikitBuildRedirectingFinder"]
"""


def nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All that is computed: no annotations, no texts."""
    yield node
    for name, value in ast.iter_fields(node):
        if name not in ("annotation", "returns"):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST) and not isinstance(child, ast.JoinedStr):
                    yield from nodes(child)


def change(node: ast.AST) -> ast.AST | None:
    """What a node is changed into, if it is."""
    new = copy.deepcopy(node)
    if isinstance(new, ast.Compare) and type(new.ops[0]) in SWAPS:
        new.ops[0] = SWAPS[type(new.ops[0])]()
    elif isinstance(new, ast.BinOp | ast.BoolOp) and type(new.op) in SWAPS:
        new.op = SWAPS[type(new.op)]()
    elif isinstance(new, ast.Constant) and type(new.value) in (bool, int, float):
        new.value = not new.value if isinstance(new.value, bool) else new.value + 1
    elif isinstance(new, ast.Call) and len(new.args) > 1:
        new.args[:2] = new.args[1::-1]
    elif isinstance(new, ast.IfExp):
        new.body, new.orelse = new.orelse, new.body
    elif isinstance(new, ast.UnaryOp):
        return new.operand
    elif isinstance(new, ast.If | ast.While):
        return ast.UnaryOp(ast.Not(), new.test)
    else:
        call = isinstance(new, ast.Expr) and isinstance(new.value, ast.Call)
        return ast.Pass() if call or isinstance(new, ast.AugAssign) else None
    return new


def mutants() -> list[tuple[Path, int, str, str, bytes]]:
    """File, line, old and new text, and the changed source of every change that there is."""
    found = []
    for path in sorted(p for part in PARTS for p in (ROOT / "atari_fast" / part).glob("*.py")):
        source = path.read_bytes()
        lines = source.splitlines(keepends=True)
        for node in nodes(ast.parse(source)):
            if new := change(node):
                at = node.test if isinstance(node, ast.If | ast.While) else node
                begin = len(b"".join(lines[: at.lineno - 1])) + at.col_offset
                end = len(b"".join(lines[: at.end_lineno - 1])) + at.end_col_offset
                text = f"({ast.unparse(new)})" if isinstance(new, ast.expr) else "pass"
                changed = source[:begin] + text.encode() + source[end:]
                old = source[begin:end].decode()
                found.append((path.relative_to(ROOT), at.lineno, old, text, changed))
    return found


def ordered_tests(module: Path) -> list[Path]:
    """All test files, those that name the module most often first."""
    name = ".".join(module.with_suffix("").parts[1:])
    files = [f for part in ("unit", "reliability") for f in (TESTS / part).glob("test_*.py")]
    files.sort(key=lambda f: (f.stem == f"test_{module.stem}", f.read_text().count(name)))
    return [*reversed(files), TESTS / "learning"]


def copy_package(folder: Path) -> None:
    """Copies the installed package to a folder, whose tests then import it from there."""
    shutil.copytree(ROOT / "atari_fast", folder / "atari_fast")
    shutil.copy(_core.__file__, folder / "atari_fast")
    (folder / "sitecustomize.py").write_text(NOT_EDITABLE)


def failed_test(folder: Path, tests: Sequence[Path | str]) -> str:
    """The first test that fails with the package of `copy_package`, or nothing."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    marks = "not slow and not gpu"
    command = ["timeout", "3600", sys.executable, "-m", "pytest", "-xqm", marks, *tests]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True)
    if not done.returncode:
        return ""
    lines = done.stdout.decode().splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return (failed or ["the tests do not end"])[0].split(" - ")[0]


def verdict(path: Path, source: bytes) -> str:
    """The first test that fails, or nothing."""
    with tempfile.TemporaryDirectory() as folder:
        copy_package(Path(folder))
        Path(folder, path).write_bytes(source)
        tests = ordered_tests(path)
        some, rest = tests[:3], tests[3:]  # few are collected in a second
        return failed_test(Path(folder), some) or failed_test(Path(folder), rest)


if __name__ == "__main__":
    seed, number = map(int, sys.argv[1:])
    for path, line, old, new, source in random.Random(seed).sample(mutants(), number):
        noticed = verdict(path, source)
        print(f"{path}:{line}: {old!r} -> {new!r}: {noticed or 'SURVIVED'}", flush=True)
