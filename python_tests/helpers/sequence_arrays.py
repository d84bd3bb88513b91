"""Settings and arrays that the bindings of the sequence replay take."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from atari_fast import _core

NUM_ENVS, STACK, SIDE, SIZE = 2, 2, 5, 6
Array = NDArray[np.generic]
Arrays = dict[str, Array]
SPECS = [("mu", "float32", 3), ("policy", "uint8", 2)]
STATE_SPECS = [("h", "float16", 3)]
ROWS = 2 + 4 + 1
"""Rows of a sequence: burn-in, unroll window and bootstrap."""


def sequence_options(**changes: object) -> dict[str, object]:
    return {
        "num_envs": NUM_ENVS,
        "capacity": 60,
        "frame_shape": (SIDE, SIDE + 1),
        "stack": STACK,
        "burn_in": 2,
        "unroll": 4,
        "period": 2,
        "bootstrap_steps": 1,
        "tail": "shift",
        "columns": SPECS,
        "states": STATE_SPECS,
        "unroll_states": False,
        "max_sequences": 0,
        "prioritized": True,
        "alpha": 0.9,
        "priority_epsilon": 1e-6,
        "uniform_mix": 0.0,
        "buffer_max_weights": False,
        "stratified": True,
        "frame_memory": 0,
        "threads": 2,
        "seed": 0,
        **changes,
    }


def sequence_row_arrays() -> Arrays:
    return {
        "frames": np.ones((NUM_ENVS, SIDE, SIDE + 1), np.uint8),
        "actions": np.zeros(NUM_ENVS, np.int64),
        "rewards": np.zeros(NUM_ENVS, np.float32),
        "flags": np.zeros(NUM_ENVS, np.uint8),
        "columns[0] (mu)": np.zeros((NUM_ENVS, 3), np.float32),
        "columns[1] (policy)": np.zeros((NUM_ENVS, 2), np.uint8),
        "states[0] (h)": np.zeros((NUM_ENVS, 3), np.float16),
    }


def sequence_batch_arrays() -> Arrays:
    return {
        "frames": np.zeros((STACK - 1 + ROWS, SIZE, SIDE, SIDE + 1), np.uint8),
        "actions": np.zeros((ROWS, SIZE), np.int64),
        "prev_actions": np.zeros((ROWS, SIZE), np.int64),
        "rewards": np.zeros((ROWS, SIZE), np.float32),
        "flags": np.zeros((ROWS, SIZE), np.uint8),
        "columns[0] (mu)": np.zeros((ROWS, SIZE, 3), np.float32),
        "columns[1] (policy)": np.zeros((ROWS, SIZE, 2), np.uint8),
        "states[0] (h)": np.zeros((SIZE, 3), np.float16),
        "burn_in": np.zeros(SIZE, np.int64),
        "valid_length": np.zeros(SIZE, np.int64),
        "bootstrap_length": np.zeros(SIZE, np.int64),
        "weights": np.zeros(SIZE, np.float32),
        "ids": np.zeros(SIZE, np.int64),
    }


def listed(arrays: Mapping[str, object]) -> dict[str, object]:
    """The arguments that these arrays make: columns and states are lists."""
    lists: dict[str, list[object]] = {"columns": [], "states": []}
    rest: dict[str, object] = {}
    for name, array in arrays.items():
        if "[" in name:
            lists[name.partition("[")[0]].append(array)
        else:
            rest[name] = array
    return {**rest, **lists}


def filled_sequence_replay() -> _core.SequenceReplay:
    options = _core.SequenceReplayOptions(**sequence_options())  # type: ignore[arg-type]
    replay = _core.SequenceReplay(options)
    for _ in range(12):
        replay.append(**listed(sequence_row_arrays()))  # type: ignore[arg-type]
    return replay
