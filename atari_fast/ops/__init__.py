"""Pure functions on tensors, one equation each."""

from __future__ import annotations
