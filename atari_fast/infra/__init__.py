"""Checkpoints, metrics, progress, video, plots and command lines; nothing here knows an agent."""

from __future__ import annotations
