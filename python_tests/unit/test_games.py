from __future__ import annotations

import pytest

from atari_fast.errors import EnvError
from atari_fast.games import GAMES, TOYS, canonical_name, human_normalized


def test_there_are_57_games_and_their_names_are_canonical() -> None:
    assert len(GAMES) == 57
    for name in (*GAMES, *TOYS):
        assert canonical_name(name) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("MsPacman", "ms_pacman"),
        ("ALE/MsPacman-v5", "ms_pacman"),
        ("MsPacmanNoFrameskip-v4", "ms_pacman"),
        ("MsPacmanDeterministic-v0", "ms_pacman"),
        ("ms-pacman", "ms_pacman"),
        (" Pong ", "pong"),
        ("PONG", "pong"),
        ("Hero", "hero"),
        ("JamesBond", "jamesbond"),
        ("ALE/YarsRevenge-v5", "yars_revenge"),
        ("UpNDown", "up_n_down"),
        ("Catch", "catch"),
    ],
)
def test_spellings(text: str, name: str) -> None:
    assert canonical_name(text) == name


@pytest.mark.parametrize(
    ("text", "near"), [("breakut", "breakout"), ("montezuma", "montezuma_revenge"), ("png", "pong")]
)
def test_unknown_game_names_the_nearest(text: str, near: str) -> None:
    with pytest.raises(EnvError, match=f"got '{text}'.*did you mean .*{near}"):
        canonical_name(text)


@pytest.mark.parametrize("text", ["", "Pong-ram-v5", "x" * 300, "pong2", "tetris"])
def test_no_such_game(text: str) -> None:
    with pytest.raises(EnvError, match="expected one of the 57 games"):
        canonical_name(text)


@pytest.mark.parametrize(
    ("game", "score", "expected"),
    [
        ("pong", 21.0, 41.7 / 35.3),
        ("breakout", 30.5, 1.0),
        ("skiing", -4336.9, 1.0),
        ("skiing", -17098.1, 0.0),
        ("montezuma_revenge", 4753.3, 1.0),
        ("pitfall", 0.0, 0.034274),
        ("ALE/DoubleDunk-v5", -16.4, 1.0),
        ("private_eye", 24.9, 0.0),
        ("video_pinball", 16256.9, 0.0),
    ],
)
def test_human_normalized_score(game: str, score: float, expected: float) -> None:
    assert human_normalized(game, score) == pytest.approx(expected, rel=1e-4, abs=1e-9)


def test_a_toy_has_no_human_score() -> None:
    with pytest.raises(EnvError, match="no human score"):
        human_normalized("catch", 1.0)
