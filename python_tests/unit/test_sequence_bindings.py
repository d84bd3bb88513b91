"""Lists, overlaps and settings that the bindings of the sequence replay refuse, and threads."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from atari_fast import _core
from atari_fast.ops.stacks import cut_sequence_stacks
from overlap import check_overlap, pairs
from sequence_arrays import (
    NUM_ENVS,
    filled_sequence_replay,
    listed,
    sequence_batch_arrays,
    sequence_options,
    sequence_row_arrays,
)

HUGE = 2**62
SEQUENCES = filled_sequence_replay()


@pytest.mark.parametrize(("later", "earlier"), pairs(sequence_batch_arrays()))
def test_overlapping_sequence_arrays_are_refused(later: str, earlier: str) -> None:
    check_overlap(
        lambda a: SEQUENCES.sample_into(0.4, **listed(a)),  # type: ignore[arg-type]
        sequence_batch_arrays(),
        later,
        earlier,
    )


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("columns", None, TypeError),
        ("columns", np.zeros((2, NUM_ENVS, 1), np.float32), TypeError),
        ("columns", {}, TypeError),
        ("columns", [], ValueError),
        ("columns", [np.zeros((NUM_ENVS, 1), np.float32)], ValueError),
        ("columns", [np.zeros((NUM_ENVS, 1), np.float32)] * 3, ValueError),
        ("states", 3, TypeError),
        ("states", (), ValueError),
    ],
)
def test_lists_of_another_length_or_type_are_refused(
    name: str, value: object, error: type[Exception]
) -> None:
    arguments = listed(dict(sequence_row_arrays()))
    rows = SEQUENCES.num_rows
    with pytest.raises(error, match=rf"^{name}: expected"):
        SEQUENCES.append(**{**arguments, name: value})  # type: ignore[arg-type]
    assert SEQUENCES.num_rows == rows
    SEQUENCES.append(**{**arguments, "columns": tuple(arguments["columns"])})  # type: ignore[arg-type]


BAD_OPTIONS: list[tuple[str, list[object]]] = [
    ("num_envs", [0, -1, HUGE]),
    ("capacity", [0, -1, 2, HUGE, 2**63 - 1]),
    ("frame_shape", [(0, 5), (5, -1), (HUGE, 4), (2**32, 2**32), (2**31, 2**31)]),
    ("stack", [0, -1, 40, HUGE]),
    ("burn_in", [-1, 40, HUGE]),
    ("unroll", [0, -1, 40, HUGE]),
    ("period", [0, -1, 5, HUGE]),
    ("bootstrap_steps", [0, -1, 40, HUGE]),
    ("tail", ["", "drop"]),
    ("columns", [[("a", "float64", 1)], [("a", "uint8", 0)], [("a", "uint8", -1)]]),
    ("columns", [[("a", "uint8", HUGE)], [("", "uint8", 1)], [("a", "uint8", 1)] * 2]),
    ("states", [[("h", "int64", 1)], [("h", "float32", 0)], [("h", "half", 1)]]),
    ("max_sequences", [-1, 1, HUGE]),
    ("alpha", [-0.1, 1.1, np.nan]),
    ("priority_epsilon", [0.0, -1.0, np.nan, np.inf, 1e300]),
    ("uniform_mix", [-0.1, 1.1, np.nan]),
    ("threads", [0, -1, 257, HUGE]),
]


@pytest.mark.parametrize(
    ("option", "value"),
    [(name, value) for name, values in BAD_OPTIONS for value in values],
)
def test_bad_sequence_options_are_refused(option: str, value: object) -> None:
    sizes = ("num_envs", "stack", "burn_in", "unroll", "bootstrap_steps")
    named = f"{option}|capacity" if option in sizes else option
    with pytest.raises(ValueError, match=f"^({named}|frame_bytes)"):
        _core.SequenceReplayOptions(**sequence_options(**{option: value}))  # type: ignore[arg-type]


def test_batches_outlive_their_replay_and_threads_share_it() -> None:
    for _ in range(20):
        replay = filled_sequence_replay()
        batches = [sequence_batch_arrays() for _ in range(3)]
        threads = [
            threading.Thread(target=replay.sample_into, args=(0.4,), kwargs=listed(batch))
            for batch in batches
        ]
        row = listed(sequence_row_arrays())
        threads.append(threading.Thread(target=replay.append, kwargs=row))
        for thread in threads:
            thread.start()
        del replay
        for thread in threads:
            thread.join()
        assert all((batch["valid_length"] == 4).all() for batch in batches)


RESIDENT = """
import sys
from pathlib import Path
import numpy as np
from atari_fast.replay.sequence import (
    RowSpec, SequenceConfig, SequenceReplay, StateSpec, sequence_options
)
from atari_fast.types import Acted, StepBatch

capacity, side, width = (int(word) for word in sys.argv[1:])
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
config = SequenceConfig(capacity=capacity)
specs = ([RowSpec("mu", "float32"), RowSpec("policy", "uint8")], [StateSpec("h", "float32", width)])
estimate = sequence_options(config, 2, (side, side), *specs).memory_bytes
before = resident()
replay = SequenceReplay(config, 2, (side, side), *specs, seed=0)
noise = np.random.default_rng(0).integers(0, 256, (16, 2, side, side), dtype=np.uint8)
acted = Acted(np.ones(2, np.int64), (np.ones((2, 1), np.float32), np.ones((2, 1), np.uint8)),
              (np.ones((2, width), np.float32),))
for i in range(capacity // 2 + 100):
    step = StepBatch(noise[i % 16], np.ones(2, np.float32), np.zeros(2, np.uint8))
    replay.append(step, acted)
print(estimate, replay.bytes_used, resident() - before)
"""


@pytest.mark.parametrize(
    ("capacity", "side", "width"), [(4_000, 84, 1024), (20_000, 84, 64), (100_000, 5, 64)]
)
def test_sequence_memory_of_frames_that_do_not_compress(
    capacity: int, side: int, width: int
) -> None:
    """Noise: the estimate is never passed, and what is counted is what is taken."""
    command = [sys.executable, "-c", RESIDENT, str(capacity), str(side), str(width)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    estimate, counted, taken = (int(word) for word in done.stdout.split())
    assert counted <= estimate
    assert 0.9 * counted - 4e6 <= taken <= 1.1 * counted + 4e6


@pytest.mark.parametrize("stack", [1, 2, 4])
def test_cut_sequence_stacks_ends_each_stack_with_its_row(stack: int) -> None:
    frames = torch.randint(0, 256, (stack + 6, 3, 4, 5), dtype=torch.uint8)
    cut = cut_sequence_stacks(frames, stack)
    assert cut.shape == (7, 3, stack, 4, 5)
    assert cut.data_ptr() == frames.data_ptr()
    for t in range(7):
        for b in range(3):
            assert torch.equal(cut[t, b], frames[t : t + stack, b])
