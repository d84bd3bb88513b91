"""Every field of the configuration does in a run what its documentation says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import effects_agent
import effects_learning
import effects_run
from field_runs import EFFECTS, Player, fields

MODULES = (effects_agent, effects_learning, effects_run)
"""They enter their checks into the table when they are imported."""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_every_field_has_a_check() -> None:
    assert sorted(EFFECTS) == sorted(fields())


@pytest.mark.parametrize("check", dict.fromkeys(EFFECTS.values()), ids=lambda f: f.__name__)
def test_fields_do_what_they_say(
    check: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    player = Player(tmp_path, monkeypatch)
    try:
        check(player)
    finally:
        player.close()


@pytest.mark.slow
@pytest.mark.parametrize("path", EFFECTS)
def test_a_check_fails_where_its_field_is_ignored(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    player = Player(tmp_path, monkeypatch, ignored=path)
    try:
        EFFECTS[path](player)
    except (Exception, pytest.fail.Exception):  # an assertion, or what such a run leads to
        return
    finally:
        player.close()
    pytest.fail(f"nothing shows whether {path} has the value that was asked for")
