"""The C++ core of atari_fast: frame preprocessing and replay."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__version__: str

def preprocess_palette(
    screens: NDArray[np.uint8], luma: NDArray[np.uint8], out: NDArray[np.uint8]
) -> None:
    """Turns N pairs of palette screens into frames and releases the GIL meanwhile.

    Gray levels by table, elementwise max of the pair, area resize.

    Args:
        screens: uint8[N, 2, 210, 160], palette indices.
        luma: uint8[256], the gray level of each index.
        out: uint8[N, 84, 84], written; overlaps neither input.
    """

def preprocess_gray(screens: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """As `preprocess_palette`, from screens uint8[N, 2, 210, 160] that are gray levels."""

def instruction_set() -> str:
    """Name of the vector instruction set in use: scalar, avx2, avx512 or neon."""

def set_instruction_set(name: str) -> None:
    """Uses the named one of `instruction_sets()` from now on; all give equal results."""

def instruction_sets() -> list[str]:
    """Names of the instruction sets that this CPU has, slowest first."""

class SnapshotError(ValueError):
    """A snapshot that cannot be written or must not be read."""

class _Pybind11Type(type):
    """Stands for the metaclass that pybind11 gives its classes."""

class SumTree(metaclass=_Pybind11Type):
    """Sum tree over non-negative float64 weights."""

    def __init__(self, size: int) -> None:
        """A tree of `size` leaves of weight 0."""

    def set(self, indices: NDArray[np.int64], weights: NDArray[np.float64]) -> None:
        """Sets weights float64[n] of leaves int64[n]; of equal indices the last one wins."""

    def get(self, index: int) -> float:
        """Weight of a leaf."""

    def find(self, u: float) -> int:
        """The leaf in whose share of [0, total) u falls; never one of weight 0."""

    def find_into(self, us: NDArray[np.float64], leaves: NDArray[np.int64]) -> None:
        """Many at once: us float64[n] into leaves int64[n]."""

    @property
    def total(self) -> float:
        """Sum of all weights."""

class TransitionReplayOptions(metaclass=_Pybind11Type):
    """Checked settings of a TransitionReplay; they are those of csrc/replay/transition_replay.h."""

    def __init__(
        self,
        *,
        num_envs: int,
        capacity: int,
        frame_shape: tuple[int, int],
        stack: int,
        n_step: int,
        gamma: float,
        reward_clip: float,
        zero_discount_on_life_loss: bool,
        prioritized: bool,
        alpha: float,
        priority_epsilon: float,
        uniform_mix: float,
        stratified: bool,
        buffer_max_weights: bool,
        frame_memory: int,
        threads: int,
        seed: int,
    ) -> None:
        """Checks all settings."""

    @property
    def memory_bytes(self) -> int:
        """The most bytes of memory that such a replay ever takes."""

class TransitionReplay(metaclass=_Pybind11Type):
    """Replay of n-step transitions over stacks of frames; all methods are thread-safe.

    E environments, frames of H x W, observations of `stack` frames, n = `n_step`.
    """

    def __init__(self, options: TransitionReplayOptions) -> None:
        """Starts the threads; frames take memory as they come."""

    def append(
        self,
        frames: NDArray[np.uint8],
        actions: NDArray[np.int64],
        rewards: NDArray[np.float32],
        flags: NDArray[np.uint8],
        envs: NDArray[np.int64] | None = None,
    ) -> None:
        """Appends one row to each of n environments.

        Args:
            frames: uint8[n, H, W].
            actions: int64[n], from 0 to 255.
            rewards: float32[n].
            flags: uint8[n].
            envs: The environments, distinct, int64[n]; None: all E in order.
        """

    def sample_into(
        self,
        beta: float,
        frames: NDArray[np.uint8],
        actions: NDArray[np.int64],
        rewards: NDArray[np.float32],
        discounts: NDArray[np.float32],
        steps: NDArray[np.int64],
        weights: NDArray[np.float32],
        ids: NDArray[np.int64],
    ) -> None:
        """Draws B transitions into the given arrays, no two of which may overlap.

        Args:
            beta: Exponent of the importance weights.
            frames: uint8[B, stack + n, H, W].
            actions: int64[B].
            rewards: float32[B].
            discounts: float32[B].
            steps: int64[B].
            weights: float32[B].
            ids: int64[B].
        """

    def valid_ids(self) -> NDArray[np.int64]:
        """Ids int64[num_valid] of all transitions that can be drawn, ascending."""

    def read_into(
        self,
        frames: NDArray[np.uint8],
        actions: NDArray[np.int64],
        rewards: NDArray[np.float32],
        discounts: NDArray[np.float32],
        steps: NDArray[np.int64],
        weights: NDArray[np.float32],
        ids: NDArray[np.int64],
    ) -> None:
        """Fills the arrays of `sample_into` with the transitions of `ids`, in their order.

        The weights are 1. Nothing of the replay changes.

        Raises:
            ValueError: An id is none of `valid_ids()`; nothing is then written.
        """

    def update_priorities(self, ids: NDArray[np.int64], priorities: NDArray[np.float32]) -> int:
        """Sets priorities float32[n] of ids int64[n]; returns how many ids were stale."""

    def save(self, path: str, *, split: bool = False, previous: str = "") -> None:
        """Writes the whole state to a file.

        With `split` what will never change again goes into files beside it (of x.bin x-NAME.bin),
        which are linked where those of the snapshot `previous` are equal.

        Raises:
            SnapshotError: The file cannot be written.
        """

    def load(self, path: str) -> None:
        """Takes the state of a replay with the same settings out of a file.

        Until all is read both states are in memory: `bytes_used` of the saved one beside this one.

        Raises:
            SnapshotError: The file is damaged or another replay's; this one is then as it was.
        """

    @property
    def bytes_used(self) -> int:
        """Bytes taken now."""

    @property
    def num_valid(self) -> int:
        """Transitions that can be drawn."""

    @property
    def num_rows(self) -> int:
        """Rows appended so far over all environments."""

class EpisodicMemoryOptions(metaclass=_Pybind11Type):
    """Settings of an EpisodicMemory; they are those of csrc/replay/episodic_memory.h."""

    def __init__(
        self,
        *,
        num_envs: int,
        capacity: int,
        dim: int,
        neighbours: int,
        kernel_epsilon: float,
        cluster_distance: float,
        pseudo_count: float,
        max_similarity: float,
        short_memory: str,
        mean_updates: int,
        mean_rate: float,
        float16: bool,
        threads: int,
    ) -> None:
        """Checks types and signs; the memory checks the rest."""

    @property
    def memory_bytes(self) -> int:
        """The most bytes that the rows of such a memory take."""

class EpisodicMemory(metaclass=_Pybind11Type):
    """Embeddings of E environments and the novelty of new ones; all methods are thread-safe.

    Embeddings have D = `dim` numbers.
    """

    def __init__(self, options: EpisodicMemoryOptions) -> None:
        """Checks the settings and reserves memory that is taken as rows arrive."""

    def novelty_into(
        self,
        embeddings: NDArray[np.float32],
        envs: NDArray[np.int64],
        rewards: NDArray[np.float32],
    ) -> None:
        """Rewards rows by how far they are from those of their environments, then appends them.

        Args:
            embeddings: float32[E, D]; only the rows of `envs` are looked at.
            envs: int64[L], each at most once.
            rewards: float32[L], written; overlaps neither input.
        """

    def append(self, embeddings: NDArray[np.float32], envs: NDArray[np.int64]) -> None:
        """Appends the rows of float32[E, D] that envs int64[L] names, without a reward."""

    def reset(self, envs: NDArray[np.int64]) -> None:
        """Empties the memories of envs int64[L]; running means stay."""

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Rows that each environment holds, int64[E]."""

    def running_means(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Running means of the squared distances float64[E] and their updates int64[E]."""

    def set_running_means(self, means: NDArray[np.float64], updates: NDArray[np.int64]) -> None:
        """Sets what `running_means` gives."""

    def save(self, path: str) -> None:
        """Writes everything but the number of threads to a file; `SnapshotError` on failure."""

    def load(self, path: str) -> None:
        """Goes to the state of a file of a memory with the same settings.

        `SnapshotError` when it is damaged or of other settings; nothing is then changed.
        """

    @property
    def bytes_used(self) -> int:
        """Bytes that rows take so far."""

class SequenceReplayOptions(metaclass=_Pybind11Type):
    """Checked settings of a SequenceReplay; they are those of csrc/replay/sequence_options.h."""

    def __init__(
        self,
        *,
        num_envs: int,
        capacity: int,
        frame_shape: tuple[int, int],
        stack: int,
        burn_in: int,
        unroll: int,
        period: int,
        bootstrap_steps: int,
        tail: str,
        columns: Sequence[tuple[str, str, int]],
        states: Sequence[tuple[str, str, int]],
        unroll_states: bool,
        max_sequences: int,
        prioritized: bool,
        alpha: float,
        priority_epsilon: float,
        uniform_mix: float,
        buffer_max_weights: bool,
        stratified: bool,
        frame_memory: int,
        threads: int,
        seed: int,
    ) -> None:
        """Checks all settings.

        `tail` is shift or mask. Columns and states are (name, dtype, width), with a dtype of
        float32 or float16; columns may also be uint8, int32 or int64. With `unroll_states` a
        sequence has the states before its first unroll row too.
        """

    @property
    def memory_bytes(self) -> int:
        """The most bytes of memory that such a replay ever takes."""

class SequenceReplay(metaclass=_Pybind11Type):
    """Replay of overlapping sequences with stored recurrent states; all methods are thread-safe.

    E environments, frames of H x W, L = `unroll`, T = `burn_in` + L + `bootstrap_steps`.
    """

    def __init__(self, options: SequenceReplayOptions) -> None:
        """Starts the threads; frames take memory as they come."""

    def append(
        self,
        frames: NDArray[np.uint8],
        actions: NDArray[np.int64],
        rewards: NDArray[np.float32],
        flags: NDArray[np.uint8],
        columns: Sequence[NDArray[np.generic]],
        states: Sequence[NDArray[np.generic]],
        envs: NDArray[np.int64] | None = None,
    ) -> NDArray[np.int64]:
        """Appends one row to each of n environments.

        Args:
            frames: uint8[n, H, W].
            actions: int64[n], from 0 to 255.
            rewards: float32[n].
            flags: uint8[n].
            columns: A list or tuple of [n, width] arrays in the order of the settings.
            states: The same, recurrent states before this row is fed to the network.
            envs: The environments, distinct, int64[n]; None: all E in order.

        Returns:
            int64[k, 5]: id, environment, row number of the first unroll row, valid length and
            bootstrap length of each sequence that this made.
        """

    def sample_into(
        self,
        beta: float,
        frames: NDArray[np.uint8],
        actions: NDArray[np.int64],
        prev_actions: NDArray[np.int64],
        rewards: NDArray[np.float32],
        flags: NDArray[np.uint8],
        columns: Sequence[NDArray[np.generic]],
        states: Sequence[NDArray[np.generic]],
        burn_in: NDArray[np.int64],
        valid_length: NDArray[np.int64],
        bootstrap_length: NDArray[np.int64],
        weights: NDArray[np.float32],
        ids: NDArray[np.int64],
    ) -> None:
        """Draws B sequences into the given arrays, no two of which may overlap.

        Args:
            beta: Exponent of the importance weights.
            frames: uint8[stack - 1 + T, B, H, W].
            actions: int64[T, B].
            prev_actions: int64[T, B].
            rewards: float32[T, B].
            flags: uint8[T, B].
            columns: A list or tuple of [T, B, width] arrays.
            states: A list or tuple of [B, width] arrays: the states before the first row that
                exists, and then, with `unroll_states`, those before the first unroll row.
            burn_in: int64[B].
            valid_length: int64[B].
            bootstrap_length: int64[B].
            weights: float32[B].
            ids: int64[B].
        """

    def set_priorities(self, ids: NDArray[np.int64], priorities: NDArray[np.float32]) -> int:
        """Sets priorities float32[n] of ids int64[n]; returns how many ids were stale."""

    def save(self, path: str, *, split: bool = False, previous: str = "") -> None:
        """Writes the whole state to a file.

        With `split` what will never change again goes into files beside it (of x.bin x-NAME.bin),
        which are linked where those of the snapshot `previous` are equal.

        Raises:
            SnapshotError: The file cannot be written.
        """

    def load(self, path: str) -> None:
        """Takes the state of a replay with the same settings out of a file.

        Until all is read both states are in memory: `bytes_used` of the saved one beside this one.

        Raises:
            SnapshotError: The file is damaged or another replay's; this one is then as it was.
        """

    @property
    def bytes_used(self) -> int:
        """Bytes taken now."""

    @property
    def num_sequences(self) -> int:
        """Sequences that can be drawn."""

    @property
    def num_rows(self) -> int:
        """Rows appended so far over all environments."""

    @property
    def num_dropped(self) -> int:
        """Sequences dropped because max_sequences was reached."""
