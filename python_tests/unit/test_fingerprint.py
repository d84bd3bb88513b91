from __future__ import annotations

import pytest
import torch

from atari_fast.errors import CheckpointError
from atari_fast.infra.manifest import library_versions
from atari_fast.runtime.device import Autocast
from atari_fast.runtime.fingerprint import changes, fingerprint, saved_threads

NOW = fingerprint(torch.device("cpu"), Autocast(torch.device("cpu"), "bf16"), 3)


def test_the_fingerprint_is_resolved():
    now = fingerprint(torch.device("cpu"), Autocast(torch.device("cpu"), "bf16"), 3)
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


def test_saved_threads_are_those_of_the_checkpoint_or_none():
    assert saved_threads({}) == 0
    assert saved_threads({"run": {}}) == 0
    assert saved_threads({"run": {"conditions": {"threads": "3"}}}) == 3


FORGED = [None, [], {"threads": "x"}, {"threads": "-5"}, {"threads": 2}, {"threads": "99999"}]


@pytest.mark.parametrize("before", FORGED)
def test_forged_threads_are_a_damaged_checkpoint(before):
    with pytest.raises(CheckpointError, match=r"damaged: conditions\.threads"):
        saved_threads({"run": {"conditions": before}})
