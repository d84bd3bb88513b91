"""Settings that earlier versions stored, under the names that they have now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SCHEMA_VERSION = 3
"""Version of the stored settings; it rises whenever a setting is renamed or removed."""

RENAMED: Mapping[int, Mapping[str, str]] = {
    1: {
        "env.lanes": "env.num_envs",
        "env.workers": "env.num_workers",
        "optim.lr_end_share": "optim.lr_final_fraction",
    },
}
"""For each earlier version, the paths of the settings that the next version renamed."""

_MUNCHAUSEN = (
    *("agent.munchausen", "agent.munchausen_alpha"),
    *("agent.munchausen_temperature", "agent.munchausen_clip"),
)
_C51 = ("agent.atoms", "agent.v_max")
_QR_DQN = ("agent.quantiles",)
_IQN = ("agent.taus", "agent.taus_acting", "agent.cosines")
REMOVED: Mapping[int, Mapping[str, tuple[str, ...]]] = {
    2: {
        "dqn": (*_C51, *_QR_DQN, *_IQN),
        "c51": ("agent.loss", "ls", *_MUNCHAUSEN, *_QR_DQN, *_IQN),
        "qr-dqn": ("agent.loss", "ls", *_C51, *_IQN),
        "iqn": ("agent.loss", "ls", *_C51, *_QR_DQN),
    },
}
"""For each earlier version and algorithm, the settings that had no effect and that the next version
does not have: until version 2 the algorithms of the DQN family had one class of settings."""


def upgrade(config: Any, version: int) -> Any:
    """Renames the settings of an earlier schema version and drops those that are gone.

    Args:
        config: settings as JSON has them. They are not changed.
        version: their schema version, from 1 to `SCHEMA_VERSION`.

    Returns:
        The settings with their present names; what is no object of settings stays as it is.
    """
    for earlier in range(version, SCHEMA_VERSION):
        for old, new in RENAMED.get(earlier, {}).items():
            config = _renamed(config, old.split("."), new.split("."))
        for path in REMOVED.get(earlier, {}).get(_algorithm(config), ()):
            config = _without(config, path.split("."))
    return config


def _algorithm(config: Any) -> str:
    """`agent.algorithm` of stored settings; dqn where none is given."""
    agent = config.get("agent") if isinstance(config, dict) else None
    return str(agent.get("algorithm", "dqn")) if isinstance(agent, dict) else "dqn"


def _without(part: Any, path: list[str]) -> Any:
    """Drops a setting from nested objects, unless it is an option that is on.

    The earlier version refused such an option in a training, and now it is an unknown key.
    """
    name, *rest = path
    if not isinstance(part, dict) or name not in part:
        return part
    value = part[name]
    if rest:
        return {**part, name: _without(value, rest)}
    if value is True or (isinstance(value, dict) and value.get("method", "none") != "none"):
        return part
    return {key: item for key, item in part.items() if key != name}


def _renamed(part: Any, old: list[str], new: list[str]) -> Any:
    """Renames one setting in nested objects; both paths differ in their last name only."""
    (name, *rest), (new_name, *new_rest) = old, new
    if not isinstance(part, dict) or name not in part:
        return part
    if rest:
        return {**part, name: _renamed(part[name], rest, new_rest)}
    if new_name in part:  # unknown to the earlier version, so the old name is refused beside it
        return part
    return {new_name if key == name else key: value for key, value in part.items()}
