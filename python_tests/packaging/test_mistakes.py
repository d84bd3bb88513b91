"""The mistakes of `python_tests/mistakes.py` can still be made."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from mistakes import MISTAKES, changed


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_applies_to_the_sources_and_its_test_exists(name: str) -> None:
    mistake = MISTAKES[name]
    changed(mistake)
    file, test = mistake.test.split("::")
    assert f"def {test}(" in (Path(__file__).parents[1] / file).read_text()


def test_all_mistakes_of_both_papers_programs_are_there() -> None:
    assert set(MISTAKES) == {f"N{k}" for k in range(1, 11)} | {f"A{k}" for k in range(1, 13)}
