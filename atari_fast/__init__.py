"""Value-based Atari agents on one machine, at the speed of its hardware."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import PathFinder
from pathlib import Path


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
