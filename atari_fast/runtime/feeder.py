"""Batches from the replay to the device."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from atari_fast.replay.transition import TransitionBatch, TransitionReplay


class Feeder:
    """Samples batches into memory that is allocated once.

    On CUDA two page-locked buffers take turns: while the device computes on one batch, the next
    one is
    sampled and copied on a stream of its own, so that the learner does not wait for data. A batch
    is
    then drawn one update before it is used, in the same order in every run.
    """

    def __init__(self, replay: TransitionReplay, size: int, device: torch.device) -> None:
        self._replay = replay
        self._device = device
        self._cuda = device.type == "cuda"
        self._buffers = [replay.new_batch(size, pinned=self._cuda) for _ in range(1 + self._cuda)]
        if self._cuda:
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self._copied = [torch.cuda.Event() for _ in self._buffers]  # type: ignore[no-untyped-call]
            self._turns = self._alternate()
            self._ahead: TransitionBatch | None = None
            self._ahead_done = self._copied[0]

    def next(self, beta: float) -> TransitionBatch:
        """The next batch on the device; it stays valid until the call after the next."""
        if not self._cuda:
            self._replay.sample_into(self._buffers[0], beta)
            return self._buffers[0]
        if self._ahead is None:
            self._prefetch(beta)
        batch = self._ahead
        assert batch is not None  # set by _prefetch
        stream = torch.cuda.current_stream(self._device)
        stream.wait_event(self._ahead_done)
        for field in batch[:-1]:
            field.record_stream(stream)
        self._prefetch(beta)
        return batch

    @staticmethod
    def _alternate() -> Iterator[int]:
        while True:
            yield 0
            yield 1

    def _prefetch(self, beta: float) -> None:
        turn = next(self._turns)
        buffer, copied = self._buffers[turn], self._copied[turn]
        copied.synchronize()  # the copy out of this buffer, two batches ago, is done
        self._replay.sample_into(buffer, beta)
        with torch.cuda.stream(self._stream):
            fields = [field.to(self._device, non_blocking=True) for field in buffer[:-1]]
            copied.record(self._stream)
        self._ahead = TransitionBatch._make([*fields, buffer.ids.clone()])
        self._ahead_done = copied
