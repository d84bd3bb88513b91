"""Gradients: on the CPU each thread computes those of a share of the batch; on CUDA, a graph.

Torch's own threads split every operation and synchronise some hundred times per update; when
another process takes a core for a few milliseconds, every synchronisation waits for it. Here the
threads synchronise once per update, and where even that is slower than one thread, because other
processes use the cores, one thread computes all shares in turn, with equal results.
docs/performance.md has the measurements, including the large bfloat16 networks for which torch's
threads are faster on idle cores.

On CUDA the kernels of an update take less time than it takes to launch them one by one. They are
recorded once as a CUDA graph, which launches all of them together.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, NamedTuple

import torch
from torch import nn

from atari_fast.agents.agent import SMALLEST_SHARE, B, LossOutput, tensors_of
from atari_fast.nets.noise import drawing_from
from atari_fast.runtime.device import Autocast

_EAGER_UPDATES = 3
"""Updates on CUDA before the graph is recorded, in which libraries set themselves up."""


class BatchResult(NamedTuple):
    """Loss, priorities and metrics of one batch."""

    loss: torch.Tensor
    """Mean of the weighted losses, a scalar."""
    priorities: torch.Tensor
    """float32[B]"""
    metrics: Mapping[str, torch.Tensor]
    """Scalars, means over the batch."""


class _Graph:
    """A CUDA graph of what a function computes from a batch."""

    def __init__(
        self,
        compute: Callable[[Any], BatchResult],
        batch: Any,
        params: Sequence[nn.Parameter],
    ) -> None:
        """Record what `compute` does with `batch`, whose memory every later batch has to be in.

        Args:
            compute: computes the result, and gradients into `.grad` of the parameters.
            batch: the batch.
            params: the parameters.
        """
        self._memory = _addresses(batch)
        self._graph = torch.cuda.CUDAGraph()
        device = batch.weights.device
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        with (
            torch.cuda.device(device),
            torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"),
        ):
            self._result = compute(batch)
            metrics = [value.float() for value in self._result.metrics.values()]
            self._scalars = torch.stack([self._result.loss, *metrics])
        self._gradients = [(param, param.grad) for param in params]

    def replay(self, batch: Any) -> BatchResult:
        """The result for the batch that is now in that memory."""
        if _addresses(batch) != self._memory:
            raise ValueError("expected every batch in the memory of the first one")
        self._graph.replay()
        for param, gradient in self._gradients:  # where the graph writes it
            param.grad = gradient
        loss, *metrics = self._scalars.clone().unbind()  # the next replay overwrites them
        names = self._result.metrics
        return BatchResult(loss, self._result.priorities, dict(zip(names, metrics, strict=True)))


def _addresses(batch: Any) -> list[int]:
    return [tensor.data_ptr() for tensor in tensors_of(batch) if tensor.is_cuda]


class ThreadChoice:
    """Chooses the faster of two ways to compute the shares of a batch: in parallel, or in turn.

    At the start of every period of 200 updates both ways are timed. Only speed depends on the
    choice, so it is not part of any checkpoint.
    """

    PERIOD = 200
    TRIES = 6
    """Updates for which each way is timed; the first of them is not counted."""
    GAIN = 0.95
    """The other way replaces the present one if it takes less than this fraction of its time."""

    def __init__(self) -> None:
        self._parallel = True
        self._call = 0
        self._seconds: list[float] = []

    def parallel(self) -> bool:
        """Whether the next update computes its shares in parallel."""
        return self._parallel != (self._call % self.PERIOD < self.TRIES)

    def took(self, seconds: float) -> None:
        """Record the duration of an update that followed `parallel`."""
        self._seconds.append(seconds)
        self._call += 1
        phase = self._call % self.PERIOD
        if phase == 2 * self.TRIES:
            tried = self._seconds[1 : self.TRIES]
            present = self._seconds[self.TRIES + 1 :]
            if statistics.median(tried) < self.GAIN * statistics.median(present):
                self._parallel = not self._parallel
        if not 0 < phase < 2 * self.TRIES:
            self._seconds.clear()


class Gradients(Generic[B]):
    """Computes the gradient of the mean loss of a batch into `.grad` of a network's parameters.

    Each of the K shares draws its random numbers (noise, quantile levels) from its own generator,
    and the shares' gradients are summed in a fixed order, so the result depends on K but not on
    thread scheduling.
    """

    def __init__(
        self,
        loss: Callable[[B], LossOutput],
        net: nn.Module,
        autocast: Autocast,
        batch_size: int,
        threads: int,
        smallest_share: int = SMALLEST_SHARE,
    ) -> None:
        """Start the threads.

        Args:
            loss: loss of a batch.
            net: network to train.
            autocast: precision in which the loss is computed.
            batch_size: B.
            threads: maximum number of threads. With one thread the calling thread computes
                everything and draws from torch's default generator.
            smallest_share: fewest items of a share.
        """
        self._loss = loss
        self._params = list(net.parameters())
        self._autocast = autocast
        self._batch_size = batch_size
        self._updates = 0
        self._graph: _Graph | None = None
        self.shares = max(1, min(threads, batch_size // smallest_share))
        self._generators: list[torch.Generator] = []
        if self.shares > 1:
            seeds = torch.randint(2**62, (self.shares,)).tolist()
            self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
            self._choice = ThreadChoice()
            self._pool = ThreadPoolExecutor(
                self.shares - 1, "learner", initializer=torch.set_num_threads, initargs=(1,)
            )

    def __call__(self, batch: B) -> BatchResult:
        """Compute the gradients of a batch, replacing those of earlier batches.

        On CUDA every batch has to be in the memory of the first one, and the next call overwrites
        priorities and gradients.
        """
        if self.shares == 1:
            if not batch.weights.is_cuda or self._updates < _EAGER_UPDATES:
                self._updates += 1
                return self._whole(batch)
            if self._graph is None:
                self._graph = _Graph(self._whole, batch, self._params)
            return self._graph.replay(batch)
        bounds = [self._batch_size * k // self.shares for k in range(self.shares + 1)]
        shares = [batch.slice(begin, end) for begin, end in itertools.pairwise(bounds)]
        start = time.perf_counter()
        if self._choice.parallel():
            results = self._in_parallel(shares)
        else:
            results = [self._share(k, share) for k, share in enumerate(shares)]
        self._choice.took(time.perf_counter() - start)
        return self._sum(results)

    def _whole(self, batch: B) -> BatchResult:
        """Result of a batch in one piece."""
        with self._autocast():
            out = self._loss(batch)
        loss = (batch.weights * out.losses).mean()
        for param in self._params:
            param.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        return BatchResult(loss.detach(), out.priorities, out.metrics)

    def _in_parallel(self, shares: Sequence[B]) -> list[tuple[BatchResult, list[torch.Tensor]]]:
        """Results of all shares; the calling thread computes the first one."""
        others = [self._pool.submit(self._share, k, shares[k]) for k in range(1, self.shares)]
        try:
            first = self._share(0, shares[0])
        finally:  # wait for all threads: the caller may change the batch and the weights
            errors = [other.exception() for other in others]
        for error in errors:
            if error is not None:
                raise error
        return [first, *(other.result() for other in others)]

    def _share(self, k: int, batch: B) -> tuple[BatchResult, list[torch.Tensor]]:
        """Loss and gradients of share `k`, weighted by its fraction of the batch."""
        with drawing_from(self._generators[k]):
            with self._autocast():
                out = self._loss(batch)
            loss = (batch.weights * out.losses).sum() / self._batch_size
            gradients = torch.autograd.grad(loss, self._params, materialize_grads=True)
        part = len(batch.weights) / self._batch_size
        metrics = {name: value * part for name, value in out.metrics.items()}
        return BatchResult(loss.detach(), out.priorities, metrics), list(gradients)

    @torch.no_grad()
    def _sum(self, results: list[tuple[BatchResult, list[torch.Tensor]]]) -> BatchResult:
        for param, *parts in zip(self._params, *(part for _, part in results), strict=True):
            if param.grad is None:
                param.grad = torch.empty_like(param)  # fused steps read both in memory's order
            torch.add(parts[0], parts[1], out=param.grad)
            for part in parts[2:]:
                param.grad.add_(part)
        first, *others = (result for result, _ in results)
        return BatchResult(
            sum((other.loss for other in others), first.loss),
            torch.cat([first.priorities, *(other.priorities for other in others)]),
            {
                name: sum((other.metrics[name] for other in others), value)
                for name, value in first.metrics.items()
            },
        )

    def state(self) -> dict[str, Any]:
        """State of the shares' random generators."""
        return {"generators": [generator.get_state() for generator in self._generators]}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore the generators; extra shares keep theirs, missing shares are ignored."""
        for generator, saved in zip(self._generators, state["generators"], strict=False):
            generator.set_state(saved)
