"""Settings that earlier versions stored, under the names that they have now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SCHEMA_VERSION = 2
"""Version of the stored settings; it rises whenever a setting is renamed."""

RENAMED: Mapping[int, Mapping[str, str]] = {
    1: {
        "env.lanes": "env.num_envs",
        "env.workers": "env.num_workers",
        "optim.lr_end_share": "optim.lr_final_fraction",
    },
}
"""For each earlier version, the paths of the settings that the next version renamed."""


def upgrade(config: Any, version: int) -> Any:
    """Renames the settings of an earlier schema version.

    Args:
        config: settings as JSON has them. They are not changed.
        version: their schema version, from 1 to `SCHEMA_VERSION`.

    Returns:
        The settings with their present names; what is no object of settings stays as it is.
    """
    for earlier in range(version, SCHEMA_VERSION):
        for old, new in RENAMED[earlier].items():
            config = _renamed(config, old.split("."), new.split("."))
    return config


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
