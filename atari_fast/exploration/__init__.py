"""Exploration that several agents share: policy families and the bandit that chooses from them."""

from __future__ import annotations
