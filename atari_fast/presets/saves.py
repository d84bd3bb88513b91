"""What presets for long runs have in common."""

from __future__ import annotations

from atari_fast.config import RunConfig

SAVES = RunConfig(eval_period=4_000_000, checkpoint_period=4_000_000, replay_period=4_000_000)
"""Evaluations and checkpoints of long runs."""
