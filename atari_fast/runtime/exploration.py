"""Which rooms and positions the games of a run have come to, for reports; no agent sees it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from atari_fast.games import canonical_name
from atari_fast.places import PLACE_ADDRESSES, room_of
from atari_fast.types import Episode


class ExplorationRecord:
    """The distinct places of E environments, and the most rooms of one game.

    Places are those after each agent step; what lies between two steps is not counted.
    """

    def __init__(self, num_envs: int) -> None:
        self.places: set[int] = set()
        """Packed as `PlaceAddresses.pack`."""
        self._rooms: set[int] = set()
        self._rooms_of_game: list[set[int]] = [set() for _ in range(num_envs)]
        self._episode_max = 0
        self._logged_frames = self._logged_positions = 0

    @staticmethod
    def of_game(game: str, num_envs: int) -> ExplorationRecord | None:
        """Returns a new record, or None for games without addresses."""
        return ExplorationRecord(num_envs) if canonical_name(game) in PLACE_ADDRESSES else None

    def add(self, places: NDArray[np.int64], finished: Iterable[Episode]) -> None:
        """Takes in one step of all environments.

        Args:
            places: int64[E]; -1 where an environment is not counted.
            finished: games that ended with the step.
        """
        for rooms, place in zip(self._rooms_of_game, places.tolist(), strict=True):
            if place >= 0:
                self.places.add(place)
                rooms.add(room_of(place))
                self._episode_max = max(self._episode_max, len(rooms))
        self._rooms.update(*self._rooms_of_game)
        for episode in finished:
            self._rooms_of_game[episode.env].clear()

    def counts(self) -> dict[str, int]:
        """Distinct rooms and positions so far, and the most rooms of one game."""
        return {
            "rooms": len(self._rooms),
            "positions": len(self.places),
            "rooms_episode_max": self._episode_max,
        }

    def take_metrics(self, frames: int) -> dict[str, float]:
        """Returns metrics by name after `frames` frames; the rate is that since the last call."""
        new, passed = len(self.places) - self._logged_positions, frames - self._logged_frames
        self._logged_frames, self._logged_positions = frames, len(self.places)
        return {
            **{f"explore/{name}": float(count) for name, count in self.counts().items()},
            "explore/new_positions_per_mframe": 1e6 * new / max(passed, 1),
        }

    def state(self, games_lost: bool = False) -> dict[str, Any]:
        """All of it; with `games_lost`, new games begin after `load_state`."""
        games = [[] if games_lost else sorted(rooms) for rooms in self._rooms_of_game]
        return {
            "places": torch.tensor(sorted(self.places), dtype=torch.int64),
            "rooms_of_game": games,
            "episode_max": self._episode_max,
            "logged": [self._logged_frames, self._logged_positions],
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from `state`; raises ValueError where it is of other environments."""
        self.places = set(state["places"].tolist())
        self._rooms = {room_of(place) for place in self.places}
        pairs = zip(self._rooms_of_game, state["rooms_of_game"], strict=True)
        self._rooms_of_game = [set(map(int, rooms)) for _, rooms in pairs]
        self._episode_max = int(state["episode_max"])
        self._logged_frames, self._logged_positions = map(int, state["logged"])
