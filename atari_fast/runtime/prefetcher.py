"""Batches from the memory to the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic

import torch

from atari_fast.agents.agent import B, Memory, map_batch, tensors_of
from atari_fast.infra.weights import checked_like


class Prefetcher(Generic[B]):
    """Samples batches into memory that is allocated once.

    On CUDA two page-locked buffers take turns: `prefetch`, called when an update is on its way,
    samples the next batch while the device computes and copies it on a stream of its own. A batch
    is then drawn one update before it is used, in the same order in every run. `next` moves it to
    where every batch is, as CUDA graphs need it. On the CPU `prefetch` does nothing.
    """

    def __init__(self, memory: Memory[B], size: int, device: torch.device) -> None:
        self._memory = memory
        self._device = device
        self._cuda = device.type == "cuda"
        self._buffers = [memory.new_batch(size, pinned=self._cuda) for _ in range(1 + self._cuda)]
        if self._cuda:
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self._copied = [torch.cuda.Event() for _ in self._buffers]  # type: ignore[no-untyped-call]
            self._turn = 0
            self._batch = to_device(self._buffers[0], device)
        self._ahead: B | None = None

    def next(self, beta: float) -> B:
        """The next batch on the device, in the same memory at every call.

        Args:
            beta: importance exponent.
        """
        if not self._cuda:
            self._memory.sample_into(self._buffers[0], beta)
            return self._buffers[0]
        if self._ahead is None:
            self._draw(beta)
        batch, self._ahead = self._ahead, None
        assert batch is not None  # prefetch has set it
        stream = torch.cuda.current_stream(self._device)
        stream.wait_event(self._copied[self._turn])
        arrived = iter(tensors_of(batch))

        def take(to: torch.Tensor) -> torch.Tensor:
            tensor = next(arrived)
            if not tensor.is_cuda:
                return tensor
            to.copy_(tensor)
            tensor.record_stream(stream)
            return to

        return map_batch(take, self._batch)

    def prefetch(self, beta: float) -> None:
        """Samples the batch after this one, if there is one, and starts its copy to the device."""
        if self._cuda and len(self._memory) > 0:
            self._draw(beta)

    def _draw(self, beta: float) -> None:
        self._turn = 1 - self._turn
        buffer, copied = self._buffers[self._turn], self._copied[self._turn]
        copied.synchronize()  # the copy out of this buffer, two batches ago, is done
        self._memory.sample_into(buffer, beta)
        with torch.cuda.stream(self._stream):
            self._ahead = to_device(buffer, self._device)
            copied.record(self._stream)

    def state(self) -> dict[str, Any]:
        """The batch that was drawn ahead, if there is one."""
        if self._ahead is not None:
            self._copied[self._turn].synchronize()
        return {"ahead": None if self._ahead is None else list(tensors_of(self._ahead))}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Hands out the batch of `state` next, where one was drawn ahead; the CPU draws anew."""
        if state["ahead"] is None or not self._cuda:
            return
        saved = iter(state["ahead"])
        batch = map_batch(lambda field: checked_like(next(saved), field), self._buffers[0])
        self._ahead = to_device(batch, self._device)


def to_device(batch: B, device: torch.device) -> B:
    """A copy of a batch on `device`; its ids are copied, too, but stay on the CPU."""

    def copy(tensor: torch.Tensor) -> torch.Tensor:
        if tensor is batch.ids:
            return tensor.clone()
        return tensor.to(device, non_blocking=True)

    return map_batch(copy, batch)
