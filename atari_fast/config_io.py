"""Settings checked all at once, and stored as JSON."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import re
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeVar

from atari_fast.config import FRAMES_PER_STEP, Config, NetConfig
from atari_fast.config_schema import SCHEMA_VERSION, upgrade
from atari_fast.errors import ConfigError

_MAX_INT = 2**63 - 1
_DEVICE = re.compile(r"auto|cpu|cuda(:\d{1,4})?")
_IMPALA_OPTIONS = ("width", "layer_norm", "spectral_norm", "pool")
T = TypeVar("T")


class Range(typing.NamedTuple):
    """The values that a number may have; `low` and `high` belong to it unless `open` says else."""

    low: float
    high: float = _MAX_INT
    multiple: int = 1
    """Integers must be multiples of this."""
    above: bool = False
    """`low` itself is not allowed."""

    def problem(self, value: float) -> str | None:
        """What is wrong with a value; None when it is in the range."""
        outside = not self.low <= value <= self.high or (self.above and value == self.low)
        if not outside and (self.multiple == 1 or value % self.multiple == 0):
            return None
        kind = f"a multiple of {self.multiple}" if self.multiple > 1 else "a number"
        if self.above:
            bounds = f"above {_text(self.low)}"
        elif value > self.high or self.high < _MAX_INT:
            bounds = f"from {_text(self.low)} to {_text(self.high)}"
        else:
            bounds = f"of at least {_text(self.low)}"
        return f"expected {kind} {bounds}, got {_text(value)}"


_POSITIVE = Range(1)
_NOT_NEGATIVE = Range(0)
_SHARE = Range(0, 1)
_PERIOD = Range(FRAMES_PER_STEP, multiple=FRAMES_PER_STEP)
_REAL_POSITIVE = Range(0, 1e300, above=True)
_REAL_NOT_NEGATIVE = Range(0, 1e300)

RANGES: Mapping[str, Range] = {
    "seed": _NOT_NEGATIVE,
    "total_frames": Range(FRAMES_PER_STEP),
    "threads": Range(0, 4096),
    "env.mode": Range(-1, 255),
    "env.difficulty": Range(-1, 255),
    "env.max_episode_frames": Range(FRAMES_PER_STEP, 2**31 - 1),
    "env.num_envs": Range(1, 65_536),
    "env.num_workers": Range(-1, 65_536),
    "env.worker_timeout": _REAL_POSITIVE,
    "net.channels": Range(1, 65_536),
    "net.width": Range(1, 256),
    "net.pool": Range(0, 11),
    "net.hidden": Range(1, 1_048_576),
    "net.stack": Range(1, 255),
    "agent.discount": _SHARE,
    "agent.dueling_gradient": _SHARE,
    "agent.noisy_sigma": Range(0, 1e3),
    "agent.n_step": Range(1, 65_536),
    "agent.reward_clip": _REAL_NOT_NEGATIVE,
    "agent.operator_alpha": Range(0, 1 - 1e-9),
    "agent.munchausen_alpha": _SHARE,
    "agent.munchausen_temperature": Range(1e-6, 1e6),
    "agent.munchausen_clip": Range(-1e6, 0),
    "agent.atoms": Range(2, 65_536),
    "agent.v_max": Range(1e-6, 1e6),
    "agent.quantiles": Range(2, 65_536),
    "agent.taus": Range(1, 65_536),
    "agent.taus_acting": Range(1, 65_536),
    "agent.cosines": Range(1, 65_536),
    "agent.target_period": _PERIOD,
    "agent.epsilon_start": _SHARE,
    "agent.epsilon_end": _SHARE,
    "agent.epsilon_frames": _NOT_NEGATIVE,
    "ls.period": _PERIOD,
    "ls.samples": _NOT_NEGATIVE,
    "ls.prior": _REAL_NOT_NEGATIVE,
    "ls.clip": _REAL_NOT_NEGATIVE,
    "ls.games": Range(2, 1_000_000),
    "ls.epsilon": _SHARE,
    "ls.batch_size": Range(1, 16_384),
    "replay.capacity": Range(1, 10**10),
    "replay.min_frames": _NOT_NEGATIVE,
    "replay.alpha": _SHARE,
    "replay.beta_start": _SHARE,
    "replay.beta_end": _SHARE,
    "replay.priority_epsilon": _REAL_POSITIVE,
    "replay.uniform_mix": _SHARE,
    "replay.frame_gb": Range(0, 1e6),
    "replay.threads": Range(1, 256),
    "optim.lr": _REAL_POSITIVE,
    "optim.lr_final_fraction": _SHARE,
    "optim.eps": _REAL_POSITIVE,
    "optim.random_shift": Range(0, 84),
    "optim.decay": Range(0, 1 - 1e-9),
    "optim.max_grad_norm": _REAL_NOT_NEGATIVE,
    "optim.batch_size": _POSITIVE,
    "optim.update_period": _PERIOD,
    "run.log_period": _PERIOD,
    "run.checkpoint_period": _PERIOD,
    "run.replay_period": _NOT_NEGATIVE,
    "run.eval_period": Range(0, multiple=FRAMES_PER_STEP),
    "run.eval_episodes": Range(1, 1_000_000),
    "run.eval_epsilon": _SHARE,
}
"""Range of every numeric field of `Config`, by its path."""


def validate(config: Config) -> None:
    """Check all fields: their types, their ranges, and what they mean together.

    Raises:
        ConfigError: one sentence that lists every problem with the path of its field.
    """
    problems = list(_type_problems(config, Config, ""))
    if not problems:
        problems = [*_range_problems(config), *_device_problems(config)]
    if not problems:
        problems = list(_joint_problems(config))
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

    Settings that an earlier version stored are read under their present names.

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
    config = _build(Config, upgrade(record.get("config"), schema), "", problems)
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


def _range_problems(config: Config) -> Iterator[str]:
    for path, allowed in RANGES.items():
        part: Any = config
        for name in path.split("."):
            part = getattr(part, name)
        for value in part if isinstance(part, tuple) else (part,):
            problem = allowed.problem(value)
            if problem:
                yield f"{path}: {problem}"


def _device_problems(config: Config) -> Iterator[str]:
    if not _DEVICE.fullmatch(config.device):
        yield f"device: expected auto, cpu, cuda or cuda:<number>, got {config.device!r}"
    if not config.game.strip():
        yield "game: expected the name of a game, got nothing"


def _joint_problems(config: Config) -> Iterator[str]:
    """What two or more fields say against each other."""
    env, agent, replay, optim = config.env, config.agent, config.replay, config.optim
    yield from _net_problems(config.net)
    if env.num_workers > env.num_envs:
        yield (
            f"env.num_workers: expected at most one for each of env.num_envs = {env.num_envs}, "
            f"got {env.num_workers}"
        )
    rows = env.num_envs * (agent.n_step + config.net.stack + 1)
    if replay.capacity < rows:
        yield (
            "replay.capacity: expected at least env.num_envs * (agent.n_step + net.stack + 1) = "
            f"{rows}, got {replay.capacity}"
        )
    if optim.batch_size > replay.capacity:
        yield (
            f"optim.batch_size: expected at most replay.capacity = {replay.capacity}, "
            f"got {optim.batch_size}"
        )
    least = FRAMES_PER_STEP * env.num_envs * (agent.n_step + 1)
    most = FRAMES_PER_STEP * replay.capacity
    if not least <= replay.min_frames <= most:
        yield (
            f"replay.min_frames: expected {least} (a transition in each of env.num_envs = "
            f"{env.num_envs}) to {most} (replay.capacity = {replay.capacity}), "
            f"got {replay.min_frames}"
        )
    if config.total_frames <= replay.min_frames:
        yield (
            f"total_frames: expected more than replay.min_frames = {replay.min_frames}, "
            f"after which learning begins, got {config.total_frames}"
        )
    if agent.target_period < optim.update_period:
        yield (
            f"agent.target_period: expected at least optim.update_period = {optim.update_period}, "
            f"got {agent.target_period}"
        )
    yield from _algorithm_problems(config)


def _algorithm_problems(config: Config) -> Iterator[str]:
    """Options that do not go together, or that ask for what the algorithm cannot do."""
    agent, ls = config.agent, config.ls
    if agent.munchausen:
        if agent.double:
            yield "agent.double: a soft value has no maximum to choose; drop it or munchausen"
        if agent.operator != "none":
            yield (
                f"agent.operator: munchausen widens the action gap itself, got {agent.operator} "
                "beside it; drop one of them"
            )
        if agent.algorithm == "c51":
            yield (
                "agent.munchausen: the entropy moves each action's atoms by another amount, so "
                "expected dqn, qr-dqn or iqn, got c51"
            )
    if agent.operator == "lazy" and agent.algorithm != "dqn":
        yield (
            "agent.operator: lazy keeps a value and does not shift a distribution, so expected "
            f"agent.algorithm dqn, got {agent.algorithm}"
        )
    if agent.operator == "consistent" and agent.n_step > 1:
        yield f"agent.n_step: the consistent operator is of one step, got {agent.n_step}"
    if config.net.last_bias == "none" and ls.method != "none":
        yield (
            "net.last_bias: the least-squares updates solve for a bias of each action, so expected "
            f"each where ls.method is {ls.method}, got none"
        )
    if agent.dueling_gradient != 1 and not agent.dueling:
        yield (
            "agent.dueling_gradient: expected 1 where agent.dueling is off, "
            f"got {_text(agent.dueling_gradient)}"
        )
    if ls.method == "none" and (ls.conditional or ls.clip > 0):
        name = "ls.conditional" if ls.conditional else "ls.clip"
        yield f"{name}: nothing is solved for while ls.method is none; set --ls.method fqi"
    last = config.total_frames - config.replay.min_frames - FRAMES_PER_STEP * config.env.num_envs
    if ls.method != "none" and last < 1:
        yield (
            "total_frames: expected more than replay.min_frames + 4 * env.num_envs = "
            f"{config.total_frames - last}, after which the last layer is solved for, "
            f"got {config.total_frames}"
        )
    elif ls.method != "none" and ls.period > last:
        yield (
            "ls.period: expected at most total_frames - replay.min_frames - 4 * env.num_envs = "
            f"{last}, after which no step follows, got {ls.period}"
        )
    if ls.method != "none" and agent.algorithm != "dqn":
        yield f"ls.method: the last layer of dqn is solved for, got {agent.algorithm}"
    if ls.method == "lstdq":
        for name, other in (
            ("agent.dueling", agent.dueling),
            ("agent.munchausen", agent.munchausen),
            ("agent.operator", agent.operator != "none"),
            ("ls.clip", ls.clip > 0),
            ("ls.bootstrap", ls.bootstrap == "online"),
        ):
            if other:
                yield (
                    f"{name}: LSTD-Q solves for the fixed point of plain targets; "
                    "use --ls.method fqi"
                )


def _net_problems(net: NetConfig) -> Iterator[str]:
    """Options of the impala torso beside another torso."""
    given = [name for name in _IMPALA_OPTIONS if getattr(net, name) != getattr(NetConfig(), name)]
    if given and net.torso != "impala":
        names = " and ".join(f"net.{name}" for name in given)
        yield f"{names}: expected net.torso = impala, which alone has this, got {net.torso}"


def _list(values: typing.Iterable[Any]) -> str:
    return ", ".join(map(str, values))


def _text(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
