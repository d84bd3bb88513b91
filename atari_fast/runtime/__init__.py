"""Who runs what, where."""

from __future__ import annotations
