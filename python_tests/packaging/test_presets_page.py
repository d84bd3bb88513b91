"""docs/presets.md says of every preset and every setting what its source has, and is true.

A page is a mapping from heading to the cells of its table's rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from atari_fast.config import DqnFamilyConfig
from atari_fast.presets import PRESETS

PAGE = Path(__file__).parents[2] / "docs" / "presets.md"
COMMON = "Settings without a published counterpart"
SAME = "The same in every preset"
ONLY = "Settings that count only beside others"

Page = dict[str, list[list[str]]]


def read(text: str) -> Page:
    page: Page = {}
    heading = ""
    for line in text.splitlines():
        if line.startswith("## "):
            heading = line[3:].strip("`")
            page[heading] = []
        elif heading and line.startswith("|"):
            page[heading].append([cell.strip() for cell in line.strip()[1:-1].split("|")])
    return {heading: rows[2:] for heading, rows in page.items()}


def leaves(part: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every setting with its value as the page writes it."""
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, written(value)


def written(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(written, value)) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:.10g}"


def names(cell: str) -> list[str]:
    return [name.strip().strip("`") for name in cell.split(",")]


def problems(page: Page, values: Mapping[str, Mapping[str, str]]) -> list[str]:
    """What is wrong with a page for presets of these values, each with how to mend it."""
    found: list[str] = []
    known = {name for fields in values.values() for name in fields}
    common = {name for row in page.get(COMMON, []) for name in names(row[0])}
    only: dict[str, tuple[str, list[str]]] = {}
    for settings, condition in page.get(ONLY, []):
        field, _, options = condition.partition("=")
        for name in names(settings):
            only[name] = field.strip().strip("`"), [part.strip() for part in options.split(",")]
    same = {row[0].strip("`"): row for row in page.get(SAME, [])}
    for preset, fields in values.items():
        rows = {row[0].strip("`"): row for row in page.get(preset, [])}
        if not rows:
            found.append(f"{preset}: add a section `## {preset}` with a table of its settings")
            continue
        for name in [*same, *common, *only]:
            if name not in known:
                found.append(f"{name}: is no setting (any more); take its row out")
        found.extend(
            f"{preset}: {name}: is no setting of this preset; take its row out"
            for name in rows
            if name not in fields
        )
        shared = isinstance(PRESETS[preset](), DqnFamilyConfig)  # the tables of what presets share
        for name, value in fields.items():
            field, options = only.get(name, ("", [])) if shared else ("", [])
            counts = not field or fields[field] in options
            where = [name in rows, shared and name in same and counts, name in common]
            if not counts and not any(where):
                continue
            if not counts or sum(where) != 1:
                found.append(
                    f"{preset}: {name} stands in {sum(where)} tables; add a row `{name}` = {value} "
                    f"with its source to the table of {preset}, or once to '{SAME}', or, if no "
                    f"source can say anything of it, to '{COMMON}'; '{ONLY}' says where it counts"
                )
            elif name not in common:
                row = rows[name] if name in rows else same[name]
                found.extend(f"{preset}: {name}: {problem}" for problem in row_problems(row, value))
    return found


def row_problems(row: list[str], value: str) -> Iterator[str]:
    if len(row) != 5:
        yield f"expected 5 cells, got {len(row)}"
        return
    _, here, published, source, reason = row
    if here != value:
        yield f"the page says {here}, the preset has {value}; correct the column 'here'"
    if not published or not source:
        yield "the source's value or its source is missing; write what it has and where"
    if here != published and not reason:
        yield f"{here} is not the source's {published}; give the reason"
    if here == published and reason:
        yield "is as in the source; drop the reason"


@pytest.fixture(name="values")
def preset_values() -> dict[str, dict[str, str]]:
    return {name: dict(leaves(function())) for name, function in PRESETS.items()}


def test_page_is_complete_and_true(values: dict[str, dict[str, str]]) -> None:
    found = problems(read(PAGE.read_text()), values)
    assert not found, "docs/presets.md:\n" + "\n".join(found)


def test_page_has_no_section_of_a_preset_that_is_gone() -> None:
    assert set(read(PAGE.read_text())) == {*PRESETS, COMMON, SAME, ONLY}


def test_presets_of_our_own_are_compared_with_another_preset(
    values: dict[str, dict[str, str]],
) -> None:
    """Where the source is a preset, its value is what that preset has."""
    page = read(PAGE.read_text())
    own = set()
    for preset in PRESETS:
        for name, _, published, source, _ in page[preset]:
            if (base := source.strip("`")) in PRESETS:
                own.add(preset)
                assert published == values[base][name.strip("`")], (preset, name)
    assert own == {
        *("pong", "ls-dqn-pong", "ls-dqn-boxing", "ls-dqn-dueling", "ls-dqn-boosted"),
        *("r2d2-bandit", "r2d2-small", "ngu-small", "agent57-small", "ngu-gpu", "agent57-gpu"),
    }


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("| `agent.n_step` | 3 | 3 |", "| `agent.n_step` | 5 | 3 |", "the preset has 3"),
        ("| `agent.n_step` | 3 | 3 |", "| `agent.n_step` | 3 | |", "source is missing"),
        ("| `agent.n_step` | 3 | 3 |", "| `agent.n_step` | 3 | 1 |", "give the reason"),
        ("| `agent.n_step` | 3 | 3 | Hessel 2018, table 1 | |", "", "agent.n_step stands in 0"),
        ("| `agent.n_step` | 3 | 3 | Hessel 2018, table 1 | |",
         "| `agent.n_step` | 3 | 3 | Hessel 2018, table 1 | so |", "drop the reason"),
        ("| `agent.n_step` | 3 | 3 | Hessel 2018, table 1 | |",
         "| `agent.n_step` | 3 | 3 | | |", "source is missing"),
        ("## `rainbow`\n", "## `rain`\n", "add a section `## rainbow`"),
        ("| `threads` |", "| `treads` |", "treads: is no setting"),
        ("| `threads` |", "| `treads` |", "threads stands in 0"),
        ("| `net.stack` | 4 | 4 |", "| `net.stack` | 1 | 4 |", "the preset has 4"),
        ("| `agent.noisy_sigma` | `agent.noisy` = true |", "", "agent.noisy_sigma stands in 0"),
    ],
)  # fmt: skip
def test_a_page_with_a_fault_is_refused(
    old: str, new: str, message: str, values: dict[str, dict[str, str]]
) -> None:
    text = PAGE.read_text()
    start = text.index("## `rainbow`\n") if old.startswith(("| `agent.n_step`", "## ")) else 0
    assert old in text[start:]
    page = read(text[:start] + text[start:].replace(old, new, 1))
    assert any(message in problem for problem in problems(page, values))
