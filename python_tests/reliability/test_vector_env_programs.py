"""Programs that make environments with workers: how they may begin, stand still and end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from processes import alive, gone, shared_files

Script = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    """Starts a program in a process of its own."""
    started = []

    def start(text: str) -> subprocess.Popen[str]:
        path = tmp_path / "program.py"
        path.write_text(textwrap.dedent(text))
        process = subprocess.Popen(
            [sys.executable, str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


PLAY = """
import multiprocessing, time
import numpy as np
from atari_fast.config import EnvConfig
from atari_fast.envs.vector_env import VectorEnv
from atari_fast.seeding import stream

if __name__ == "__main__":
    envs = VectorEnv("catch", EnvConfig(num_envs=4, num_workers=2), stream(1, "env"))
    envs.step(np.zeros(4, np.int64))
    print(*(process.pid for process in multiprocessing.active_children()), flush=True)
"""


def test_time_in_which_all_processes_were_stopped_does_not_count(script: Script) -> None:
    process = script(
        PLAY.replace("VectorEnv(", "VectorEnv(make=broken_envs.waiting, *(")
        .replace("num_workers=2)", "num_workers=2, worker_timeout=4.0)")
        .replace('"env"))', '"env")))')
        .replace("import multiprocessing", "import multiprocessing, broken_envs")
        + """
    envs.send(np.full(4, 2))
    print("sent", flush=True)
    envs.recv()
    print("received", flush=True)
    """
    )
    assert process.stdout is not None
    assert len(process.stdout.readline().split()) == 2
    assert process.stdout.readline() == "sent\n"
    time.sleep(0.5)  # it waits for its workers
    os.killpg(process.pid, signal.SIGSTOP)
    time.sleep(5)
    os.killpg(process.pid, signal.SIGCONT)
    time.sleep(0.5)  # one that counted those seconds gives up
    (Path(str(process.args[-1])).parent / "go").touch()
    out, error = process.communicate(timeout=300)
    assert (out, error, process.returncode) == ("received\n", "", 0)


def test_workers_end_when_their_parent_is_killed(script: Script) -> None:
    process = script(PLAY + "    while True: envs.step(np.zeros(4, np.int64))\n")
    assert process.stdout is not None
    pids = [int(word) for word in process.stdout.readline().split()]
    assert len(pids) == 2
    assert all(alive(pid) for pid in pids)
    process.kill()
    process.wait(timeout=300)
    assert gone(pids, 5)
    assert shared_files(process.pid) == []


@pytest.mark.parametrize("last", ["", "    raise SystemExit(7)\n", "    1 / 0\n"])
def test_a_program_ends_without_closing(script: Script, last: str) -> None:
    # An older finalizer makes Python wait for child processes before it closes the pipes.
    process = script("import tempfile\nfolder = tempfile.TemporaryDirectory()\n" + PLAY + last)
    out, error = process.communicate(timeout=300)
    pids = [int(word) for word in out.split()]
    assert len(pids) == 2
    assert gone(pids, 2)
    assert process.returncode == (0 if not last else 7 if "7" in last else 1)
    assert ("ZeroDivisionError" in error) == ("1 / 0" in last)
    assert "resource_tracker" not in error
    assert shared_files(process.pid) == []


def test_a_script_without_a_main_guard_is_told_so(script: Script) -> None:
    process = script(PLAY.replace('if __name__ == "__main__":', "if True:"))
    _, error = process.communicate(timeout=300)
    assert process.returncode == 1
    assert 'needs `if __name__ == "__main__":`' in error.splitlines()[-1]


@pytest.mark.parametrize("arguments", [("-",), (), ("-c", PLAY), ("-i",), ("/dev/fd/{pipe}",)])
def test_a_program_that_is_no_file(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Workers import the file of their program; where there is none to import they work."""
    reading, writing = os.pipe()
    os.write(writing, PLAY.encode())
    os.close(writing)
    done = subprocess.run(
        [sys.executable, *(word.replace("{pipe}", str(reading)) for word in arguments)],
        input=PLAY + "\n",
        capture_output=True,
        text=True,
        cwd=tmp_path,
        pass_fds=[reading],
        timeout=300,
    )
    os.close(reading)
    if arguments[:1] in [("-c",), ("-i",)]:
        assert (done.returncode, len(done.stdout.splitlines()[-1].split())) == (0, 2)
    else:
        assert done.returncode == 1
        assert re.fullmatch(
            r"atari_fast.errors.ConfigError: env.num_workers: got 2 in the program \S+, which is "
            r"no file .*; save the program in a file, or set env.num_workers to 0",
            done.stderr.splitlines()[-1],
        )


def test_a_daemonic_process_has_no_workers(script: Script) -> None:
    text = """
    import multiprocessing
    from atari_fast.config import EnvConfig
    from atari_fast.envs.vector_env import VectorEnv
    from atari_fast.seeding import stream

    def play():
        VectorEnv("catch", EnvConfig(num_envs=2, num_workers=1), stream(1, "env"))

    if __name__ == "__main__":
        process = multiprocessing.Process(target=play, daemon=True)
        process.start()
        process.join()
        raise SystemExit(process.exitcode)
    """
    process = script(text)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "env.num_workers: got 1 in a daemonic process" in error.splitlines()[-1]


def test_no_open_file_left(script: Script) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))"
    process = script(
        limit + PLAY.replace("num_envs=4, num_workers=2", "num_envs=40, num_workers=40")
    )
    _, error = process.communicate(timeout=300)
    assert process.returncode == 1
    last = error.splitlines()[-1]
    assert re.search(r"WorkerError: worker \d+ .* cannot be started .*Too many open files", last)


def test_workers_import_neither_torch_nor_the_learner(script: Script) -> None:
    process = script("import sys, atari_fast.envs.vector_env as p; print('torch' in sys.modules)")
    out, error = process.communicate(timeout=300)
    assert (out.strip(), error) == ("False", "")
