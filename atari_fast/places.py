"""Where the player is, in the five games of hard exploration, from the console's memory.

Reports and plots use it. No observation, reward, network or replay does.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class PlaceAddresses(NamedTuple):
    """Addresses of the player's position in the 128 bytes of RAM, counted from 0."""

    room: int
    x: int
    y: int
    level: int | None = None
    """None: the game has one level, or numbers its rooms without it."""
    y_up: bool = True
    """Whether y grows upwards on the screen."""

    def pack(self, ram: NDArray[np.uint8]) -> int:
        """Returns level << 24 | room << 16 | x << 8 | y of a memory uint8[128]."""
        level = 0 if self.level is None else int(ram[self.level])
        return level << 24 | int(ram[self.room]) << 16 | int(ram[self.x]) << 8 | int(ram[self.y])


# Source: the RAM annotations of mila-iqia/atari-representation-learning (MIT; Anand et al. 2019,
# arXiv 1906.08226), atariari/benchmark/ram_annotations.py. By observation with ale-py 0.12: the
# directions of y, and pitfall's address 1, which takes a new value on each screen.
PLACE_ADDRESSES: dict[str, PlaceAddresses] = {
    "hero": PlaceAddresses(28, 27, 31, level=117),
    "montezuma_revenge": PlaceAddresses(3, 42, 43, level=57),
    "pitfall": PlaceAddresses(1, 97, 105, y_up=False),
    "private_eye": PlaceAddresses(92, 63, 86),
    "venture": PlaceAddresses(90, 85, 26, y_up=False),
}
"""Addresses by the game's snake_case name; other games have none.

The bytes are those of the game's program: they also change where the player is moved, dies or
appears anew (in pitfall, y then runs through all values), so numbers of positions compare runs of
one game and are no measure of area."""


def room_of(place: int) -> int:
    """Returns level << 8 | room of a packed place: rooms of two levels are different rooms."""
    return place >> 16


def unpack(places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns level, room, x and y of packed places int64[N]: int64[N, 4]."""
    fields: NDArray[np.int64] = places[:, None] >> np.array([24, 16, 8, 0]) & 255
    return fields
