"""Worker processes as their main process sees them: how they start, are waited for, fail, end."""

from __future__ import annotations

import json
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterable
from multiprocessing import resource_tracker, spawn
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from atari_fast.envs.worker import NOT_FOR_WORKERS
from atari_fast.errors import ConfigError, EnvError, WorkerError

_SLICE_SECONDS = 0.25
"""Longest time that `VectorEnv` waits before it looks how much of the timeout is left."""
_STOP_SECONDS = 0.5
"""Seconds between asking a worker to end, telling it and killing it."""
_Answer = TypeVar("_Answer")


class Worker(NamedTuple):
    """What the main process knows of a worker."""

    process: Any
    pipe: Connection
    name: str
    envs: range


class Patience:
    """The rest of a timeout, of which only time counts that this process spends waiting.

    A process that is stopped (Ctrl-Z, a preempting scheduler, a frozen container, a suspended
    machine) cannot measure for how long. So it waits in slices, and a slice that took longer than
    it was asked to counts as what was asked: its workers most likely stood still as well.
    """

    def __init__(self, seconds: float):
        self._left = seconds
        self._slice = min(_SLICE_SECONDS, seconds / 16)

    def wait(self, ask: Callable[[float], _Answer]) -> _Answer:
        """Calls `ask` with seconds to wait until it returns something true or no time is left."""
        while True:
            start = time.monotonic()
            answer = ask(self._slice)
            self._left -= min(self._slice, time.monotonic() - start)
            if answer or self._left <= 0:
                return answer


def check_program(workers: int, otherwise: str = ", or set env.num_workers to 0") -> None:
    """Raises ConfigError where this program can have no workers, which import its main file.

    Args:
        workers: How many it asks for.
        otherwise: What else it can do.
    """
    if multiprocessing.current_process().daemon:
        raise ConfigError(
            f"env.num_workers: got {workers} in a daemonic process, which may have no processes of "
            f"its own; start that process with daemon=False{otherwise}"
        )
    # Nothing in `python -c`, a notebook and interactive Python, which have no file to import.
    path = spawn.get_preparation_data("worker").get("init_main_from_path")
    if path is not None and not Path(path).is_file():
        raise ConfigError(
            f"env.num_workers: got {workers} in the program {Path(path).name}, which is no file "
            "(it came through standard input or a pipe), but each worker process imports the file "
            f"of its program; save the program in a file{otherwise}"
        )


def start_worker(
    context: Any, index: int, game: str, envs: range, serve: Callable[..., None], *args: Any
) -> Worker:
    """Starts a worker process, which says through its pipe when it is ready.

    Args:
        context: Multiprocessing context.
        index: Number of the worker.
        game: Game of its environments.
        envs: Their indices.
        serve: What it runs, a function of a module, which takes `args` and its end of the pipe.
        *args: Its first arguments.

    Raises:
        WorkerError: The system has no process or no open file left.
    """
    name = f"worker {index} (environments {envs[0]} to {envs[-1]} of {game})"
    try:
        pipe, far_end = context.Pipe()
        process = context.Process(
            target=serve, args=(*args, far_end), name=f"atari_fast {name}", daemon=True
        )
        # Signals reach all processes of a terminal or a job: a worker takes none from its start.
        resource_tracker.ensure_running()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, NOT_FOR_WORKERS)
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    except OSError as error:
        raise WorkerError(
            f"{name} cannot be started ({error}); set a smaller env.num_workers, or raise the "
            "limits of open files and processes (ulimit -n, ulimit -u)"
        ) from error
    far_end.close()  # the worker's copy is the last one now: its death closes the pipe
    return Worker(process, pipe, name, envs)


def stop(workers: list[Worker]) -> None:
    """Ends the workers: asks by closing their pipes, then kills."""
    for worker in workers:
        worker.pipe.close()
    for force in (False, True):
        deadline = time.monotonic() + _STOP_SECONDS
        for worker in workers:
            if force and worker.process.is_alive():
                worker.process.kill()
        for worker in workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))


def _end_of(process: Any) -> str:
    """Says how a process ended."""
    process.join(_STOP_SECONDS)
    code = process.exitcode
    if code is None:
        return "closed its pipe"
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def silent(workers: Iterable[Worker], timeout: float) -> str:
    """Says which workers hang."""
    names = ", ".join(worker.name for worker in workers)
    return (
        f"{names} gave no answer for {timeout:g} seconds and was killed; if the machine is only "
        "slow, raise env.worker_timeout"
    )


def died(worker: Worker, starting: bool) -> str:
    """Says how a worker ended that was not asked to."""
    text = f"{worker.name} {_end_of(worker.process)}"
    if starting:
        text += " while it started; its output is above"
    if starting and worker.process.exitcode == 1:  # an exception where it imports the program
        text += (
            '. A script that makes environments with workers needs `if __name__ == "__main__":` '
            "around what it runs, since each worker imports it"
        )
    return text


def reported_error(worker: Worker, starting: bool) -> tuple[Exception, Exception]:
    """Returns the exception that stands for a worker's, and a cause with its traceback."""
    report = json.loads(worker.pipe.recv_bytes())
    cause = RuntimeError(f"in {worker.name}:\n{report['trace']}")
    if not report["environment"]:
        return WorkerError(f"{worker.name} failed: {report['text']}"), cause
    text = report["text"] if starting else f"{worker.name} failed: {report['text']}"
    return EnvError(text), cause
