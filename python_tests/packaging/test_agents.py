"""Agents read like their papers: each is its own file, and a variant is a short way from DQN."""

from __future__ import annotations

import ast
import difflib
from pathlib import Path

import pytest

AGENTS = Path(__file__).parents[2] / "atari_fast" / "agents"
AGENTS_BESIDE_DQN = ("c51", "qr_dqn", "iqn")


@pytest.mark.parametrize("name", AGENTS_BESIDE_DQN)
def test_a_variant_differs_from_dqn_by_less_than_90_lines(name: str) -> None:
    ours, theirs = ((AGENTS / f"{n}.py").read_text().splitlines() for n in ("dqn", name))
    diff = [line for line in difflib.ndiff(ours, theirs) if line[0] in "+-"]
    assert len(diff) < 90


def test_the_least_squares_hook_is_less_than_90_lines_of_code() -> None:
    """DQN calls it by two lines. Imports, blank lines and `paired_evaluation.py` do not count."""
    lines = (AGENTS / "ls_dqn.py").read_text().splitlines()
    code = [line for line in lines if line and not line.startswith(("from ", "import "))]
    assert len(code) + 2 < 90


@pytest.mark.parametrize("path", sorted(AGENTS.glob("*.py")), ids=lambda path: path.stem)
def test_no_agent_inherits_from_or_wraps_another(path: Path) -> None:
    tree = ast.parse(path.read_text())
    bases = [ast.unparse(b) for n in ast.walk(tree) if isinstance(n, ast.ClassDef) for b in n.bases]
    kinds = {base.partition("[")[0] for base in bases}
    assert kinds <= {"NamedTuple", "Protocol", "Exception", "Generic", "Stateful"}
    if path.stem in ("dqn", *AGENTS_BESIDE_DQN):
        froms = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
        imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        imported |= {n.module for n in froms} | {
            f"{n.module}.{a.name}" for n in froms for a in n.names
        }
        assert not imported & {f"atari_fast.agents.{name}" for name in ("dqn", *AGENTS_BESIDE_DQN)}
