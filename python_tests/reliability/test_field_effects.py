"""Every field of the configuration does in a run what its documentation says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import effects_agent
import effects_learning
import effects_run
from atari_fast.config import DqnFamilyConfig
from atari_fast.errors import ConfigError
from atari_fast.presets import PRESETS
from atari_fast.train import main
from field_runs import ATARI, CATCH, EFFECTS, Player, Record, changed, family, fields, flat

MODULES = (effects_agent, effects_learning, effects_run)
"""They enter their checks into the table when they are imported."""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


OTHERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "agent.discount": (0.5, {}),
    "agent.double": (True, {}),
    "agent.dueling": (True, {}),
    "agent.dueling_gradient": (0.25, {"agent.dueling": True}),
    "agent.noisy": (True, {}),
    "agent.noisy_sigma": (2.0, {"agent.noisy": True}),
    "agent.n_step": (2, {}),
    "agent.reward_clip": (0.25, {}),
    "agent.loss": ("squared", {}),
    "agent.operator": ("al", {}),
    "agent.operator_alpha": (0.5, {"agent.operator": "al"}),
    "agent.operator_next": ("gamma", {"agent.operator": "persistent"}),
    "agent.munchausen": (True, {}),
    "agent.munchausen_alpha": (0.5, {"agent.munchausen": True}),
    "agent.munchausen_temperature": (0.5, {"agent.munchausen": True}),
    "agent.munchausen_clip": (-0.01, {"agent.munchausen": True}),
    "agent.atoms": (7, {}),
    "agent.v_max": (3.0, {}),
    "agent.quantiles": (5, {}),
    "agent.taus": (5, {}),
    "agent.taus_acting": (3, {}),
    "agent.cosines": (6, {}),
    "agent.target_period": (80, {}),
    "agent.epsilon_start": (0.5, {}),
    "agent.epsilon_end": (0.5, {}),
    "agent.epsilon_frames": (160, {}),
}
"""Another value of each setting of an agent, and the options that must be on for it to act."""
OF_A_TORSO = ("agent.dueling_gradient",)
"""Those that need a torso with weights, which the toy's has not."""
AGENT_FIELDS = [
    (algorithm, path)
    for algorithm, config in family().items()
    for path in fields(config)
    if path.startswith("agent.") and path != "agent.algorithm"
]


def test_every_field_has_a_check() -> None:
    known = {path for config in family().values() for path in fields(config)}
    assert set(EFFECTS) == known
    assert set(OTHERS) == {path for _, path in AGENT_FIELDS}


@pytest.mark.parametrize(("algorithm", "path"), AGENT_FIELDS)
def test_every_setting_of_an_agent_acts_for_its_algorithm(
    algorithm: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A setting that the class of another algorithm has too must act for each of them."""
    player = Player(tmp_path, monkeypatch)
    value, options = OTHERS[path]
    short = changed(CATCH, "total_frames", 800)
    base = family(ATARI if path in OF_A_TORSO else short)[algorithm]
    try:
        usual, other = (
            outcome(player.run(changes, base)) for changes in (options, {**options, path: value})
        )
    finally:
        player.close()
    assert usual != other


def outcome(run: Record) -> tuple[bytes, bytes]:
    """The weights and the actions of a run."""
    weights = flat(run.trainer.agent.nets["online"].parameters())
    return weights.numpy().tobytes(), np.concatenate(run.actions).tobytes()


SHARED = ("env.", "net.", "replay.", "optim.", "run.")
"""Sections whose checks hold for every algorithm of the family, which all have the same."""


@pytest.mark.parametrize("preset", PRESETS)
def test_help_has_only_settings_that_act(preset: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Those of its class; that each of them acts is checked for the DQN family."""
    config = PRESETS[preset]()
    with pytest.raises(SystemExit) as stop:
        main([preset, "--help"])
    assert stop.value.code == 0
    shown = {
        path.replace("-", "_")
        for path in re.findall(r"^. --([a-z][a-z0-9.-]*)", capsys.readouterr().out, re.MULTILINE)
    }
    assert shown == set(fields(config))
    if not isinstance(config, DqnFamilyConfig):
        return
    algorithm = config.agent.algorithm
    acting = {"agent.algorithm"}
    acting |= {path for name, path in AGENT_FIELDS if name == algorithm}
    acting |= {path for path in EFFECTS if "." not in path or path.startswith(SHARED)}
    if algorithm == "dqn":  # whose agent alone has the hook
        acting |= {path for path in EFFECTS if path.startswith("ls.")}
    assert shown <= acting


@pytest.mark.parametrize("algorithm", family())
def test_a_setting_of_another_algorithm_is_unknown(algorithm: str) -> None:
    known = {path for config in family().values() for path in fields(config)}
    foreign = known - set(fields(family()[algorithm]))
    assert foreign
    for path in sorted(foreign):
        flag = "--" + path.replace("_", "-")
        with pytest.raises(ConfigError, match=f"^unknown setting {flag}; ") as caught:
            main(["pong", "--agent.algorithm", algorithm, flag, "1"])
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("check", dict.fromkeys(EFFECTS.values()), ids=lambda f: f.__name__)
def test_fields_do_what_they_say(
    check: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    player = Player(tmp_path, monkeypatch)
    try:
        check(player)
    finally:
        player.close()


@pytest.mark.slow
@pytest.mark.parametrize("path", EFFECTS)
def test_a_check_fails_where_its_field_is_ignored(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    player = Player(tmp_path, monkeypatch, ignored=path)
    try:
        EFFECTS[path](player)
    except (Exception, pytest.fail.Exception):  # an assertion, or what such a run leads to
        return
    finally:
        player.close()
    pytest.fail(f"nothing shows whether {path} has the value that was asked for")
