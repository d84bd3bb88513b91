from __future__ import annotations

import numpy as np

from atari_fast.seeding import child, stream, to_int


def _draw(sequence: np.random.SeedSequence) -> list[int]:
    return np.random.default_rng(sequence).integers(1 << 30, size=4).tolist()


def test_streams_depend_on_seed_and_name_not_on_order() -> None:
    first = {name: _draw(stream(5, name)) for name in ("env", "replay", "policy")}
    again = {name: _draw(stream(5, name)) for name in ("policy", "env", "replay")}
    assert first == again
    assert len({tuple(draw) for draw in first.values()}) == 3
    assert _draw(stream(6, "env")) != first["env"]


def test_streams_are_fixed_for_ever() -> None:
    # A change here would change every run that is reproduced from its seed.
    assert to_int(stream(1, "env")) == 5469357486647785539


def test_children_are_distinct_and_leave_their_parent_alone() -> None:
    parent = stream(1, "env")
    before = _draw(parent)
    draws = [_draw(child(parent, env)) for env in range(200)]
    assert _draw(parent) == before
    assert len({tuple(draw) for draw in draws}) == 200
    assert _draw(child(parent, 7)) == draws[7]
    assert _draw(child(parent, "7")) != draws[7]
    assert _draw(child(child(parent, "a"), "b")) != _draw(child(child(parent, "b"), "a"))


def test_integers_fit_their_bits() -> None:
    for bits in (1, 31, 63, 64):
        values = [to_int(stream(seed, "x"), bits) for seed in range(50)]
        assert all(0 <= value < 1 << bits for value in values)
        assert max(values) >= 1 << (bits - 1)
