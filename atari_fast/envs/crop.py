"""The part of a screen in which the game is played, at 80x80: the frames of A3C-LSTM.

Source: the crop table of dgriff777/rl_a3c_pytorch, which has eleven games; others are cut as Pong
is. That program takes the maximum of three colour screens; here it is that of the last two screens
in gray, as in all other frames of this package.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from atari_fast.envs import palette

_SIDE = 80
CROPPED_SHAPE = (_SIDE, _SIDE)
"""Height and width of a cropped frame."""

_DEFAULT_ROWS = (34, 194)
CROPPED_ROWS = {
    "asteroids": (16, 194),
    "beam_rider": (20, 180),
    "boxing": (30, 190),
    "breakout": (34, 194),
    "centipede": (36, 210),
    "ms_pacman": (2, 170),
    "pong": (34, 194),
    "qbert": (12, 200),
    "seaquest": (30, 190),
    "space_invaders": (8, 196),
    "video_pinball": (42, 210),
}
"""First row and end of the rows of the 210x160 screen that are kept, all 160 columns."""


class Crop(NamedTuple):
    """Rows [top, bottom) of a screen, resized to 80x80 by the mean over areas."""

    top: int
    bottom: int

    @classmethod
    def of_game(cls, game: str) -> Crop:
        """The rows of a game in snake_case."""
        return cls(*CROPPED_ROWS.get(game, _DEFAULT_ROWS))

    def __call__(self, screens: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
        """Writes the frame of two screens.

        Row r of the frame is the mean over rows [r h / 80, (r + 1) h / 80) of the h rows that are
        kept, and over two columns, rounded half up. It is computed in whole numbers, so that all
        processors agree.

        Args:
            screens: uint8[2, 210, 160], palette indices.
            out: uint8[80, 80], overwritten.
        """
        gray = palette.LUMA[screens[:, self.top : self.bottom]].max(axis=0).astype(np.int32)
        pairs = gray[:, ::2] + gray[:, 1::2]
        rows = len(pairs)
        above = np.zeros((rows + 1, _SIDE), np.int32)  # sums of the rows above each row
        np.cumsum(pairs, axis=0, out=above[1:])
        whole, part = np.divmod(np.arange(_SIDE + 1) * rows, _SIDE)
        fraction = part[:, None].astype(np.int32)
        sums = _SIDE * above[whole] + fraction * pairs[np.minimum(whole, rows - 1)]
        out[...] = (np.diff(sums, axis=0) + rows) // (2 * rows)
