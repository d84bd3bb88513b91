"""Episodic novelty for actors: the C++ memory behind typed settings and tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from atari_fast import _core
from atari_fast.replay.common import load_snapshot, save_snapshot


class EpisodicOptions(NamedTuple):
    """Settings of an `EpisodicMemory`; the defaults are NGU's (Badia et al. 2020, Table 5)."""

    num_envs: int
    """E, at least 1."""
    dim: int = 32
    """D, numbers of an embedding."""
    capacity: int = 30_000
    """Rows kept of each environment."""
    neighbours: int = 10
    """k, from 1 to 4096."""
    kernel_epsilon: float = 1e-4
    """eps > 0; appendix A.1 of the paper prints 1e-3."""
    cluster_distance: float = 0.008
    """xi >= 0, in units of the running mean."""
    pseudo_count: float = 0.001
    """c > 0."""
    max_similarity: float = 8.0
    """s_m > 0: rows that are more similar have reward 0."""
    short_memory: Literal["use", "zero", "scale"] = "scale"
    """While an environment holds k' < k rows: use their sum, reward 0, or the sum times k / k'."""
    mean_updates: int = 1000
    """Updates for which the running mean is a plain one, >= 0."""
    mean_rate: float = 1e-3
    """Rate of the exponential mean after them, in [0, 1]."""
    float16: bool = False
    """Round embeddings to float16 on arrival: 3 bytes a number, with its code, instead of 5."""
    threads: int = 1
    """Threads that share the environments; changes no result."""


def core_options(options: EpisodicOptions) -> _core.EpisodicMemoryOptions:
    """The same for C++; `memory_bytes` of the result is the most that the rows take."""
    return _core.EpisodicMemoryOptions(**options._asdict())


def as_numpy(tensor: torch.Tensor) -> NDArray[np.float32]:
    """The memory of a tensor on the CPU; `detach` takes a microsecond where it is not needed."""
    array: NDArray[np.float32] = (tensor.detach() if tensor.requires_grad else tensor).numpy()
    return array


class EpisodicMemory:
    """One memory of embeddings per environment (csrc/replay/episodic_memory.h); thread-safe."""

    def __init__(self, options: EpisodicOptions) -> None:
        self.options = options
        self._core = _core.EpisodicMemory(core_options(options))
        self._all = np.arange(options.num_envs)

    def novelty(
        self, embeddings: torch.Tensor, envs: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """Rewards new embeddings, then appends them to the memories of their environments.

        Args:
            embeddings: float32[E, D] on the CPU; only the rows of `envs` are looked at.
            envs: int64[L], each at most once; None stands for all.

        Returns:
            float32[L], the episodic rewards; 0 for the first row of a memory.
        """
        chosen = self._all if envs is None else envs
        rewards = np.empty(len(chosen), np.float32)
        self._core.novelty_into(as_numpy(embeddings), chosen, rewards)
        return rewards

    def append(self, embeddings: torch.Tensor, envs: NDArray[np.int64] | None = None) -> None:
        """Appends as `novelty` does, without rewards or an update of the running means."""
        self._core.append(as_numpy(embeddings), self._all if envs is None else envs)

    def reset(self, envs: NDArray[np.int64]) -> None:
        """Empties the memories of envs int64[L], at the end of their episodes."""
        self._core.reset(envs)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Rows that each environment holds, int64[E]."""
        return self._core.sizes

    @property
    def bytes_used(self) -> int:
        """Bytes that rows take so far."""
        return self._core.bytes_used

    def running_means(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Running means of the squared distances float64[E] and their updates int64[E]."""
        return self._core.running_means()

    def set_running_means(self, means: NDArray[np.float64], updates: NDArray[np.int64]) -> None:
        """Sets what `running_means` gives."""
        self._core.set_running_means(means, updates)

    def save(self, path: Path) -> None:
        """Writes the whole state but the number of threads; see `save_snapshot`."""
        save_snapshot(self._core, path)

    def load(self, path: Path) -> None:
        """Goes to the state of a memory with the same settings; see `load_snapshot`."""
        load_snapshot(self._core, path)
