"""`python -m atari_fast.plot curves RUN [RUN ...]`: pictures of runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from atari_fast.errors import ConfigError
from atari_fast.infra.cli import parse_options, run_cli


@dataclass(frozen=True)
class Options:
    """Draw the learning curves of one or more runs, as a PNG and a CSV file."""

    kind: Annotated[Literal["curves"], tyro.conf.Positional] = "curves"
    """What to draw: curves (scores against frames and time)."""
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Run directories."""
    out: str = ""
    """PNG file; empty: plots/curves.png in the first run directory. The CSV goes beside it."""


def main(argv: Sequence[str]) -> int:
    """Draws as the command line says; returns the exit code."""
    options = parse_options(argv, Options(), "python -m atari_fast.plot")
    if not options.runs:
        raise ConfigError("runs: expected at least one run directory, got none")
    from atari_fast.infra.plots import plot_curves

    out = Path(options.out) if options.out else options.runs[0] / "plots" / "curves.png"
    plot_curves(options.runs, out)
    print(out)
    return 0


if __name__ == "__main__":
    run_cli(main)
