"""Every array argument of every binding, wrong in every way: an error that names it, no crash."""

from __future__ import annotations

import dataclasses
import re
import threading
from collections.abc import Callable

import numpy as np
import pytest

from atari_fast import _core
from atari_fast.replay.episodic import EpisodicOptions, core_options
from overlap import check_overlap, pairs
from sequence_arrays import (
    filled_sequence_replay,
    listed,
    sequence_batch_arrays,
    sequence_row_arrays,
)
from wrong_arrays import (
    WRONG_LAYOUTS,
    WRONG_SHAPES,
    WRONG_TYPES,
    Array,
    read_only,
    swapped,
)

NUM_ENVS, STACK, N_STEP, SIDE, SIZE = 2, 2, 1, 5, 6
WINDOW = STACK + N_STEP
Arrays = dict[str, Array]


def replay_options(**changes: object) -> dict[str, object]:
    return {
        "num_envs": NUM_ENVS,
        "capacity": 40,
        "frame_shape": (SIDE, SIDE + 1),
        "stack": STACK,
        "n_step": N_STEP,
        "gamma": 0.99,
        "reward_clip": 1.0,
        "zero_discount_on_life_loss": False,
        "prioritized": True,
        "alpha": 0.6,
        "priority_epsilon": 1e-6,
        "uniform_mix": 0.0,
        "stratified": True,
        "buffer_max_weights": False,
        "frame_memory": 0,
        "threads": 1,
        "seed": 0,
        **changes,
    }


def row_arrays() -> Arrays:
    return {
        "frames": np.ones((NUM_ENVS, SIDE, SIDE + 1), np.uint8),
        "actions": np.zeros(NUM_ENVS, np.int64),
        "rewards": np.zeros(NUM_ENVS, np.float32),
        "flags": np.zeros(NUM_ENVS, np.uint8),
    }


def batch_arrays() -> Arrays:
    return {
        "frames": np.zeros((SIZE, WINDOW, SIDE, SIDE + 1), np.uint8),
        "actions": np.zeros(SIZE, np.int64),
        "rewards": np.zeros(SIZE, np.float32),
        "discounts": np.zeros(SIZE, np.float32),
        "steps": np.zeros(SIZE, np.int64),
        "weights": np.zeros(SIZE, np.float32),
        "ids": np.arange(SIZE),
    }


def filled_replay() -> _core.TransitionReplay:
    options = _core.TransitionReplayOptions(**replay_options())  # type: ignore[arg-type]
    replay = _core.TransitionReplay(options)
    for _ in range(8):
        replay.append(**row_arrays())  # type: ignore[arg-type]
    return replay


def filled_memory() -> _core.EpisodicMemory:
    options = EpisodicOptions(num_envs=NUM_ENVS, dim=SIDE, capacity=20)
    memory = _core.EpisodicMemory(core_options(options))
    for _ in range(8):
        memory.novelty_into(**novelty_arrays())  # type: ignore[arg-type]
    return memory


def novelty_arrays() -> Arrays:
    return {
        "embeddings": np.ones((NUM_ENVS, SIDE), np.float32),
        "envs": np.arange(NUM_ENVS),
        "rewards": np.zeros(NUM_ENVS, np.float32),
    }


REPLAY = filled_replay()
MEMORY = filled_memory()
SEQUENCES = filled_sequence_replay()
TREE = _core.SumTree(10)
FULL_TREE = _core.SumTree(10)
FULL_TREE.set(np.arange(10), np.ones(10))
SCREENS = (2, 2, 210, 160)


@dataclasses.dataclass(frozen=True)
class Binding:
    """A function that takes arrays: right ones, and which of them it writes."""

    call: Callable[..., object]
    arrays: Callable[[], Arrays]
    outputs: tuple[str, ...] = ()
    free_size: str = ""
    """Argument whose length may be anything, so that its own size is never wrong."""
    optional: str = ""
    """Argument that may be None."""


BINDINGS = {
    "append": Binding(REPLAY.append, row_arrays),
    "sample_into": Binding(
        lambda **arrays: REPLAY.sample_into(0.4, **arrays), batch_arrays, tuple(batch_arrays())
    ),
    "read_into": Binding(REPLAY.read_into, batch_arrays, tuple(batch_arrays())),
    "update_priorities": Binding(
        REPLAY.update_priorities,
        lambda: {"ids": np.array([1, 2, 3]), "priorities": np.ones(3, np.float32)},
        free_size="ids",
    ),
    "SequenceReplay.append": Binding(
        lambda **arrays: SEQUENCES.append(**listed(arrays)),  # type: ignore[arg-type]
        sequence_row_arrays,
    ),
    "append to some": Binding(
        REPLAY.append,
        lambda: {**row_arrays(), "envs": np.arange(NUM_ENVS)[::-1].copy()},
        optional="envs",
    ),
    "SequenceReplay.sample_into": Binding(
        lambda **arrays: SEQUENCES.sample_into(0.6, **listed(arrays)),  # type: ignore[arg-type]
        sequence_batch_arrays,
        tuple(sequence_batch_arrays()),
        free_size="ids",
    ),
    "SequenceReplay.set_priorities": Binding(
        SEQUENCES.set_priorities,
        lambda: {"ids": np.array([0, 1, 2]), "priorities": np.ones(3, np.float32)},
        free_size="ids",
    ),
    "SumTree.set": Binding(
        TREE.set,
        lambda: {"indices": np.array([1, 2, 3]), "weights": np.ones(3)},
        free_size="indices",
    ),
    "SumTree.find_into": Binding(
        FULL_TREE.find_into,
        lambda: {"us": np.zeros(3), "leaves": np.zeros(3, np.int64)},
        ("leaves",),
        free_size="us",
    ),
    "novelty_into": Binding(MEMORY.novelty_into, novelty_arrays, ("rewards",)),
    "append_rows": Binding(
        MEMORY.append,
        lambda: {"embeddings": np.ones((NUM_ENVS, SIDE), np.float32), "envs": np.arange(NUM_ENVS)},
        free_size="envs",
    ),
    "reset": Binding(MEMORY.reset, lambda: {"envs": np.arange(NUM_ENVS)}, free_size="envs"),
    "set_running_means": Binding(
        MEMORY.set_running_means,
        lambda: {"means": np.ones(NUM_ENVS), "updates": np.ones(NUM_ENVS, np.int64)},
    ),
    "preprocess_palette": Binding(
        _core.preprocess_palette,
        lambda: {
            "screens": np.zeros(SCREENS, np.uint8),
            "luma": np.zeros(256, np.uint8),
            "out": np.zeros((2, 84, 84), np.uint8),
        },
        ("out",),
        free_size="screens",
    ),
    "preprocess_gray": Binding(
        _core.preprocess_gray,
        lambda: {"screens": np.zeros(SCREENS, np.uint8), "out": np.zeros((2, 84, 84), np.uint8)},
        ("out",),
        free_size="screens",
    ),
}


def cases() -> list[object]:
    found: list[object] = []
    for name, binding in BINDINGS.items():
        arrays = binding.arrays()
        for argument, array in arrays.items():
            wrong: dict[str, tuple[type[Exception], object]] = {}
            for kind, make in WRONG_TYPES.items():
                value = make(array)
                if value is None and argument == binding.optional:
                    continue
                if getattr(value, "dtype", None) != array.dtype or not isinstance(
                    value, np.ndarray
                ):
                    wrong[kind] = (TypeError, value)
            if array.itemsize > 1:
                wrong["byte-swapped"] = (TypeError, swapped(array))
            for kind, make_shape in WRONG_SHAPES.items():
                value = make_shape(array)
                same_rank = value.ndim == array.ndim and value.shape[1:] == array.shape[1:]
                if not (argument == binding.free_size and same_rank):
                    wrong[kind] = (ValueError, value)
            for kind, make_layout in WRONG_LAYOUTS.items():
                value = make_layout(array)
                if not (value.flags.c_contiguous and value.flags.aligned):
                    wrong[kind] = (ValueError, value)
            if argument in binding.outputs:
                wrong["read-only"] = (ValueError, read_only(array.copy()))
            found += [
                pytest.param(name, argument, error, value, id=f"{name}-{argument}-{kind}")
                for kind, (error, value) in wrong.items()
            ]
    return found


@pytest.mark.parametrize(("name", "argument", "error", "value"), cases())
def test_a_wrong_array_is_refused_by_name(
    name: str, argument: str, error: type[Exception], value: object
) -> None:
    binding = BINDINGS[name]
    arrays = binding.arrays()
    before = {key: array.copy() for key, array in arrays.items()}
    named = re.escape(argument)
    if name in ("sample_into", "read_into") and argument == "actions" and error is ValueError:
        named = "actions|frames|batch"  # the length of actions is the batch size of the others
    if name == "append to some" and argument == "envs" and error is ValueError:
        named = "envs|frames"  # the length of envs is that of the others
    if name == "novelty_into" and argument == "envs" and error is ValueError:
        named = "envs|rewards"  # so is the length of envs
    with pytest.raises(error, match=rf"^({named})(:|\b)"):
        binding.call(**{**arrays, argument: value})
    for key, array in arrays.items():
        np.testing.assert_array_equal(array, before[key])


@pytest.mark.parametrize(
    ("append", "arrays", "counted"),
    [
        (REPLAY.append, row_arrays(), REPLAY),
        (SEQUENCES.append, listed(sequence_row_arrays()), SEQUENCES),
    ],
    ids=["transitions", "sequences"],
)
@pytest.mark.parametrize(
    ("envs", "error", "message"),
    [
        ([0, 0], ValueError, r"^envs\[1\]: expected every environment at most once, got 0 again$"),
        ([1, 2], ValueError, r"^envs\[1\]: expected an environment from 0 to 1, got 2$"),
        ([-1, 0], ValueError, r"^envs\[0\]: expected an environment from 0 to 1, got -1$"),
        ([0], ValueError, r"^frames: expected uint8\[1, 5, 6\], got uint8\[2, 5, 6\]$"),
        ([], ValueError, r"^frames: expected uint8\[0, 5, 6\], got uint8\[2, 5, 6\]$"),
        ([[0, 1]], ValueError, r"^envs: expected int64\[any\], got int64\[1, 2\]$"),
        ([0.0, 1.0], TypeError, r"^envs: expected int64\[any\], got float64\[2\]"),
    ],
)
def test_environments_that_are_none_or_come_twice_are_refused(
    append: Callable[..., object],
    arrays: dict[str, object],
    counted: _core.TransitionReplay | _core.SequenceReplay,
    envs: list[object],
    error: type[Exception],
    message: str,
) -> None:
    rows = counted.num_rows
    kind = np.int64 if envs == [] else None
    with pytest.raises(error, match=message):
        append(**arrays, envs=np.array(envs, kind))
    assert counted.num_rows == rows


def test_the_table_is_a_large_one() -> None:
    assert len(cases()) > 500


@pytest.mark.parametrize("name", BINDINGS)
def test_right_arrays_are_taken(name: str) -> None:
    binding = BINDINGS[name]
    binding.call(**binding.arrays())
    inputs = {
        key: array if key in binding.outputs else read_only(array)
        for key, array in binding.arrays().items()
    }
    binding.call(**inputs)  # an input may be read-only


@pytest.mark.parametrize(("later", "earlier"), pairs(batch_arrays()))
def test_overlapping_batch_arrays_are_refused(later: str, earlier: str) -> None:
    check_overlap(lambda a: REPLAY.sample_into(0.4, **a), batch_arrays(), later, earlier)  # type: ignore[arg-type]


@pytest.mark.parametrize("overlapped", ["screens", "luma"])
def test_overlapping_frames_are_refused(overlapped: str) -> None:
    memory = np.zeros(2 * 210 * 160 + 84 * 84, np.uint8)
    for shift in (0, 2 * 210 * 160 - 1):
        screens = memory[: 2 * 210 * 160].reshape(1, 2, 210, 160)
        out = memory[shift : shift + 84 * 84].reshape(1, 84, 84)
        luma = out.reshape(-1)[-256:] if overlapped == "luma" else np.zeros(256, np.uint8)
        source = screens.copy() if overlapped == "luma" else screens
        with pytest.raises(ValueError, match=rf"^out: .*overlaps {overlapped}"):
            _core.preprocess_palette(source, luma, out)
        if overlapped == "screens":
            with pytest.raises(ValueError, match=r"^out: .*overlaps screens"):
                _core.preprocess_gray(screens, out)


@pytest.mark.parametrize("overlapped", ["embeddings", "envs"])
def test_overlapping_rewards_are_refused(overlapped: str) -> None:
    arrays = novelty_arrays()
    arrays["rewards"] = arrays[overlapped].reshape(-1).view(np.float32)[:NUM_ENVS]
    with pytest.raises(ValueError, match=rf"^rewards: .*overlaps {overlapped}"):
        MEMORY.novelty_into(**arrays)  # type: ignore[arg-type]


HUGE = 2**62
BAD_OPTIONS: list[tuple[str, list[object]]] = [
    ("num_envs", [0, -1, HUGE]),
    ("capacity", [0, -1, 2, HUGE, 2**63 - 1]),
    ("stack", [0, -1, 40, HUGE]),
    ("n_step", [0, -1, 40, HUGE]),
    ("frame_shape", [(0, 5), (5, -1), (HUGE, 4), (2**32, 2**32), (2**31, 2**31)]),
    ("gamma", [-0.1, 1.1, np.nan]),
    ("reward_clip", [-1.0, np.nan, np.inf]),
    ("alpha", [-0.1, 1.1, np.nan]),
    ("priority_epsilon", [0.0, -1.0, np.nan, np.inf]),
    ("uniform_mix", [-0.1, 1.1, np.nan]),
]


@pytest.mark.parametrize(
    ("option", "value"), [(option, value) for option, values in BAD_OPTIONS for value in values]
)
def test_bad_options_are_refused(option: str, value: object) -> None:
    names = {
        "num_envs": "num_envs|capacity",
        "stack": "stack|capacity",
        "n_step": "n_step|capacity",
    }
    with pytest.raises(ValueError, match=f"^({names.get(option, option)}|frame_bytes)"):
        _core.TransitionReplayOptions(**replay_options(**{option: value}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("seed", -1),
        ("seed", 2**64),
        ("seed", 1.5),
        ("num_envs", "2"),
        ("num_envs", 2**63),
        ("gamma", None),
    ],
)
def test_options_of_another_type_are_refused(option: str, value: object) -> None:
    with pytest.raises(TypeError):
        _core.TransitionReplayOptions(**replay_options(**{option: value}))  # type: ignore[arg-type]


@pytest.mark.parametrize("beta", [-1.0, np.nan, np.inf, -np.inf])
def test_bad_beta_is_refused(beta: float) -> None:
    with pytest.raises(ValueError, match=r"^beta"):
        REPLAY.sample_into(beta, **batch_arrays())  # type: ignore[arg-type]


def test_an_empty_batch_is_refused_and_empty_updates_do_nothing() -> None:
    arrays = {key: array[:0] for key, array in batch_arrays().items()}
    with pytest.raises(ValueError, match=r"^batch"):
        REPLAY.sample_into(0.4, **arrays)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^batch"):
        REPLAY.read_into(**arrays)  # type: ignore[arg-type]
    assert REPLAY.update_priorities(np.zeros(0, np.int64), np.zeros(0, np.float32)) == 0
    TREE.set(np.zeros(0, np.int64), np.zeros(0))


@pytest.mark.parametrize(
    ("num_envs", "capacity", "side"),
    [(1, 0, 1), (1, 9, 0), (1, -1, 1), (0, 9, 1), (1, HUGE, 4), (1, 2**32, 2**15), (1, 4, 2**40)],
)
def test_a_memory_estimate_never_wraps_around(num_envs: int, capacity: int, side: int) -> None:
    sizes = {"num_envs": num_envs, "capacity": capacity, "frame_shape": (side, side)}
    with pytest.raises(ValueError, match=r"num_envs|capacity|frame_shape|frame_bytes"):
        _ = _core.TransitionReplayOptions(**replay_options(**sizes)).memory_bytes  # type: ignore[arg-type]


def test_lifetimes_and_threads() -> None:
    """Batches outlive their replay; a replay that a thread uses outlives its name."""
    for _ in range(50):
        replay = filled_replay()
        batches = [batch_arrays() for _ in range(3)]
        threads = [
            threading.Thread(target=replay.sample_into, args=(0.4, *batch.values()))
            for batch in batches
        ]
        threads.append(threading.Thread(target=replay.append, args=(*row_arrays().values(),)))
        for thread in threads:
            thread.start()
        del replay
        for thread in threads:
            thread.join()
        assert all((batch["frames"][:, STACK - 1] == 1).all() for batch in batches)
