"""Signals that save a training, and those that end it after it was saved."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

_END = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)
_SAVE = (signal.SIGUSR1,)


class Interrupt:
    """Turns signals into flags that the training looks at between two steps.

    SIGINT, SIGTERM, SIGHUP and SIGUSR2 ask it to save and end; a second SIGINT or SIGTERM ends the
    process at once. SIGUSR1 asks it to save and go on. A SIGHUP that was ignored before, as under
    `nohup`, stays ignored. Only the main thread of a program can handle signals: a training in
    another thread runs without.
    """

    def __init__(self) -> None:
        self.requested = False
        """Whether the training is asked to end."""
        self._save = False
        self._before: dict[signal.Signals, Any] = {}

    def take_save_request(self) -> bool:
        """Whether a checkpoint was asked for since the last call."""
        asked, self._save = self._save, False
        return asked

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in (*_END, *_SAVE):
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        if number in _SAVE:
            self._save = True
            return
        self.requested = True
        # Not what was there before: a shell's background jobs begin with SIGINT ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
