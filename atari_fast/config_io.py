"""Settings checked all at once, and stored as JSON."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import re
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar

from atari_fast.config import CONFIGS, Config, Range
from atari_fast.config_schema import SCHEMA_VERSION, upgrade
from atari_fast.errors import ConfigError

_DEVICE = re.compile(r"auto|cpu|cuda(:\d{1,4})?")
T = TypeVar("T")


def validate(config: Config) -> None:
    """Check all fields: their types, their ranges, and what they mean together.

    Raises:
        ConfigError: one sentence that lists every problem with the path of its field.
    """
    problems = list(_type_problems(config, type(config), ""))
    if not problems:
        problems = [*_range_problems(config), *_device_problems(config)]
    if not problems:
        problems = list(config.problems())
    if problems:
        count = f"{len(problems)} problems: " if len(problems) > 1 else ""
        raise ConfigError(f"config: {count}{'; '.join(problems)}")


def check_ranges(options: object, ranges: Mapping[str, Range]) -> None:
    """Check numbers of a command line.

    Args:
        options: has an attribute for each name; one that is None was not given.
        ranges: allowed values by name.

    Raises:
        ConfigError: one sentence on the first that is outside.
    """
    for name, allowed in ranges.items():
        value = getattr(options, name)
        if value is not None and (problem := allowed.problem(value)):
            raise ConfigError(f"{name}: {problem}")


def to_record(config: Config) -> dict[str, Any]:
    """The settings as plain JSON values, with the schema version."""
    return {"schema": SCHEMA_VERSION, "config": dataclasses.asdict(config)}


def from_record(record: Any, source: str = "config") -> Config:
    """The settings that `to_record` made plain; a field that is missing has its default.

    Settings that an earlier version stored are read under their present names, without those that
    had no effect.

    Args:
        record: what JSON gave.
        source: where it comes from, for messages.

    Raises:
        ConfigError: another schema version, an unknown key or a wrong type, each with its path.
    """
    if not isinstance(record, dict) or "schema" not in record:
        raise ConfigError(f"{source}: expected an object with `schema` and `config`")
    schema = record["schema"]
    if type(schema) is not int or not 1 <= schema <= SCHEMA_VERSION:
        raise ConfigError(
            f"{source}: has schema {schema!r}, this version reads schemas 1 to "
            f"{SCHEMA_VERSION}; use the version of atari_fast that wrote it"
        )
    problems: list[str] = []
    settings = upgrade(record.get("config"), schema)
    config = _build(_class_of(settings, source), settings, "", problems)
    if problems:
        raise ConfigError(f"{source}: {'; '.join(problems)}")
    return config


def to_json(config: Config) -> str:
    """The settings as the text of `config.json`."""
    return json.dumps(to_record(config), indent=2) + "\n"


def from_json(text: str, source: str = "config.json") -> Config:
    """Read what `to_json` wrote; see `from_record`."""
    try:
        record = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{source}: not JSON: {error}") from error
    return from_record(record, source)


def _class_of(settings: Any, source: str) -> type[Config]:
    """The class of settings that has their `agent.algorithm`; DQN's where none is given."""
    agent = settings.get("agent") if isinstance(settings, dict) else None
    algorithm = agent.get("algorithm", "dqn") if isinstance(agent, dict) else "dqn"
    if not isinstance(algorithm, str) or algorithm not in CONFIGS:
        raise ConfigError(
            f"{source}: agent.algorithm: expected one of {_list(CONFIGS)}, got {algorithm!r}"
        )
    return CONFIGS[algorithm]


def _build(cls: type[T], record: Any, prefix: str, problems: list[str]) -> T:
    """Make a dataclass of a JSON object, collecting what is wrong with it."""
    if not isinstance(record, dict):
        problems.append(f"{prefix.rstrip('.') or 'config'}: expected an object, got {record!r}")
        return cls()
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for key, value in record.items():
        path = f"{prefix}{key}"
        if key not in hints:
            near = difflib.get_close_matches(str(key), hints, n=1, cutoff=0.4)
            mend = f"nearest is {prefix}{near[0]}" if near else f"known are {', '.join(hints)}"
            problems.append(f"{path}: unknown key, {mend}")
        elif dataclasses.is_dataclass(hints[key]):
            values[key] = _build(hints[key], value, f"{path}.", problems)
        else:
            values[key] = tuple(value) if isinstance(value, list) else value
            problem = _type_problem(values[key], hints[key])
            if problem:
                problems.append(f"{path}: {problem}")
    return cls(**values)


def _type_problems(part: Any, cls: Any, prefix: str) -> Iterator[str]:
    if not isinstance(part, cls):
        yield f"{prefix.rstrip('.') or 'config'}: expected {cls.__name__}, got {part!r}"
        return
    for name, hint in typing.get_type_hints(cls).items():
        value = getattr(part, name)
        if dataclasses.is_dataclass(hint):
            yield from _type_problems(value, hint, f"{prefix}{name}.")
        elif problem := _type_problem(value, hint):
            yield f"{prefix}{name}: {problem}"


def _type_problem(value: Any, hint: Any) -> str | None:
    """What is wrong with the type of a value; None when it fits."""
    if typing.get_origin(hint) is Literal:
        options = typing.get_args(hint)
        return None if value in options else f"expected one of {_list(options)}, got {value!r}"
    if typing.get_origin(hint) is tuple:
        items = typing.get_args(hint)
        if items[-1] is Ellipsis:
            kind = items[0]
            if isinstance(value, tuple) and not any(_type_problem(item, kind) for item in value):
                return None
            return f"expected values of the kind {kind.__name__}, got {value!r}"
        fits = isinstance(value, tuple) and len(value) == len(items)
        if fits and not any(map(_type_problem, value, items)):
            return None
        kinds = _list(item.__name__ for item in items)
        return f"expected {len(items)} values ({kinds}), got {value!r}"
    if hint is float:
        if type(value) not in (int, float):
            return f"expected a number, got {value!r}"
        return None if math.isfinite(value) else f"expected a finite number, got {value!r}"
    words = {int: "a whole number", bool: "true or false", str: "a text"}
    return None if type(value) is hint else f"expected {words[hint]}, got {value!r}"


def _range_problems(part: Any, prefix: str = "") -> Iterator[str]:
    for name, allowed in ranges(type(part)).items():
        value = getattr(part, name)
        for item in value if isinstance(value, tuple) else (value,):
            problem = allowed.problem(item)
            if problem:
                yield f"{prefix}{name}: {problem}"
    for name, hint in typing.get_type_hints(type(part)).items():
        if dataclasses.is_dataclass(hint):
            yield from _range_problems(getattr(part, name), f"{prefix}{name}.")


def ranges(cls: type) -> dict[str, Range]:
    """Range of each numeric field of a dataclass, by the field's name."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {
        name: mark
        for name, hint in hints.items()
        if typing.get_origin(hint) is Annotated
        for mark in typing.get_args(hint)[1:]
        if isinstance(mark, Range)
    }


def _device_problems(config: Config) -> Iterator[str]:
    if not _DEVICE.fullmatch(config.device):
        yield f"device: expected auto, cpu, cuda or cuda:<number>, got {config.device!r}"
    if not config.game.strip():
        yield "game: expected the name of a game, got nothing"


def _list(values: typing.Iterable[Any]) -> str:
    return ", ".join(map(str, values))
