"""Changes random lines of the package one at a time, and says which changes no test notices.

    python python_tests/mutations.py --seed 0 --number 30

Each change is made in a copy of the package; tests that name the changed module run first, then
the other fast ones, until one fails. A survivor is either the same program or a missing test.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from atari_fast import _core

ROOT = Path(__file__).parents[1]
PARTS = ("agents", "envs", "nets", "ops", "replay", "runtime")
SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
LOADER = """import sys
sys.meta_path[:] = [f for f in sys.meta_path if type(f).__name__ != "ScikitBuildRedirectingFinder"]
"""
"""The package is that on the path, although an editable install points elsewhere."""


def nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All that runs: neither annotations nor texts."""
    yield node
    for name, value in ast.iter_fields(node):
        if name not in ("annotation", "returns"):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST) and not isinstance(child, ast.JoinedStr):
                    yield from nodes(child)


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """What a node is changed into."""
    new = copy.deepcopy(node)
    if isinstance(new, ast.Compare) and type(new.ops[0]) in SWAPS:
        new.ops[0] = SWAPS[type(new.ops[0])]()
        yield new
    elif isinstance(new, (ast.BinOp, ast.BoolOp)) and type(new.op) in SWAPS:
        new.op = SWAPS[type(new.op)]()
        yield new
    elif isinstance(new, ast.Constant) and type(new.value) in (bool, int, float):
        yield ast.Constant(not new.value if isinstance(new.value, bool) else new.value + 1)
    elif isinstance(new, ast.Call) and len(new.args) > 1:
        new.args[:2] = new.args[1::-1]
        yield new
    elif isinstance(new, ast.IfExp):
        new.body, new.orelse = new.orelse, new.body
        yield new
    elif isinstance(new, ast.UnaryOp) and isinstance(new.op, (ast.Not, ast.USub)):
        yield new.operand
    elif isinstance(new, ast.AugAssign) or (
        isinstance(new, ast.Expr) and isinstance(new.value, ast.Call)
    ):
        yield ast.Pass()
    if isinstance(node, (ast.If, ast.While)):
        yield ast.UnaryOp(ast.Not(), node.test)


def mutants() -> list[tuple[Path, int, str, str, bytes]]:
    """File, line, old and new text and changed source of every change there is."""
    found = []
    for path in sorted(p for part in PARTS for p in (ROOT / "atari_fast" / part).glob("*.py")):
        source = path.read_bytes()
        starts = [0]
        for line in source.splitlines(keepends=True):
            starts.append(starts[-1] + len(line))
        for node in nodes(ast.parse(source)):
            for new in changes(node):
                at = node.test if isinstance(node, (ast.If, ast.While)) else node
                begin = starts[at.lineno - 1] + at.col_offset
                end = starts[at.end_lineno - 1] + at.end_col_offset
                text = f"({ast.unparse(new)})" if isinstance(new, ast.expr) else ast.unparse(new)
                changed = source[:begin] + text.encode() + source[end:]
                old = source[begin:end].decode()
                found.append((path.relative_to(ROOT), at.lineno, old, text, changed))
    return found


def tests(module: Path) -> list[str]:
    """The fast tests, those first that speak most of the module."""
    name = ".".join(module.with_suffix("").parts[1:])
    files = [*(ROOT / "python_tests" / "unit").glob("test_*.py")]
    files += [ROOT / "python_tests" / "reliability" / "test_field_effects.py"]
    order = sorted(
        files,
        key=lambda file: (
            f"test_{module.stem}.py" != file.name,
            -file.read_text().count(name),
            file.stat().st_size,
        ),
    )
    return [*map(str, order), str(ROOT / "python_tests" / "learning")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--number", type=int, default=30)
    options = parser.parse_args()
    survivors = 0
    for path, line, old, new, source in random.Random(options.seed).sample(
        mutants(), options.number
    ):
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            shutil.copytree(ROOT / "atari_fast", Path(folder, "atari_fast"))
            shutil.copy(_core.__file__, Path(folder, "atari_fast"))
            Path(folder, path).write_bytes(source)
            Path(folder, "sitecustomize.py").write_text(LOADER)
            done = subprocess.run(
                [*(sys.executable, "-m", "pytest", "-xq", "-m", "not slow"), *tests(path)],
                env={**os.environ, "PYTHONPATH": folder, "OMP_NUM_THREADS": "1"},
                cwd=folder,
                capture_output=True,
                text=True,
            )
        failed = [x for x in done.stdout.splitlines() if x.startswith(("FAILED", "ERROR"))]
        survivors += done.returncode == 0
        text = failed[0].split(" - ")[0] if failed else f"exit code {done.returncode}"
        verdict = "SURVIVED" if done.returncode == 0 else f"noticed: {text}"
        print(
            f"{path}:{line}: {old!r} -> {new!r}: {verdict} ({time.monotonic() - began:.0f} s)",
            flush=True,
        )
    print(f"{options.number - survivors} of {options.number} noticed")


if __name__ == "__main__":
    main()
