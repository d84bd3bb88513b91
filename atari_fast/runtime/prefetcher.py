"""Batches from the replay to the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from atari_fast.infra.weights import checked_like
from atari_fast.replay.transition import TransitionBatch, TransitionReplay


class Prefetcher:
    """Samples batches into memory that is allocated once.

    On CUDA two page-locked buffers take turns: `prefetch`, called when an update is on its way,
    samples the next batch while the device computes and copies it on a stream of its own. A batch
    is then drawn one update before it is used, in the same order in every run. On the CPU
    `prefetch` does nothing.
    """

    def __init__(self, replay: TransitionReplay, size: int, device: torch.device) -> None:
        self._replay = replay
        self._device = device
        self._cuda = device.type == "cuda"
        self._buffers = [replay.new_batch(size, pinned=self._cuda) for _ in range(1 + self._cuda)]
        if self._cuda:
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self._copied = [torch.cuda.Event() for _ in self._buffers]  # type: ignore[no-untyped-call]
            self._turn = 0
        self._ahead: TransitionBatch | None = None

    def next(self, beta: float) -> TransitionBatch:
        """The next batch on the device, valid until the next call; `beta`: importance exponent."""
        if not self._cuda:
            self._replay.sample_into(self._buffers[0], beta)
            return self._buffers[0]
        if self._ahead is None:
            self.prefetch(beta)
        batch, self._ahead = self._ahead, None
        assert batch is not None  # prefetch has set it
        stream = torch.cuda.current_stream(self._device)
        stream.wait_event(self._copied[self._turn])
        for field in batch[:-1]:
            field.record_stream(stream)
        return batch

    def prefetch(self, beta: float) -> None:
        """Samples the batch after this one and starts its copy to the device."""
        if not self._cuda:
            return
        self._turn = 1 - self._turn
        buffer, copied = self._buffers[self._turn], self._copied[self._turn]
        copied.synchronize()  # the copy out of this buffer, two batches ago, is done
        self._replay.sample_into(buffer, beta)
        with torch.cuda.stream(self._stream):
            fields = [field.to(self._device, non_blocking=True) for field in buffer[:-1]]
            copied.record(self._stream)
        self._ahead = TransitionBatch._make([*fields, buffer.ids.clone()])

    def state(self) -> dict[str, Any]:
        """The batch that was drawn ahead, if there is one."""
        if self._ahead is not None:
            self._copied[self._turn].synchronize()
        return {"ahead": None if self._ahead is None else list(self._ahead)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Hands out the batch of `state` next, where one was drawn ahead; the CPU draws anew."""
        if state["ahead"] is None or not self._cuda:
            return
        pairs = zip(state["ahead"], self._buffers[0], strict=True)
        *fields, ids = (checked_like(value, field) for value, field in pairs)
        self._ahead = TransitionBatch._make([*(field.to(self._device) for field in fields), ids])
