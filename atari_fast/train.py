"""`python -m atari_fast.train [PRESET] [--field value ...]`: trains an agent."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from atari_fast.config_io import validate
from atari_fast.errors import AtariFastError
from atari_fast.infra.cli import INTERRUPTED, parse_config, run_cli
from atari_fast.presets import DEFAULT_PRESET, PRESETS


def main(argv: Sequence[str]) -> int:
    """Trains; returns the exit code, 130 after an interrupt that was saved."""
    config = parse_config(argv, PRESETS, DEFAULT_PRESET, "python -m atari_fast.train")
    validate(config)
    from atari_fast.runtime.session import Session  # late: torch takes a second to import

    session = Session(config)
    if not session.run():
        return INTERRUPTED
    if config.run.finish:
        from atari_fast.runtime.finish import finish

        try:
            finish(session.directory, session.device)
        except AtariFastError as error:
            warnings.warn(f"the run is saved, but not all of its pictures: {error}", stacklevel=1)
    return 0


if __name__ == "__main__":
    run_cli(main)
