"""Environments: lanes, pools of lanes, toy games and the gymnasium vector environment."""

from __future__ import annotations
