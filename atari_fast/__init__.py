"""Atari agents on one machine, at the speed of its hardware.

`train(config)` trains an agent, `load_agent(path)` loads one, `__version__` is the version.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atari_fast.runtime.player import load_agent

    __version__: str

__all__ = ["__version__", "load_agent", "train"]


def _use_installed_package() -> None:
    """Take the installed package: in a clone, `python -m` finds this uncompiled folder first."""
    here = Path(__file__).resolve().parent
    elsewhere = [entry for entry in sys.path if Path(entry or ".").resolve() != here.parent]
    installed = PathFinder.find_spec(__name__, elsewhere)
    if installed is None or installed.submodule_search_locations is None:
        raise ImportError("atari_fast: the compiled core is missing; run `pip install .` first")
    __path__[:] = installed.submodule_search_locations


if importlib.util.find_spec(f"{__name__}._core") is None:
    _use_installed_package()


def __getattr__(name: str) -> Any:
    """Imports what is public when it is asked for: torch takes a second."""
    if name == "__version__":
        from importlib.metadata import version

        return version(__name__)
    if name == "load_agent":
        return importlib.import_module("atari_fast.runtime.player").load_agent
    if name == "train":
        return importlib.import_module("atari_fast.train")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
