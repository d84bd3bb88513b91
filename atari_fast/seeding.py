"""Named streams of random numbers from one root seed.

A stream depends on the root and on its own name alone, not on the order in which streams are made,
so a new consumer of random numbers leaves all the others as they were.
"""

from __future__ import annotations

import hashlib

import numpy as np


def child(parent: np.random.SeedSequence, name: str | int) -> np.random.SeedSequence:
    """Returns the stream `name` below `parent`, the same at every call (`parent` is not changed).

    Args:
        parent: Stream to branch from.
        name: Name, or the index of one of many equal parts (an environment, an actor).
    """
    digest = hashlib.sha256(f"{type(name).__name__}:{name}".encode()).digest()
    words = tuple(int(word) for word in np.frombuffer(digest, dtype="<u4")[:4])
    return np.random.SeedSequence(
        entropy=parent.entropy, spawn_key=(*parent.spawn_key, *words), pool_size=parent.pool_size
    )


def stream(seed: int, name: str) -> np.random.SeedSequence:
    """Returns the stream `name` of a run.

    Args:
        seed: Root of all random numbers of the run, not negative.
        name: Who draws from it, for example `env` or `replay`.
    """
    return child(np.random.SeedSequence(seed), name)


def to_int(sequence: np.random.SeedSequence, bits: int = 63) -> int:
    """Returns the seed that `sequence` stands for as an integer in [0, 2^bits), bits at most 64."""
    return int(sequence.generate_state(1, np.uint64)[0]) >> (64 - bits)
