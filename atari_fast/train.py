"""`python -m atari_fast.train [PRESET | --resume RUN] [--field value ...]`: trains an agent."""

from __future__ import annotations

import dataclasses
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from atari_fast.config import DqnFamilyConfig, HogwildConfig, with_algorithm
from atari_fast.config_io import from_json, from_record, validate
from atari_fast.errors import ConfigError, WorkerError
from atari_fast.games import TOYS, canonical_name
from atari_fast.infra.cli import INTERRUPTED, parse_config, parse_options, run_cli, take_option
from atari_fast.infra.console import warn
from atari_fast.infra.cpu import available_cores
from atari_fast.presets import DEFAULT_PRESET, PRESETS

if TYPE_CHECKING:
    from atari_fast.config import Config
    from atari_fast.runtime.trainer import Trainer

_FEW_ENVS = 4
_PROG = "python -m atari_fast.train"
_CHANGEABLE = (
    "total_frames", "device", "threads", "overlap", "env.num_workers", "env.worker_timeout",
    "replay.threads", "run.log_period", "run.checkpoint_period", "run.replay_period",
    "run.eval_period", "run.eval_episodes", "run.eval_epsilon", "run.tensorboard", "run.finish",
)  # fmt: skip
"""Settings that a resumed run may change: how it is run and watched, and how long."""


def main(argv: Sequence[str]) -> int:
    """Trains; returns the exit code, 130 after an interrupt that was saved."""
    runs, rest = take_option(argv, "--resume", "a run directory")
    trainer = _resume(runs, rest) if runs else _begin(rest)
    if not trainer.run():
        return INTERRUPTED
    if trainer.config.run.finish:
        _finish(trainer)
    return 0


class TrainingResult(NamedTuple):
    """What `atari_fast.train` leaves."""

    directory: Path
    """The run directory."""
    finished: bool
    """Whether all frames were played; False after a signal, when everything was saved."""
    best_score: float
    """Mean raw score of the best evaluation; minus infinity where there was none."""


class _CallableModule(types.ModuleType):
    """This module: `atari_fast.train` is the command and a function of Python programs."""

    def __call__(self, config: Config) -> TrainingResult:
        """Trains an agent, as `python -m atari_fast.train` does, and returns when it is trained.

        Args:
            config: the settings, such as `atari_fast.presets.PRESETS["pong"]()`. With
                `env.num_workers` the program needs `if __name__ == "__main__":` around this call.

        Raises:
            AtariFastError: as a sentence of the command would say: bad settings (ConfigError), no
                memory, a dead worker, values that are not finite, no room for the last checkpoint.
        """
        validate(config)
        import torch

        threads = torch.get_num_threads()
        try:
            trainer = _trainer(config)
            finished = trainer.run()
            if finished and config.run.finish:
                _finish(trainer)
        finally:
            torch.set_num_threads(threads)  # those of a training are its own
        return TrainingResult(trainer.directory, finished, trainer.best)


def _begin(argv: Sequence[str]) -> Trainer:
    """A new run."""
    config = parse_config(argv, PRESETS, DEFAULT_PRESET, _PROG, _with_algorithm)
    validate(config)
    chosen = _with_workers(config)
    try:
        return _trainer(chosen)
    except WorkerError as error:
        if chosen is config:
            raise
        warn(f"{error}; the environments run without worker processes")  # nobody asked for them
        return _trainer(config)


def _with_algorithm(config: Config, argv: Sequence[str]) -> Config:
    """The settings for the algorithm that arguments name, which decides what settings there are."""
    names, _ = take_option(argv, "--agent.algorithm", "the name of an algorithm")
    if not names or not isinstance(config, DqnFamilyConfig):
        return config
    return with_algorithm(config, names[-1])


def _trainer(config: Config) -> Trainer:
    from atari_fast.runtime.trainer import Trainer  # late: torch takes a second to import

    return Trainer(config)


def _finish(trainer: Trainer) -> None:
    from atari_fast.runtime.finish import finish

    finish(trainer.directory, trainer.device)


def _with_workers(config: Config) -> Config:
    """The settings with a number of worker processes, where they leave it open.

    One for each two cores, or on CUDA for all cores but two, which launch kernels and draw batches;
    one for each core where playing and learning take turns. Fewer where there are few environments:
    a step of a few environments, or of a toy, takes less time than asking another process for it.
    """
    env = config.env
    if env.num_workers >= 0 or isinstance(config, HogwildConfig):
        return config
    from atari_fast.runtime.device import select_device  # late: torch takes a second to import

    cores = available_cores()
    if select_device(config.device).type == "cuda":
        most = max(cores // 2, cores - 2)
    else:
        most = cores if config.in_turn and cores > 1 else cores // 2
    workers = min(env.num_envs // _FEW_ENVS, most)
    workers = 0 if canonical_name(config.game) in TOYS else workers
    return dataclasses.replace(config, env=dataclasses.replace(env, num_workers=workers))


def _resume(runs: Sequence[str], argv: Sequence[str]) -> Trainer:
    """A run that goes on from its newest whole checkpoint with a replay."""
    if len(runs) > 1:
        raise ConfigError(f"--resume: expected one run directory, got {' and '.join(runs)}")
    from atari_fast.infra.checkpoint import is_best, latest_checkpoint, read_checkpoint
    from atari_fast.infra.files import wrap_errors
    from atari_fast.runtime.directory import CONFIG, REPLAY, holds_checkpoint, saved_state
    from atari_fast.runtime.trainer import Trainer

    if not holds_checkpoint(Path(runs[0])) and (Path(runs[0]) / CONFIG).is_file():
        return _begin_again(Path(runs[0]) / CONFIG, argv)
    root = Path(runs[0]) / "checkpoints"
    path = latest_checkpoint(root, holding=f"{REPLAY}.bin")
    checkpoint = read_checkpoint(path, snapshots=False)  # verified just now
    state = saved_state(checkpoint)
    with wrap_errors(path):
        evaluation_pending = bool(state["run"]["owes_evaluation"])
        mark_pending = state["run"]["best_at"] == checkpoint.frames and not is_best(path)
        saved = from_record(checkpoint.records["config"])
        validate(saved)
    saved = _in_directory(saved, runs[0])
    config = _parse_resumed(argv, saved)
    before, after = _leaves(dataclasses.asdict(saved)), _leaves(dataclasses.asdict(config))
    fixed = [name for name in after if after[name] != before[name] and name not in _CHANGEABLE]
    if fixed:
        raise ConfigError(
            f"{fixed[0]}: a resumed run keeps {before[fixed[0]]}, got {after[fixed[0]]}; begin a "
            f"new run for that, or change only {', '.join(_CHANGEABLE)}"
        )
    played = checkpoint.frames >= config.total_frames
    if played and not (evaluation_pending or mark_pending) and not _lacks_pictures(config, path):
        raise ConfigError(
            f"--resume: {runs[0]} has played its {config.total_frames} frames; raise --total-frames"
        )
    return Trainer(config, checkpoint)


def _begin_again(path: Path, argv: Sequence[str]) -> Trainer:
    """A run that ended before its first checkpoint, from its beginning; its settings in `path`."""
    from atari_fast.infra.files import read_bytes
    from atari_fast.runtime.trainer import Trainer

    saved = from_json(read_bytes(path).decode(errors="replace"), str(path))
    config = _parse_resumed(argv, _in_directory(saved, str(path.parent)))
    return Trainer(config)


def _in_directory(config: Config, directory: str) -> Config:
    """The settings of a run in another directory, as after it was moved."""
    return dataclasses.replace(config, run=dataclasses.replace(config.run, dir=directory))


def _parse_resumed(argv: Sequence[str], saved: Config) -> Config:
    """The settings of a resumed run: those that were saved, changed by arguments."""
    config = parse_options(
        argv, saved, prog=f"{_PROG} --resume RUN", description="Settings of the run."
    )
    validate(config)
    return _with_workers(config)


def _lacks_pictures(config: Config, last: Path) -> bool:
    """Whether a run whose last checkpoint is `last` was ended before it made its pictures."""
    from atari_fast.runtime.finish import is_finished

    return config.run.finish and not is_finished(Path(config.run.dir), config.game, last)


def _leaves(record: object, prefix: str = "") -> dict[str, object]:
    """Values of nested records by their dotted paths."""
    if not isinstance(record, dict):
        return {prefix.rstrip("."): record}
    return {
        name: value
        for key, item in record.items()
        for name, value in _leaves(item, f"{prefix}{key}.").items()
    }


if __name__ == "__main__":
    run_cli(main, output_matters=False)
else:
    sys.modules[__name__].__class__ = _CallableModule
