"""Typed wrappers of the C++ replay memories."""

from __future__ import annotations
