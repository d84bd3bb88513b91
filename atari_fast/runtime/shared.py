"""Weights and statistics of an optimizer that several processes change without locks."""

from __future__ import annotations

import copy
import ctypes
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from atari_fast.config.rollouts import SharedOptimizerConfig
from atari_fast.infra.weights import checked_like
from atari_fast.runtime.optimizers import begin, make_optimizer

_ALIGNMENT = 64


class SharedTraining:
    """A network and its optimizers in memory that is shared with other processes.

    The memory is anonymous, so that nothing of it is left when all processes have ended. Writes are
    not synchronised (Hogwild, Recht et al. 2011; A3C, Mnih et al. 2016).
    """

    def __init__(
        self,
        net: nn.Module,
        config: SharedOptimizerConfig,
        workers: int,
        memory: Any = None,
        context: Any = None,
    ) -> None:
        """Move a network on the CPU, and optimizers made for it, into shared memory.

        Args:
            net: the network, which is changed in place.
            config: settings of the optimizer.
            workers: number of workers, each of which has an optimizer unless all share one.
            memory: `memory` of another process, whose values are kept; None: make it from the
                values of `net`.
            context: multiprocessing context that makes it.
        """
        self.net = net
        self._optimizers = [
            make_optimizer(net, config) for _ in range(1 if config.shared else workers)
        ]
        for optimizer in self._optimizers:
            begin(optimizer)
        tensors = [*_weights(net), *(value for one in self._optimizers for value in _moments(one))]
        ends = list(itertools.accumulate(map(_room, tensors)))
        made = memory is None
        self.memory = context.RawArray(ctypes.c_uint8, ends[-1]) if made else memory
        """The memory, for `multiprocessing` to hand to another process."""
        for tensor, offset in zip(tensors, [0, *ends], strict=False):
            flat = torch.frombuffer(
                self.memory, dtype=tensor.dtype, count=tensor.numel(), offset=offset
            )
            view = flat.as_strided(tensor.shape, tensor.stride())
            if made:
                view.copy_(tensor)
            tensor.data = view

    def optimizer(self, worker: int) -> torch.optim.Optimizer:
        """The optimizer of a worker."""
        return self._optimizers[worker % len(self._optimizers)]

    def state(self) -> list[list[dict[str, torch.Tensor]]]:
        """The statistics of each weight, of each optimizer."""
        return [[dict(one.state[p]) for p in self.net.parameters()] for one in self._optimizers]

    def load_state(self, state: Sequence[Sequence[Mapping[str, torch.Tensor]]]) -> None:
        """Continue from `state`; optimizers of workers that it does not have begin anew.

        Raises:
            ValueError: it is of another network or optimizer.
        """
        if not state:
            raise ValueError("expected the statistics of at least one optimizer")
        for mine, saved in zip(self._optimizers, state, strict=False):
            for weight, values in zip(self.net.parameters(), saved, strict=True):
                for name, value in mine.state[weight].items():
                    value.copy_(checked_like(values[name], value))


class LocalCopy:
    """A worker's network beside the shared one: weights come from there, gradients go there."""

    def __init__(self, net: nn.Module, config: SharedOptimizerConfig, workers: int, memory: Any):
        """Find the shared network in the memory of `SharedTraining`; `net` may be on a GPU."""
        self._net = net
        shared = SharedTraining(copy.deepcopy(net).cpu(), config, workers, memory)
        self._shared = shared
        self.pull()

    @torch.no_grad()
    def pull(self) -> None:
        """Copy the shared weights and buffers."""
        for mine, shared in zip(_weights(self._net), _weights(self._shared.net), strict=True):
            mine.copy_(shared)
        self._pulled = [buffer.clone() for buffer in self._net.buffers()]

    @torch.no_grad()
    def push_buffers(self) -> None:
        """Add what buffers, such as running averages, have changed by since they were copied."""
        buffers = zip(self._net.buffers(), self._pulled, self._shared.net.buffers(), strict=True)
        for mine, before, shared in buffers:
            shared += (mine - before).to(shared.device)

    def optimizer(self, worker: int) -> torch.optim.Optimizer:
        """A worker's optimizer: each step applies the gradients of `net` to the shared weights."""
        optimizer = self._shared.optimizer(worker)
        optimizer.register_step_pre_hook(lambda *_: self._push_gradients())
        return optimizer

    def _push_gradients(self) -> None:
        pairs = zip(self._net.parameters(), self._shared.net.parameters(), strict=True)
        for mine, shared in pairs:
            shared.grad = None if mine.grad is None else mine.grad.to(shared.device)


def _weights(net: nn.Module) -> Iterator[torch.Tensor]:
    """Parameters and buffers, to be read or written without gradients."""
    yield from itertools.chain(net.parameters(), net.buffers())


def _moments(optimizer: torch.optim.Optimizer) -> Iterable[torch.Tensor]:
    return (value for state in optimizer.state.values() for value in state.values())


def _room(tensor: torch.Tensor) -> int:
    """Bytes for a tensor, up to the place of the next one."""
    return -(-tensor.numel() * tensor.element_size() // _ALIGNMENT) * _ALIGNMENT
