"""Environments: single ones, vector environments, toy games and the gymnasium interface."""

from __future__ import annotations
