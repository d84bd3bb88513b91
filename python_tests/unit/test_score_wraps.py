"""The counter of a game passes its end: its digits are written to the console's memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from atari_fast.config import EnvConfig
from atari_fast.envs.atari_env import AtariEnv
from atari_fast.games import GAMES, SCORE_WRAPS
from atari_fast.seeding import stream

Digits = dict[int, int]
Result = tuple[float, float, float]


def _bcd(*addresses: int) -> Digits:
    """Two nines in each byte."""
    return dict.fromkeys(addresses, 0x99)


# fmt: off
NINES: dict[str, Digits] = {
    "alien": dict.fromkeys((3, 5, 7, 9, 11), 72),
    "amidar": _bcd(89, 90, 91), "asteroids": _bcd(61, 62), "asterix": _bcd(94, 95) | {96: 0x90},
    "assault": _bcd(0, 1, 2), "atlantis": _bcd(33, 34, 35), "bank_heist": _bcd(88, 89) | {90: 0x90},
    "battle_zone": {29: 0x90, 30: 0x99}, "beam_rider": _bcd(9, 10, 11),
    "berzerk": _bcd(93, 94) | {95: 0x90}, "breakout": {76: 9, 77: 0x99},
    "centipede": _bcd(116, 117) | {118: 0x90}, "chopper_command": _bcd(108, 110),
    "crazy_climber": dict.fromkeys((2, 3, 4, 5), 9),
    "defender": dict.fromkeys((29, 30, 31, 32, 33), 9), "demon_attack": _bcd(1, 3) | {5: 0x90},
    "frostbite": _bcd(72, 73) | {74: 0x90}, "gopher": _bcd(48, 49) | {50: 0x90},
    "gravitar": _bcd(7, 8) | {9: 0x90}, "hero": _bcd(55, 56) | {57: 0x90},
    "jamesbond": _bcd(93, 94) | {92: 0x90}, "kangaroo": _bcd(39, 40),
    "krull": _bcd(28, 29) | {30: 0x90}, "kung_fu_master": _bcd(24, 25) | {26: 0x90},
    "ms_pacman": _bcd(121, 122) | {120: 0x90}, "name_this_game": _bcd(68, 69) | {70: 0x90},
    "phoenix": _bcd(72, 73), "qbert": _bcd(89, 90) | {91: 0x90},
    "riverraid": dict.fromkeys((77, 79, 81, 83, 85), 72), "robotank": {53: 0, 54: 8},
    "road_runner": dict.fromkeys((73, 74, 75, 76), 9), "seaquest": _bcd(56, 57) | {58: 0x90},
    "solaris": _bcd(92, 93, 94), "space_invaders": _bcd(102, 104),
    "star_gunner": dict.fromkeys((3, 4, 5, 6), 9), "time_pilot": _bcd(13, 15),
    "tutankham": {26: 0x99, 28: 0x90}, "up_n_down": _bcd(0, 1) | {2: 0x90},
    "video_pinball": _bcd(50, 52) | {48: 0x90}, "wizard_of_wor": {6: 0x99, 8: 0x19},
    "yars_revenge": _bcd(96, 97) | {98: 0x90}, "zaxxon": _bcd(104, 105),
}
# fmt: on
"""Bytes of the console's memory that hold a counter, and what they hold near its end."""

SEEDS = {
    "beam_rider": 1, "gopher": 36, "gravitar": 3, "jamesbond": 4, "kangaroo": 7,
    "name_this_game": 9, "qbert": 2, "seaquest": 1, "solaris": 9, "tutankham": 4,
    "yars_revenge": 1, "zaxxon": 18,
}  # fmt: skip
"""Seeds with which random play soon scores, 0 for the others; more are tried where none does."""

UNSEEN = {"montezuma_revenge", "venture"}
"""Games in which random play does not score."""
STOPS = {
    "assault", "beam_rider", "centipede", "chopper_command", "crazy_climber", "robotank", "seaquest"
}  # fmt: skip
"""Games whose counter stops at its end."""
EMULATOR = {"asteroids", "space_invaders"}
"""Games of which the emulator itself puts the reward right."""
LOSSES = {
    "boxing", "double_dunk", "fishing_derby", "ice_hockey", "pitfall", "pong", "private_eye",
    "skiing", "surround", "tennis",
}  # fmt: skip
"""Games in which rewards below 0 are real."""
OUT_OF_REACH = {"bowling", "enduro", "freeway"}
"""Games in which no play gets to the end of the counter."""


class Pair:
    """A game whose counter is near its end beside the same one that was left alone."""

    def __init__(self, game: str, seed: int):
        config = EnvConfig(protocol="machado")
        self.env, self.reference = (AtariEnv(game, config, stream(seed, game)) for _ in range(2))
        self._out = np.zeros((84, 84), np.uint8)
        self._rng = np.random.default_rng(seed)
        self._action = 0
        for _ in range(30):
            self.step()
        for address, value in NINES[game].items():
            self.env._ale.setRAM(address, value)
        self.env._ale.act(0)  # takes the leap
        self.reference._ale.act(0)
        self.raw = 0
        act = self.env._act

        def watched(code: int) -> int:
            reward: int = act(code)
            self.raw += reward
            return reward

        self.env._act = watched

    def step(self) -> tuple[float, float, bool]:
        """Plays a step of both; returns the rewards, and whether the game goes on."""
        self.raw = 0
        if self._rng.random() < 0.3:
            self._action = int(self._rng.integers(self.env.spec.num_actions))
        reward, flags = self.env.step(self._action, self._out)
        other, more = self.reference.step(self._action, self._out)
        return reward, other, not (flags | more) & ~1


def _pass_the_end(game: str, seed: int) -> Result | None:
    """Returns the wrapped reward, and what both won, from the poke until just after the wrap."""
    pair = Pair(game, seed)
    total = others = 0.0
    for _ in range(1_500):
        reward, other, goes_on = pair.step()
        total, others, raw = total + reward, others + other, pair.raw
        if abs(raw) > SCORE_WRAPS[game] / 2:
            for _ in range(2):  # it may count a frame earlier or later than the other
                if goes_on:
                    reward, other, goes_on = pair.step()
                    total, others = total + reward, others + other
            return raw, total, others
        if not goes_on:
            return None
    return None


def test_every_game_is_of_one_kind() -> None:
    kinds = [set(SCORE_WRAPS), STOPS, EMULATOR, LOSSES, OUT_OF_REACH]
    assert sum(map(len, kinds)) == 57
    assert set().union(*kinds) == set(GAMES)
    assert set(NINES) == (set(SCORE_WRAPS) - UNSEEN) | STOPS | EMULATOR


def _results(game: str, pass_it: Callable[[str, int], Result | None]) -> Result:
    """Returns the first result of some seeds."""
    for seed in (SEEDS.get(game, 0), *range(40)):
        if (result := pass_it(game, seed)) is not None:
            return result
    raise AssertionError(f"random play does not score in {game}")


@pytest.mark.parametrize("game", sorted(set(SCORE_WRAPS) - UNSEEN))
def test_a_reward_that_passes_the_end_of_the_counter_is_put_right(game: str) -> None:
    raw, total, others = _results(game, _pass_the_end)
    assert abs(raw) > SCORE_WRAPS[game] / 2
    assert total > 0
    if game in {"defender", "hero", "kung_fu_master", "riverraid"}:  # digits are lost
        assert abs(total - others) <= 150
    else:
        assert total == others


def _arrive(game: str, seed: int) -> Result | None:
    """Returns the smallest reward, and what both won, when the other has won what does not fit."""
    pair = Pair(game, seed)
    least = total = others = 0.0
    for _ in range(1_000):
        reward, other, goes_on = pair.step()
        least, total, others = min(least, reward), total + reward, others + other
        if others > total:
            return least, total, others
        if not goes_on:
            return None
    return None


@pytest.mark.parametrize("game", sorted(STOPS))
def test_a_counter_that_stops_at_its_end_gives_no_reward_beyond(game: str) -> None:
    least, total, others = _results(game, _arrive)
    assert least == 0
    assert 0 <= total < others


@pytest.mark.parametrize("game", sorted(EMULATOR))
def test_the_emulator_puts_two_games_right(game: str) -> None:
    pair = Pair(game, 0)
    before = [pair.env._ale.getRAM()[address] for address in NINES[game]]
    total = others = 0.0
    for _ in range(100):
        reward, other, _ = pair.step()
        assert reward >= 0
        total, others = total + reward, others + other
    assert total == others > 0
    after = [pair.env._ale.getRAM()[address] for address in NINES[game]]
    assert max(after) < 0x99 == max(before)  # it passed its end
