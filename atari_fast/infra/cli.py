"""Command lines: settings from dataclasses, every mistake one sentence, every failure a code."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import io
import re
import signal
import sys
import types
import typing
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from atari_fast.errors import AtariFastError, CheckpointError, ConfigError
from atari_fast.infra.console import take_standard_streams
from atari_fast.infra.files import reason

C = TypeVar("C")

INTERRUPTED = 130
"""Exit code after a signal that ends the process in order."""


def parse_config(
    argv: Sequence[str],
    presets: Mapping[str, Callable[[], C]],
    default_preset: str,
    prog: str,
    adapt: Callable[[C, Sequence[str]], C] = lambda config, _: config,
) -> C:
    """Read `[PRESET] [--field VALUE ...]`, such as `pong --seed 3 --optim.lr 1e-4`.

    `--help` prints the fields with the preset's values as defaults and leaves with code 0. A field
    `preset` of the settings is set to the name of the preset, and `--preset NAME` names it too.

    Args:
        argv: the arguments after the program's name.
        presets: functions that make the settings (frozen dataclasses), by name.
        default_preset: the preset that is used when none is named.
        prog: the command, for the help text.
        adapt: takes the preset's settings and the arguments, and returns the settings that the
            arguments change, which may be of another class.

    Raises:
        ConfigError: one sentence on the first thing that is wrong.
    """
    name, rest = _take_preset(list(argv), default_preset)
    if name not in presets:
        raise ConfigError(f"preset: unknown name {name!r}; {_nearest(name, presets)}")
    config = adapt(presets[name](), rest)
    if "preset" in _fields(type(config)):
        config = dataclasses.replace(config, preset=name)  # type: ignore[type-var]
    return parse_options(
        rest, config, prog=f"{prog} [PRESET]", description=_describe_presets(presets, name)
    )


def parse_options(argv: Sequence[str], default: C, prog: str, description: str = "") -> C:
    """Read the fields of a dataclass from arguments; those that are not given keep their value.

    A field annotated as `tyro.conf.Positional[...]` is read by its place.

    Args:
        argv: the arguments after the program's name.
        default: an instance of the dataclass.
        prog: the command, for the help text.
        description: text at the head of the help; default: the docstring of the dataclass.

    Raises:
        ConfigError: one sentence on the first thing that is wrong.
    """
    import tyro

    arguments = list(argv)
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            return tyro.cli(
                type(default),
                default=default,
                args=arguments,
                prog=prog,
                description=description or None,
            )
    except SystemExit as stop:
        if not stop.code:
            raise
    raise ConfigError(
        _explain(arguments, type(default)) or _unboxed(errors.getvalue()) or "bad arguments"
    )


def run_cli(main: Callable[[list[str]], int | None], *, output_matters: bool = True) -> NoReturn:
    """Run a command with the process's arguments and leave with its exit code.

    An `AtariFastError` is printed as one sentence and ends with its code; Ctrl-C, SIGTERM, SIGHUP
    and SIGUSR2 raise KeyboardInterrupt and end with 130, and SIGUSR1, which asks a training to save
    and go on, is ignored while there is nothing to save; warnings are printed as one sentence too,
    and never raised. Anything else is a bug and keeps its traceback.

    Args:
        main: the command; it takes the arguments and returns the code.
        output_matters: standard output is what the command is for, so that a failure to write it
            is one, with code 4, or 1 without a word where its reader left, as `head` does.
    """
    output, errors = take_standard_streams()
    warnings.formatwarning = _format_warning
    warnings.filters[:] = [rule for rule in warnings.filters if rule[0] != "error"]  # type: ignore[index]
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
    if signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    code: int | str | None
    try:
        code = main(sys.argv[1:])
    except AtariFastError as error:
        errors.line(f"error: {' '.join(str(error).split())}")
        code = error.exit_code
    except KeyboardInterrupt:
        errors.line("interrupted")
        code = INTERRUPTED
    except SystemExit as stop:  # --help
        code = stop.code
    output.flush()
    if output.lost is not None and output_matters and not code:
        code = 1
        if not isinstance(output.lost, BrokenPipeError):
            errors.line(f"error: standard output: cannot be written: {reason(output.lost)}")
            code = CheckpointError.exit_code
    output.release()
    errors.release()
    sys.exit(code)


def _format_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    del category, filename, lineno, line
    return f"warning: {' '.join(str(message).split())}\n"


def take_option(argv: Sequence[str], flag: str, what: str) -> tuple[list[str], list[str]]:
    """Split `FLAG VALUE` and `FLAG=VALUE` off: (the values, the other arguments).

    Raises:
        ConfigError: a value is missing; the sentence says that `what` was expected.
    """
    values: list[str] = []
    rest: list[str] = []
    arguments = iter(argv)
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name != flag:
            rest.append(argument)
            continue
        value = value if equals else next(arguments, "")
        if not value:
            raise ConfigError(f"{flag}: expected {what}, got nothing")
        values.append(value)
    return values, rest


def _take_preset(argv: list[str], default: str) -> tuple[str, list[str]]:
    """Split the preset's name off: the first argument, or what follows --preset."""
    named = [argv.pop(0)] if argv and not argv[0].startswith("-") else []
    others, rest = take_option(argv, "--preset", "the name of a preset")
    named += others
    if len(set(named)) > 1:
        raise ConfigError(f"preset: expected one name, got {' and '.join(named)}")
    return (named[0] if named else default), rest


def _describe_presets(presets: Mapping[str, Callable[[], Any]], chosen: str) -> str:
    lines = [f"Settings of preset {chosen}; any of them can be changed. Presets:"]
    for name, make in presets.items():
        summary = (make.__doc__ or "").strip().partition("\n")[0]
        lines.append(f"  {name}: {summary}" if summary else f"  {name}")
    return "\n".join(lines)


def _fields(cls: type, prefix: str = "") -> dict[str, Any]:
    """Type of every leaf of nested dataclasses by its dotted path."""
    found: dict[str, Any] = {}
    for name, hint in typing.get_type_hints(cls, include_extras=True).items():
        if dataclasses.is_dataclass(hint):
            found.update(_fields(typing.cast(type, hint), f"{prefix}{name}."))
        else:
            found[prefix + name] = hint
    return found


def _explain(argv: Sequence[str], cls: type) -> str | None:
    """The first mistake in arguments that tyro refused; None where none is found."""
    flags: dict[str, Any] = {}
    places: list[tuple[str, Any]] = []
    for path, hint in _fields(cls).items():
        if _is_positional(hint):
            places.append((path, typing.get_args(hint)[0]))
        else:
            flags[path] = hint
    pending = list(argv)
    while pending:
        argument = pending.pop(0)
        if not argument.startswith("--"):
            problem = _problem_in_place(argument, places)
        else:
            problem = _problem_of_flag(argument, flags, pending)
        if problem:
            return problem
    return None


def _problem_in_place(argument: str, places: list[tuple[str, Any]]) -> str | None:
    """What is wrong with an argument that is read by its place; takes that place off the list."""
    if not places:
        return f"unexpected argument {argument!r}; settings are given as --name value"
    name, hint = places[0]
    items = _items(hint)
    if Ellipsis not in items:
        places.pop(0)
    return (
        None
        if _reads_as(items[0], argument)
        else (f"{name}: expected {_expected(items[0])}, got {argument!r}")
    )


def _problem_of_flag(argument: str, flags: Mapping[str, Any], pending: list[str]) -> str | None:
    """What is wrong with a flag; takes its values off the arguments that follow."""
    flag, equals, attached = argument.partition("=")
    path = flag[2:].replace("-", "_")
    head, dot, leaf = path.rpartition(".")
    positive = head + dot + leaf.removeprefix("no_")
    if path not in flags and flags.get(positive) is bool:
        path = positive
    if path not in flags:
        names = ["--" + name.replace("_", "-") for name in flags]
        return f"unknown setting {flag}; {_nearest(flag, names)}"
    given = [attached] if equals else []
    while pending and not pending[0].startswith("--") and len(given) < _count(flags[path]):
        given.append(pending.pop(0))
    return _problem(flag, flags[path], given, pending)


def _problem(flag: str, hint: Any, given: list[str], pending: Sequence[str]) -> str | None:
    """What is wrong with the values of one flag."""
    if hint is bool:
        value = given[0] if given else pending[0] if pending else "--"
        if value.startswith("--"):
            return None
        head, _, leaf = flag[2:].rpartition(".")
        leaf = leaf.removeprefix("no-").removeprefix("no_")
        name = f"{head}." if head else ""
        return f"{flag}: takes no value, got {value!r}; write --{name}{leaf} or --{name}no-{leaf}"
    if len(given) == _count(hint) and all(map(_reads_as, _items(hint), given)):
        return None
    got = " ".join(map(repr, given)) or "nothing"
    return f"{flag}: expected {_expected(hint)}, got {got}"


def _items(hint: Any) -> tuple[Any, ...]:
    """The types of the values that a field takes."""
    if typing.get_origin(hint) is tuple:
        return typing.get_args(hint)
    return (hint,)


def _count(hint: Any) -> int:
    return 0 if hint is bool else len(_items(hint))


def _reads_as(hint: Any, text: str) -> bool:
    """Whether a text can be a value of the type."""
    if typing.get_origin(hint) is Literal:
        return text in map(str, typing.get_args(hint))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return any(_reads_as(option, text) for option in typing.get_args(hint))
    if hint is types.NoneType:
        return text == "None"
    if hint in (int, float):
        try:
            hint(text)
        except ValueError:
            return False
    return True


def _expected(hint: Any) -> str:
    """A type in words."""
    if typing.get_origin(hint) is tuple:
        items = typing.get_args(hint)
        if len(set(items)) == 1:
            return f"{len(items)} values, each {_expected(items[0])}"
        return " and ".join(map(_expected, items))
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, typing.get_args(hint)))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(map(_expected, typing.get_args(hint)))
    words = {int: "a whole number", float: "a number", str: "a text", Path: "a path"}
    return words.get(hint, "None" if hint is types.NoneType else str(hint))


def _is_positional(hint: Any) -> bool:
    """Whether a field is marked as `tyro.conf.Positional[...]`."""
    from tyro.conf import Positional

    marker = typing.get_args(Positional[int])[1]
    return typing.get_origin(hint) is Annotated and marker in typing.get_args(hint)[1:]


def _nearest(name: str, known: typing.Iterable[str]) -> str:
    """The known names that are most like `name`, as the end of a sentence."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"expected one of {', '.join(names)}" if len(names) <= 20 else "see --help"


def _unboxed(text: str) -> str:
    """The words of tyro's message without its frame."""
    words = re.sub(r"[\u2500-\u257f]+", " ", re.sub(r"\x1b\[[0-9;]*m", "", text)).split()
    return " ".join(words)
