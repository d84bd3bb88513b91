from __future__ import annotations

import pytest
import torch

from atari_fast.infra.manifest import library_versions
from atari_fast.runtime.conditions import changes, conditions
from atari_fast.runtime.device import Autocast

NOW = conditions(torch.device("cpu"), Autocast(torch.device("cpu"), "bf16"), 3)


def test_conditions_are_resolved():
    now = conditions(torch.device("cpu"), Autocast(torch.device("cpu"), "bf16"), 3)
    assert now["device"].startswith("cpu (")
    assert now["precision"] == "bf16"
    assert now["threads"] == "3"


def test_changes_are_none_where_all_is_the_same_or_unknown():
    assert changes(library_versions(), NOW, NOW) == []
    assert changes({}, {}, NOW) == []
    assert changes({"python": "3.1", "other": "1"}, {"other": "1"}, NOW) == []


@pytest.mark.parametrize("name", ["atari_fast", "ale_py", "torch"])
def test_changes_name_a_library(name):
    (change,) = changes({**library_versions(), name: "0.0.1"}, NOW, NOW)
    assert change.startswith(f"{name} was 0.0.1 and is {library_versions()[name]}, so")


@pytest.mark.parametrize(
    ("name", "before"), [("device", "cuda (A GPU)"), ("precision", "fp32"), ("threads", "0")]
)
def test_changes_name_what_computes(name, before):
    (change,) = changes(library_versions(), {**NOW, name: before}, NOW)
    assert change.startswith(f"{name} was {before} and is {NOW[name]}, so")
