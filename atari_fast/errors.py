"""The exceptions that atari_fast raises, each with the exit code its command lines end with.

Every message is one sentence: what was wrong, what was got, what was expected, how to mend it.
"""

from __future__ import annotations


class AtariFastError(Exception):
    """Base of all errors that a user can cause; command lines print them without a traceback."""

    exit_code = 1


class ConfigError(AtariFastError, ValueError):
    """A setting or command-line argument is wrong."""

    exit_code = 1


class EnvError(AtariFastError, RuntimeError):
    """A game is unknown, its ROM is unusable, or an environment was used wrongly."""

    exit_code = 2


class NumericError(AtariFastError, RuntimeError):
    """A loss or priority is not finite."""

    exit_code = 3


class LeastSquaresError(AtariFastError, ArithmeticError):
    """A least-squares system has no solution that can be relied on; keep the old weights."""

    exit_code = 3


class CheckpointError(AtariFastError, RuntimeError):
    """A run directory or checkpoint is missing, damaged or unwritable."""

    exit_code = 4


class WorkerError(AtariFastError, RuntimeError):
    """A worker process died or hung."""

    exit_code = 5


def raise_interrupt(error: BaseException) -> None:
    """Raise the KeyboardInterrupt that led to an error, if one did.

    A signal in the middle of the import of a C extension ends as an ImportError.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, KeyboardInterrupt):
            raise cause from error
        cause = cause.__cause__ or cause.__context__
