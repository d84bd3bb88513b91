"""Recipes: one file an algorithm."""

from __future__ import annotations
