"""The 57 games of the Atari benchmark, their names and their reference scores."""

from __future__ import annotations

import difflib
import re
from typing import NamedTuple

from atari_fast.errors import EnvError


class GameScores(NamedTuple):
    """Mean scores of a game, in raw undiscounted reward (the tables of dqn_zoo and Agent57)."""

    random: float
    """Score of uniformly random actions."""
    human: float
    """Score of the human tester of Mnih 2015."""


GAMES: dict[str, GameScores] = {
    "alien": GameScores(227.8, 7127.7),
    "amidar": GameScores(5.8, 1719.5),
    "assault": GameScores(222.4, 742.0),
    "asterix": GameScores(210.0, 8503.3),
    "asteroids": GameScores(719.1, 47388.7),
    "atlantis": GameScores(12850.0, 29028.1),
    "bank_heist": GameScores(14.2, 753.1),
    "battle_zone": GameScores(2360.0, 37187.5),
    "beam_rider": GameScores(363.9, 16926.5),
    "berzerk": GameScores(123.7, 2630.4),
    "bowling": GameScores(23.1, 160.7),
    "boxing": GameScores(0.1, 12.1),
    "breakout": GameScores(1.7, 30.5),
    "centipede": GameScores(2090.9, 12017.0),
    "chopper_command": GameScores(811.0, 7387.8),
    "crazy_climber": GameScores(10780.5, 35829.4),
    "defender": GameScores(2874.5, 18688.9),
    "demon_attack": GameScores(152.1, 1971.0),
    "double_dunk": GameScores(-18.6, -16.4),
    "enduro": GameScores(0.0, 860.5),
    "fishing_derby": GameScores(-91.7, -38.7),
    "freeway": GameScores(0.0, 29.6),
    "frostbite": GameScores(65.2, 4334.7),
    "gopher": GameScores(257.6, 2412.5),
    "gravitar": GameScores(173.0, 3351.4),
    "hero": GameScores(1027.0, 30826.4),
    "ice_hockey": GameScores(-11.2, 0.9),
    "jamesbond": GameScores(29.0, 302.8),
    "kangaroo": GameScores(52.0, 3035.0),
    "krull": GameScores(1598.0, 2665.5),
    "kung_fu_master": GameScores(258.5, 22736.3),
    "montezuma_revenge": GameScores(0.0, 4753.3),
    "ms_pacman": GameScores(307.3, 6951.6),
    "name_this_game": GameScores(2292.3, 8049.0),
    "phoenix": GameScores(761.4, 7242.6),
    "pitfall": GameScores(-229.4, 6463.7),
    "pong": GameScores(-20.7, 14.6),
    "private_eye": GameScores(24.9, 69571.3),
    "qbert": GameScores(163.9, 13455.0),
    "riverraid": GameScores(1338.5, 17118.0),
    "road_runner": GameScores(11.5, 7845.0),
    "robotank": GameScores(2.2, 11.9),
    "seaquest": GameScores(68.4, 42054.7),
    "skiing": GameScores(-17098.1, -4336.9),
    "solaris": GameScores(1236.3, 12326.7),
    "space_invaders": GameScores(148.0, 1668.7),
    "star_gunner": GameScores(664.0, 10250.0),
    "surround": GameScores(-10.0, 6.5),
    "tennis": GameScores(-23.8, -8.3),
    "time_pilot": GameScores(3568.0, 5229.2),
    "tutankham": GameScores(11.4, 167.6),
    "up_n_down": GameScores(533.4, 11693.2),
    "venture": GameScores(0.0, 1187.5),
    "video_pinball": GameScores(16256.9, 17667.9),
    "wizard_of_wor": GameScores(563.5, 4756.5),
    "yars_revenge": GameScores(3092.9, 54576.9),
    "zaxxon": GameScores(32.5, 9173.3),
}
"""Scores of the 57 games by snake_case name."""

_MILLIONS = """
    alien amidar asterix bank_heist battle_zone berzerk defender demon_attack frostbite gopher
    gravitar jamesbond kangaroo krull montezuma_revenge ms_pacman name_this_game phoenix qbert
    riverraid road_runner star_gunner time_pilot up_n_down venture video_pinball yars_revenge zaxxon
"""

SCORE_WRAPS: dict[str, int] = {
    **dict.fromkeys(_MILLIONS.split(), 1_000_000),
    "atlantis": 100_000_000,
    "breakout": 1_000,
    "hero": 222_221,
    "kung_fu_master": 666_665,
    "solaris": 10_000_000,
    "tutankham": 10_000,
    "wizard_of_wor": 200_000,
}
"""By how much the reward is wrong when a game's counter passes its end; `AtariEnv` corrects it.

The emulator reports the difference of two readings of the counter: -999,900 where the last 100
points turn 999,900 into 0. In hero and kung_fu_master the counter then shows signs that read as
1,222,221 and 1,666,665, so there the reward is too large by these numbers, and the counter stays
there; riverraid shows such signs too, and ends. In defender the last digits are lost, up to 150
points.

Each number was found in the emulator (ale-py 0.12): digits in the memory of the console, known by
what writing to them does to the reward, were set to nines, and the game was played on beside one
that was left alone; `test_score_wraps.py` does so again. In montezuma_revenge and venture random
play scores nothing, so there only the number of digits is known.

The other games need none. The emulator itself puts asteroids (100,000) and space_invaders (10,000)
right. In assault, beam_rider, centipede, chopper_command, crazy_climber, robotank and seaquest the
counter stops at its end. In bowling, enduro and freeway no play gets there. Rewards below 0 are
real in boxing, double_dunk, fishing_derby, ice_hockey, pitfall, pong, private_eye, skiing, surround
and tennis, none of which gets there either.
"""

TOYS: tuple[str, ...] = ("catch", "chain", "t_maze", "recall", "noisy_corridor")
"""Tiny games for tests, which need no emulator."""


def _key(text: str) -> str:
    return re.sub("[^a-z0-9]", "", text.lower())


_NAMES = {_key(name): name for name in (*GAMES, *TOYS)}


def canonical_name(text: str) -> str:
    """Returns the snake_case name of a game.

    Args:
        text: `ms_pacman`, `MsPacman`, `ALE/MsPacman-v5`, `MsPacmanNoFrameskip-v4` and the like.

    Raises:
        EnvError: No such game among the 57 and the toys; the message has the nearest names.
    """
    stem = re.sub(r"^ALE/", "", text.strip(), flags=re.IGNORECASE)
    stem = re.sub(r"-v\d+$", "", stem)
    key = _key(re.sub(r"(NoFrameskip|Deterministic)$", "", stem))
    if key in _NAMES:
        return _NAMES[key]
    near = [_NAMES[k] for k in difflib.get_close_matches(key, _NAMES, n=3, cutoff=0.5)]
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise EnvError(
        f"game: got {text!r}, expected one of the {len(GAMES)} games, for example ms_pacman, or a "
        f"toy ({', '.join(TOYS)}){hint}"
    )


def human_normalized(game: str, score: float) -> float:
    """Returns (score - random) / (human - random): 0 is random play, 1 the human tester.

    Args:
        game: Name of one of the 57 games, in any spelling of `canonical_name`.
        score: Raw undiscounted return of an episode.

    Raises:
        EnvError: The game is unknown or a toy, which has no human score.
    """
    name = canonical_name(game)
    if name not in GAMES:
        raise EnvError(f"game: got {name}, which has no human score; expected one of the 57 games")
    scores = GAMES[name]
    return (score - scores.random) / (scores.human - scores.random)
