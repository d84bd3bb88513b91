from __future__ import annotations

import dataclasses
import json
import math
import typing
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atari_fast.agents.registry import build
from atari_fast.agents.restore import load_agent
from atari_fast.config import (
    CONFIGS,
    DqnConfig,
    DqnOptimConfig,
    EnvConfig,
    NetConfig,
    ReplayConfig,
    with_algorithm,
)
from atari_fast.config_io import (
    from_json,
    from_record,
    ranges,
    to_json,
    to_record,
    validate,
)
from atari_fast.errors import ConfigError
from atari_fast.infra.weights import load_weights
from atari_fast.presets import PRESETS
from atari_fast.types import EnvSpec
from run_parts import make_replay

ZOO = Path(__file__).parents[2] / "zoo"
FIXTURES = Path(__file__).parent / "fixtures"
"""Presets as earlier versions of the schema stored them, some with other values."""
REMOVED = {
    "dqn": {"atoms", "v_max", "quantiles", "taus", "taus_acting", "cosines"},
    "c51": {
        *("loss", "munchausen", "munchausen_alpha", "munchausen_temperature", "munchausen_clip"),
        *("quantiles", "taus", "taus_acting", "cosines"),
    },
}
"""Settings of an agent that version 2 of the schema stored and version 3 does not have."""


def leaves(cls=DqnConfig, prefix=""):
    for name, hint in typing.get_type_hints(cls).items():
        if dataclasses.is_dataclass(hint):
            yield from leaves(hint, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", hint


def changed(path, value, config=None):
    config = config or DqnConfig()
    head, _, rest = path.partition(".")
    if rest:
        value = changed(rest, value, getattr(config, head))
    return replace(config, **{head: value})


@pytest.mark.parametrize(
    ("preset", "changes"),
    [
        ("double-dqn", {"agent.dueling": True}),
        ("double-dqn", {"agent.noisy": True}),
        ("double-dqn", {"ls.method": "fqi"}),
        ("per", {"agent.dueling": True}),
        ("per", {"replay.prioritized": False}),
        ("dqn-adam", {"net.torso": "mlp"}),
        ("dqn-adam", {"net.torso": "impala", "net.spectral_norm": True}),
    ],
)
def test_parts_combine_with_what_presets_leave(preset: str, changes: dict[str, object]) -> None:
    config = PRESETS[preset]()
    for path, value in changes.items():
        config = changed(path, value, config)
    validate(config)
    build(config, EnvSpec((84, 84), tuple("ABCD")), torch.device("cpu"))


@pytest.mark.parametrize(("preset", "algorithm"), [("per", "c51"), ("dqn-adam", "iqn")])
def test_another_algorithm_keeps_what_it_shares_with_a_preset(preset: str, algorithm: str) -> None:
    before = PRESETS[preset]()
    config = with_algorithm(before, algorithm)
    validate(config)
    assert type(config) is CONFIGS[algorithm]
    assert config.agent.algorithm == algorithm
    assert (config.preset, config.replay, config.optim) == (preset, before.replay, before.optim)
    old, new, default = (dataclasses.asdict(c.agent) for c in (before, config, type(config)()))
    for name in new.keys() - {"algorithm"}:
        assert new[name] == (old if name in old else default)[name]
    build(config, EnvSpec((84, 84), tuple("ABCD")), torch.device("cpu"))


@pytest.mark.parametrize(
    ("preset", "algorithm", "message"),
    [
        ("pong", "sarsa", r"agent\.algorithm: expected one of dqn, c51, qr-dqn, iqn, got 'sarsa'"),
        ("m-dqn", "c51", r"agent\.munchausen: c51 has no Munchausen targets"),
        ("ls-dqn", "iqn", r"ls\.method: iqn has no least-squares updates"),
    ],
)
def test_another_algorithm_that_lacks_an_option_that_is_on_is_refused(
    preset: str, algorithm: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        with_algorithm(PRESETS[preset](), algorithm)


def test_each_class_of_settings_is_known_by_its_algorithm() -> None:
    assert list(CONFIGS) == [cls().agent.algorithm for cls in CONFIGS.values()]


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid_and_survive_json(name):
    config = PRESETS[name]()
    assert config.preset == name
    validate(config)
    assert from_json(to_json(config)) == config
    assert from_record(json.loads(json.dumps(to_record(config)))) == config


@pytest.mark.parametrize("cls", CONFIGS.values())
def test_every_number_has_a_range(cls):
    def ranged(part, prefix=""):
        yield from (f"{prefix}{name}" for name in ranges(part))
        for name, hint in typing.get_type_hints(part).items():
            if dataclasses.is_dataclass(hint):
                yield from ranged(hint, f"{prefix}{name}.")

    numbers = {path for path, hint in leaves(cls) if hint in (int, float) or "int]" in str(hint)}
    numbers |= {path for path, hint in leaves(cls) if str(hint).startswith("tuple[int")}
    assert numbers == set(ranged(cls))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("seed", -1, "seed: expected a number of at least 0, got -1"),
        ("seed", 2**63, "seed: expected a number from 0 to 9223372036854775807"),
        ("total_frames", 0, "total_frames: expected a number of at least 4, got 0"),
        ("device", "gpu", "device: expected auto, cpu, cuda or cuda:<number>, got 'gpu'"),
        ("game", " ", "game: expected the name of a game"),
        ("precision", "fp8", "precision: expected one of auto, fp32, bf16, got 'fp8'"),
        ("env.num_envs", 0, "env.num_envs: expected a number from 1 to 65536, got 0"),
        ("env.num_envs", True, "env.num_envs: expected a whole number, got True"),
        ("env.worker_timeout", 0, "env.worker_timeout: expected a number above 0, got 0"),
        ("env.worker_timeout", math.inf, "env.worker_timeout: expected a finite number, got inf"),
        ("env", None, "env: expected EnvConfig, got None"),
        ("net.channels", (32, 0, 64), "net.channels: expected a number from 1 to 65536, got 0"),
        ("net.channels", (32, 64), "net.channels: expected 3 values (int, int, int), got (32, 64)"),
        ("net.channels", [1, 2, 3], "net.channels: expected 3 values"),
        ("net.width", 0, "net.width: expected a number from 1 to 256, got 0"),
        ("net.pool", 12, "net.pool: expected a number from 0 to 11, got 12"),
        ("net.spectral_norm", True, "net.spectral_norm: expected net.torso = impala"),
        ("agent.double", 1, "agent.double: expected true or false, got 1"),
        ("agent.discount", 1.01, "agent.discount: expected a number from 0 to 1, got 1.01"),
        ("agent.discount", math.nan, "agent.discount: expected a finite number, got nan"),
        ("agent.discount", "0.9", "agent.discount: expected a number, got '0.9'"),
        ("agent.epsilon_end", -0.1, "agent.epsilon_end: expected a number from 0 to 1, got -0.1"),
        ("agent.target_period", 40_001, "agent.target_period: expected a multiple of 4 of at "),
        ("replay.capacity", 0, "replay.capacity: expected a number from 1 to 10000000000, got 0"),
        ("replay.capacity", 2**63, "replay.capacity: expected a number from 1 to 10000000000"),
        ("replay.min_frames", 4_000_004, "replay.min_frames: expected 64 (a transition in each"),
        ("replay.min_frames", 60, "replay.min_frames: expected 64 (a transition in each"),
        ("optim.lr", 0.0, "optim.lr: expected a number above 0, got 0"),
        ("optim.lr", 1.7e308, "optim.lr: expected a number above 0, got 1.7e+308"),
        ("optim.batch_size", 2**63, "optim.batch_size: expected a number from 1 to 922337203685"),
        ("optim.batch_size", 1_000_001, "optim.batch_size: expected at most replay.capacity = 10"),
        ("optim.update_period", 6, "optim.update_period: expected a multiple of 4 of at least 4"),
        ("agent.target_period", 12, "agent.target_period: expected at least optim.update_period"),
        ("agent.n_step", 65_537, "agent.n_step: expected a number from 1 to 65536"),
        (
            "env.num_workers",
            9,
            "env.num_workers: expected at most one for each of env.num_envs = 8, got 9",
        ),
        ("run.eval_period", -4, "run.eval_period: expected a multiple of 4 of at least 0, got -4"),
    ],
)
def test_validate_names_the_field(path, value, message):
    with pytest.raises(ConfigError) as caught:
        validate(changed(path, value))
    assert str(caught.value).startswith(f"config: {message}")
    assert "\n" not in str(caught.value)


def test_validate_lists_all_problems_at_once():
    config = DqnConfig(
        env=EnvConfig(num_envs=-1), optim=DqnOptimConfig(lr=-1.0), replay=ReplayConfig(capacity=0)
    )
    with pytest.raises(
        ConfigError, match=r"^config: 3 problems: env\.num_envs.*capacity.*optim\.lr"
    ):
        validate(config)


def test_validate_names_the_options_of_another_torso():
    net = NetConfig(torso="mlp", width=2, spectral_norm=True)
    with pytest.raises(
        ConfigError, match=r"net\.width and net\.spectral_norm: .* impala.* got mlp"
    ):
        validate(DqnConfig(net=net))
    validate(DqnConfig(net=replace(net, torso="impala")))


def test_validate_n_step_must_fit_into_an_envs_share():
    config = DqnConfig(replay=ReplayConfig(capacity=79, min_frames=64))
    validate(changed("agent.n_step", 1, config))
    message = r"replay\.capacity: expected at least env\.num_envs \* .* = 80, got 79"
    with pytest.raises(ConfigError, match=message):
        validate(changed("agent.n_step", 5, config))
    enough = replace(config, replay=ReplayConfig(capacity=80, min_frames=200))
    enough = changed("agent.n_step", 5, enough)
    validate(enough)
    make_replay(enough, (84, 84))  # the replay agrees


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"agent.munchausen": True, "agent.double": True}, r"agent\.double: a soft value"),
        ({"agent.munchausen": True, "agent.operator": "al"}, r"agent\.operator: munchausen .* al"),
        ({"agent.operator": "consistent", "agent.n_step": 3}, r"agent\.n_step: .* got 3"),
        ({"net.last_bias": "none", "ls.method": "fqi"}, r"net\.last_bias: .* fqi, got none"),
        ({"agent.algorithm": "c51"}, r"agent\.algorithm: expected one of dqn, got 'c51'"),
        ({"ls.method": "lstdq", "agent.dueling": True}, r"agent\.dueling: LSTD-Q .* fqi"),
        ({"ls.method": "lstdq", "agent.operator": "al"}, r"agent\.operator: LSTD-Q .* fqi"),
        ({"ls.method": "lstdq", "ls.clip": 1.0}, r"ls\.clip: LSTD-Q .* fqi"),
        ({"ls.method": "fqi", "total_frames": 200_001}, r"total_frames: .* = 200032, .* 200001"),
        ({"ls.method": "fqi", "total_frames": 200_033}, r"ls\.period: .* = 1, after .* got"),
    ],
)
def test_validate_names_what_does_not_go_together(changes, message):
    config = DqnConfig()
    for path, value in changes.items():
        config = changed(path, value, config)
    with pytest.raises(ConfigError, match=message):
        validate(config)


values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(0, 100_000).map(lambda n: 4 * n),
    st.sampled_from([2**31, 2**63 - 1, 2**63, 2**64, -(2**63), 0, 1]),
    st.floats(),
    st.floats(0, 1),
    st.text(max_size=5),
    st.lists(st.integers(), max_size=4).map(tuple),
)


@settings(max_examples=1000, deadline=None)
@given(st.dictionaries(st.sampled_from([path for path, _ in leaves()]), values, max_size=3))
def test_validate_any_config_passes_or_raises_config_error_only(changes):
    config = DqnConfig()
    for path, value in changes.items():
        config = changed(path, value, config)
    try:
        validate(config)
    except ConfigError:
        return
    assert from_json(to_json(config)) == config


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ([], "config.json: expected an object with `schema` and `config`"),
        ({"schema": 9}, "config.json: has schema 9, this version reads schemas 1 to 3"),
        ({"schema": True}, "config.json: has schema True, this version reads schemas 1 to 3"),
        ({"schema": 3}, "config.json: config: expected an object, got None"),
        ({"schema": 3, "config": {"sed": 3}}, "config.json: sed: unknown key, nearest is seed"),
        (
            {"schema": 3, "config": {"optim": {"zzz": 3}}},
            "config.json: optim.zzz: unknown key, known are name, lr",
        ),
        ({"schema": 3, "config": {"seed": 1.0}}, "config.json: seed: expected a whole number"),
        (
            {"schema": 3, "config": {"net": {"channels": [1]}}},
            "config.json: net.channels: expected",
        ),
        (
            {"schema": 3, "config": {"agent": {"algorithm": "sarsa"}}},
            "config.json: agent.algorithm: expected one of dqn, c51, qr-dqn, iqn, r2d2, ngu, "
            "agent57, a2c, a3c, ppo, pqn, got 'sarsa",
        ),
        (
            {"schema": 2, "config": {"agent": {"algorithm": ["c51"]}}},
            "config.json: agent.algorithm: expected one of dqn, c51, qr-dqn, iqn, r2d2, ngu, "
            "agent57, a2c, a3c, ppo, pqn, got ['c51",
        ),
        ({"schema": 3, "config": {"agent": {"atoms": 5}}}, "config.json: agent.atoms: unknown key"),
        (
            {"schema": 3, "config": {"agent": {"algorithm": "iqn"}, "ls": {}}},
            "config.json: ls: unknown key",
        ),
        (
            {"schema": 2, "config": {"agent": {"algorithm": "c51", "munchausen": True}}},
            "config.json: agent.munchausen: unknown key",
        ),
        (
            {"schema": 2, "config": {"agent": {"algorithm": "iqn"}, "ls": {"method": "fqi"}}},
            "config.json: ls: unknown key",
        ),
        (
            {"schema": 2, "config": {"agent": {"algorithm": "r2d2", "atoms": 5}}},
            "config.json: agent.atoms: unknown key",
        ),
    ],
)
def test_from_json_names_what_is_wrong(record, message):
    with pytest.raises(ConfigError) as caught:
        from_json(json.dumps(record))
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "nul", None])
def test_from_json_of_no_json_is_one_sentence(text):
    with pytest.raises(ConfigError, match="not JSON"):
        from_json(text)


def test_from_json_reports_every_problem():
    record = {"schema": 3, "config": {"optim": {"lrr": 3}, "env": 3, "net": {"hidden": "x"}}}
    with pytest.raises(ConfigError, match=r"optim\.lr.*env: expected an object.*net\.hidden"):
        from_json(json.dumps(record))


def test_from_record_fills_missing_fields_with_defaults():
    for schema in (2, 3):
        assert from_record({"schema": schema, "config": {"seed": 5}}) == DqnConfig(seed=5)


def stored(name: str, schema: int = 1) -> dict[str, object]:
    """Settings as an earlier version of the schema has them."""
    return json.loads((FIXTURES / f"schema-{schema}" / f"{name}.json").read_text())


def flat(part: object, prefix: str = "") -> dict[str, object]:
    if not isinstance(part, dict):
        return {prefix.rstrip("."): part}
    return {
        path: value
        for key, item in part.items()
        for path, value in flat(item, f"{prefix}{key}.").items()
    }


def kept(before: dict[str, object], algorithm: str) -> dict[str, object]:
    """The stored settings that the algorithm still has."""
    removed = {f"agent.{name}" for name in REMOVED[algorithm]}
    assert removed <= set(before)
    return {
        path: value
        for path, value in before.items()
        if path not in removed and not (algorithm == "c51" and path.startswith("ls."))
    }


@pytest.mark.parametrize("algorithm", ["dqn", "c51"])
def test_settings_of_schema_2_are_read_without_those_of_other_algorithms(algorithm: str) -> None:
    record = stored(algorithm, schema=2)
    config = from_record(record)
    assert record == stored(algorithm, schema=2)
    assert type(config) is CONFIGS[algorithm]
    written = json.loads(to_json(config))
    assert written["schema"] == 3
    later = {"env.crop": False}
    assert flat(written["config"]) == later | kept(flat(record["config"]), algorithm)
    validate(config)
    assert from_json(to_json(config)) == config


@pytest.mark.parametrize("name", ["changed", "dqn-nature", "ls-dqn-boxing", "pong", "rainbow"])
def test_settings_of_schema_1_are_read(name):
    renamed = {
        "env.lanes": "env.num_envs",
        "env.workers": "env.num_workers",
        "optim.lr_end_share": "optim.lr_final_fraction",
    }
    before = flat(stored(name)["config"])
    assert set(renamed) <= set(before)
    config = from_record(stored(name))
    now = flat(json.loads(to_json(config))["config"])
    before = kept(before, config.agent.algorithm)
    assert {renamed.get(path, path): value for path, value in before.items()}.items() <= now.items()
    validate(config)
    assert from_json(to_json(config)) == config


def test_settings_of_schema_1_have_their_values_under_the_new_names():
    config = from_record(stored("changed"))
    assert (config.env.num_envs, config.env.num_workers) == (6, 3)
    assert config.optim.lr_final_fraction == 0.25


def test_an_upgrade_does_not_change_what_it_is_given():
    record = stored("changed")
    from_record(record)
    assert record == stored("changed")


@pytest.mark.parametrize(
    ("schema", "part", "key", "near"),
    [
        (1, "env", "num_env", "env.num_envs"),
        (1, "optim", "lr_final", "optim.lr_final_fraction"),
        (1, "env", "life_los", "env.life_loss"),
        (2, "env", "workers", "env.num_workers"),
        (2, "optim", "lr_final_share", "optim.lr_final_fraction"),
    ],
)
def test_unknown_keys_of_any_schema_are_refused_with_the_near_name(schema, part, key, near):
    record = stored("changed") if schema == 1 else to_record(DqnConfig())
    record["config"][part][key] = 1
    with pytest.raises(
        ConfigError, match=rf"^config: {part}\.{key}: unknown key, nearest is {near}"
    ):
        from_record(record)


def test_old_and_new_name_at_once_are_refused():
    record = stored("changed")
    record["config"]["env"]["num_envs"] = 4
    with pytest.raises(ConfigError, match=r"env\.lanes: unknown key"):
        from_record(record)


@pytest.mark.parametrize("path", sorted(ZOO.glob("*.safetensors")), ids=lambda path: path.stem)
def test_zoo_files_with_settings_of_schema_1_are_read(path):
    _, metadata = load_weights(path)
    record = metadata["config"]
    assert record["schema"] == 1
    config = load_agent(path, "best", torch.device("cpu")).config
    assert config == from_record(record)
    assert config.env.num_envs == record["config"]["env"]["lanes"]
    assert config.optim.lr_final_fraction == record["config"]["optim"]["lr_end_share"]
