"""Agents: one file per algorithm."""

from __future__ import annotations
