from __future__ import annotations

import resource
import signal
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import pytest
import tyro

from atari_fast.errors import ConfigError
from atari_fast.infra import memory
from atari_fast.infra.cli import parse_config, parse_options


@dataclass(frozen=True)
class Optim:
    """How it learns."""

    lr: float = 1e-3
    """Learning rate."""
    eps: float = 1e-5
    """Term in the denominator."""
    nesterov: bool = False
    """Look ahead."""


@dataclass(frozen=True)
class Settings:
    """What can be set."""

    preset: str = ""
    """Set by the command line."""
    game: str = "pong"
    """Name of the game."""
    seed: int = 1
    """Root of randomness."""
    channels: tuple[int, int, int] = (1, 2, 3)
    """Filters."""
    life_loss: Literal["none", "episodic"] = "none"
    """What a lost life means."""
    limit: int | None = None
    """A limit or None."""
    optim: Optim = field(default_factory=Optim)


def slow() -> Settings:
    """The one of the paper.

    More about it.
    """
    return Settings(seed=7)


PRESETS = {"fast": Settings, "slow-paper": slow}


def parse(*argv):
    return parse_config(argv, PRESETS, "fast", "python -m thing")


def test_cli_reads_preset_and_fields():
    assert parse() == Settings(preset="fast")
    assert parse("slow-paper") == Settings(preset="slow-paper", seed=7)
    assert parse("--preset", "slow-paper") == parse("--preset=slow-paper") == parse("slow-paper")
    read = parse("slow-paper", "--game", "ms pacman", "--optim.lr=1e-4", "--optim.nesterov")
    optim = Optim(lr=1e-4, nesterov=True)
    assert read == Settings(preset="slow-paper", seed=7, game="ms pacman", optim=optim)
    read = parse("--channels", "4", "5", "6", "--life-loss", "episodic", "--seed", "-3")
    assert (read.channels, read.life_loss, read.seed) == ((4, 5, 6), "episodic", -3)
    assert parse("--life_loss", "episodic", "--optim.no-nesterov").life_loss == "episodic"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("fsat", "preset: unknown name 'fsat'; did you mean fast?"),
        ("rainbow", "preset: unknown name 'rainbow'; expected one of fast, slow-paper"),
        ("fast --preset slow-paper", "preset: expected one name, got fast and slow-paper"),
        ("--preset", "--preset: expected the name of a preset, got nothing"),
        ("--optim.rl 3", "unknown setting --optim.rl; did you mean --optim.lr"),
        ("--optim.no-nestrov", "unknown setting --optim.no-nestrov; did you mean --optim.nesterov"),
        ("--zzz", "unknown setting --zzz; expected one of --preset, --game"),
        ("--optim.lr abc", "--optim.lr: expected a number, got 'abc'"),
        ("--optim.lr", "--optim.lr: expected a number, got nothing"),
        ("--optim.lr --seed 3", "--optim.lr: expected a number, got nothing"),
        ("--seed 1.5", "--seed: expected a whole number, got '1.5'"),
        ("--seed=x", "--seed: expected a whole number, got 'x'"),
        ("--seed " + "9" * 5000, "--seed: expected a whole number, got '999"),
        ("--limit 2.5", "--limit: expected a whole number or None, got '2.5'"),
        ("--life-loss all", "--life-loss: expected one of none, episodic, got 'all'"),
        ("--channels 1 2", "--channels: expected 3 values, each a whole number, got '1' '2'"),
        ("--channels 1 2 x", "--channels: expected 3 values, each a whole number, got '1' '2' 'x'"),
        ("--channels 1 2 3 4", "unexpected argument '4'; settings are given as --name value"),
        (
            "--optim.nesterov true",
            "--optim.nesterov: takes no value, got 'true'; "
            "write --optim.nesterov or --optim.no-nesterov",
        ),
        ("--optim.no-nesterov=0", "--optim.no-nesterov: takes no value, got '0'"),
        ("--seed 3 fast", "unexpected argument 'fast'; settings are given as --name value"),
        ("-x", "unexpected argument '-x'"),
    ],
)
def test_cli_mistakes_are_one_sentence(argv, message, capfd):
    with pytest.raises(ConfigError) as caught:
        parse(*argv.split())
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_cli_help_shows_fields_and_the_presets_values(capsys):
    with pytest.raises(SystemExit) as caught:
        parse("slow-paper", "--help")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for part in ("python -m thing [PRESET]", "--optim.lr FLOAT", "Learning rate.", "(default: 7)"):
        assert part in text
    assert "  slow-paper: The one of the paper." in text


@dataclass(frozen=True)
class Places:
    """Arguments that are read by their place."""

    kind: tyro.conf.Positional[Literal["curves"]] = "curves"
    """What to draw."""
    runs: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Where."""
    out: str = ""
    """Where to."""


def test_options_by_place():
    read = parse_options(["curves", "a", "b", "--out", "c"], Places(), "plot")
    assert read == Places(runs=(Path("a"), Path("b")), out="c")
    with pytest.raises(ConfigError, match=r"^kind: expected one of curves, got 'scores'$"):
        parse_options(["scores", "a"], Places(), "plot")
    with pytest.raises(ConfigError, match=r"^unknown setting --uot; did you mean --out"):
        parse_options(["curves", "a", "b", "--uot"], Places(), "plot")


COMMAND = """
import sys, time, warnings
from atari_fast.infra.cli import run_cli
from atari_fast import errors

def main(argv):
    assert argv == sys.argv[1:]
    match argv:
        case ["warn"]:
            warnings.warn("a\\nwarning", RuntimeWarning)
        case ["bug"]:
            raise KeyError("bug")
        case ["interrupt"]:
            raise KeyboardInterrupt
        case ["code"]:
            return 130
        case ["flood"]:
            for _ in range(100_000):
                print("x")
        case ["wait"]:
            print("waits", flush=True)
            time.sleep(60)
        case [name]:
            raise getattr(errors, name)("what was\\n wrong")

run_cli(main)
"""


@pytest.mark.parametrize(
    ("argument", "code", "stderr"),
    [
        ("code", 130, ""),
        ("interrupt", 130, "interrupted\n"),
        ("warn", 0, "warning: a warning\n"),
        ("ConfigError", 1, "error: what was wrong\n"),
        ("EnvError", 2, "error: what was wrong\n"),
        ("NumericError", 3, "error: what was wrong\n"),
        ("CheckpointError", 4, "error: what was wrong\n"),
        ("WorkerError", 5, "error: what was wrong\n"),
    ],
)
def test_run_cli_codes_and_sentences(argument, code, stderr):
    run = subprocess.run([sys.executable, "-c", COMMAND, argument], capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (code, "", stderr)


def test_run_cli_keeps_the_traceback_of_a_bug():
    run = subprocess.run([sys.executable, "-c", COMMAND, "bug"], capture_output=True, text=True)
    assert run.returncode == 1
    assert "Traceback" in run.stderr


def test_run_cli_survives_a_reader_that_leaves():
    command = [sys.executable, "-c", COMMAND, "flood"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        run.stdout.readline()
        run.stdout.close()
        assert run.stderr.read() == b""
        assert run.wait(20) == 1


@pytest.mark.parametrize("unbuffered", [[], ["-u"]])
@pytest.mark.parametrize("argument", ["flood", "wait"])
def test_run_cli_says_that_its_output_was_lost(argument, unbuffered):
    code = COMMAND.replace("sleep(60)", "sleep(0)")
    command = [sys.executable, *unbuffered, "-c", code, argument]
    with open("/dev/full", "w") as full:  # noqa: PTH123
        run = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    sentence = "error: standard output: cannot be written: no space left on device\n"
    assert (run.returncode, run.stderr) == (4, sentence)


def test_run_cli_of_a_command_whose_output_only_shows_loses_it_without_a_word():
    code = COMMAND.replace("run_cli(main)", "run_cli(main, output_matters=False)")
    for argument, expected in (("flood", 0), ("ConfigError", 1)):
        with open("/dev/full", "w") as full:  # noqa: PTH123
            command = [sys.executable, "-c", code, argument]
            assert subprocess.run(command, stdout=full, stderr=full).returncode == expected


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_run_cli_ends_in_order_at_a_signal(number):
    command = [sys.executable, "-c", COMMAND, "wait"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stdout.readline() == b"waits\n"
        run.send_signal(number)
        assert run.stderr.read() == b"interrupted\n"
        assert run.wait(20) == 130


def test_run_cli_raises_no_warning_whatever_the_environment_says():
    command = [sys.executable, "-W", "error", "-c", COMMAND, "warn"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "warning: a warning\n")


def test_train_help_takes_less_than_a_second():
    command = [sys.executable, "-m", "atari_fast.train", "--help"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "--optim.lr" in run.stdout
    # Seconds of the processor: the wall clock would also measure what else the machine does.
    assert after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime < 1.0


def make_cgroup(root, group, **files):
    folder = root / group
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_available_bytes_is_the_smallest_limit(tmp_path):
    proc, cgroup = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    8000 kB\n")
    assert memory.available_bytes(proc, cgroup) == 8_192_000
    (proc / "self" / "cgroup").write_text("0::/a/b\n")
    assert memory.available_bytes(proc, cgroup) == 8_192_000
    make_cgroup(cgroup, "a/b", memory__max="max\n", memory__current="5\n")
    make_cgroup(cgroup, "a", memory__max="5000000\n", memory__current="4000000\n")
    assert memory.available_bytes(proc, cgroup) == 1_000_000
    make_cgroup(cgroup, "a", memory__stat="anon 7\ninactive_file 500000\n")
    assert memory.available_bytes(proc, cgroup) == 1_500_000
    (proc / "self" / "cgroup").write_text("3:cpu,cpuacct:/x\n2:memory:/x\n1:name=systemd:/x\n")
    limit = {"memory__limit_in_bytes": "300", "memory__usage_in_bytes": "100"}
    make_cgroup(cgroup / "memory", "x", **limit)
    assert memory.available_bytes(proc, cgroup) == 200


def test_available_bytes_without_proc(tmp_path):
    assert memory.available_bytes(tmp_path, tmp_path) > 10**8


def test_require_memory_says_what_does_not_fit(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 3_200_000_000)
    memory.require_memory(2_800_000_000, "replay", "lower it")
    with pytest.raises(ConfigError) as caught:
        memory.require_memory(7_100_000_000, "replay", "lower it")
    assert str(caught.value) == (
        "replay: needs 7.1 GB, 3.2 GB available (at most 90% of it is taken); lower it"
    )


def test_settings_without_a_preset_field_are_read_too():
    def plain() -> Optim:
        return replace(Optim(), lr=0.5)

    assert parse_config([], {"plain": plain}, "plain", "x") == Optim(lr=0.5)
