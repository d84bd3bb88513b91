"""One learner for every agent: sampling, precision, importance weights, priorities, metrics."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from atari_fast.agents.parts import AgentParts
from atari_fast.config import OptimConfig
from atari_fast.errors import NumericError
from atari_fast.infra.weights import checked_like
from atari_fast.nets.torsos import iterate_spectral_norms
from atari_fast.ops.augmentation import random_shift
from atari_fast.replay.transition import TransitionBatch, TransitionReplay
from atari_fast.runtime.device import Autocast
from atari_fast.runtime.gradients import Gradients
from atari_fast.runtime.optimizers import make_optimizer
from atari_fast.runtime.prefetcher import Prefetcher


class Learner:
    """Updates an agent's network from a replay."""

    def __init__(
        self,
        parts: AgentParts,
        replay: TransitionReplay,
        config: OptimConfig,
        device: torch.device,
        autocast: Autocast,
        check_period: int = 100,
        threads: int = 1,
    ) -> None:
        """Makes a learner that looks at its loss every `check_period` updates.

        A look waits for the device; with 1 the weights are still finite when the loss is not.
        `threads` compute the gradient on the CPU; see `Gradients`.
        """
        self._parts = parts
        self._replay = replay
        self._config = config
        self._device = device
        self._check_period = check_period
        self.batch: TransitionBatch | None = None
        """The batch of the last update."""
        self._prefetcher = Prefetcher(replay, config.batch_size, device)
        self._gradients = Gradients(parts.loss, parts.trained, autocast, config.batch_size, threads)
        self.optimizer = make_optimizer(parts.trained, config)
        self.updates = 0
        self._sums: dict[str, torch.Tensor] = {}
        self._summed = 0
        self._late: deque[tuple[torch.Tensor, torch.Tensor, torch.cuda.Event]] = deque()

    def update(self, beta: float, lr_fraction: float = 1.0) -> None:
        """Takes one step of the optimizer on a new batch.

        Args:
            beta: importance exponent.
            lr_fraction: learning rate of this step, as a fraction of the configured one.

        Raises:
            NumericError: the loss or a priority is not finite.
        """
        batch = self._prefetcher.next(beta)
        if self._config.random_shift:
            shifted = random_shift(batch.frames, self._config.random_shift)
            batch = batch._replace(frames=shifted)
        self.batch = batch
        iterate_spectral_norms(self._parts.trained)
        out = self._gradients(batch)
        self.updates += 1
        if self.updates % self._check_period == 0 and not math.isfinite(out.loss.item()):
            raise self._not_finite("loss: its values")
        if self._config.max_grad_norm > 0:
            self._clip_gradient()
        for group in self.optimizer.param_groups:
            group["lr"] = self._config.lr * lr_fraction
        self.optimizer.step()
        if self._replay.prioritized:
            self._return_priorities(batch.ids, out.priorities)
        self._prefetcher.prefetch(beta)
        self._add_metrics(
            {"loss/td": out.loss, "loss/priority": out.priorities.mean()} | dict(out.metrics)
        )

    def _clip_gradient(self) -> None:
        """Scales the gradient down to the norm `max_grad_norm`.

        On the CPU one that is short enough is not multiplied by 1, a pass over all of it.
        """
        parameters = list(self._parts.trained.parameters())
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if norm.is_cuda or not norm < self._config.max_grad_norm:
            nn.utils.clip_grads_with_norm_(parameters, self._config.max_grad_norm, norm)

    def check_finite(self) -> None:
        """Raises NumericError when a weight of the trained network is not finite."""
        weights = self._parts.trained.parameters()
        if not all(bool(torch.isfinite(weight).all()) for weight in weights):
            raise self._not_finite("network: its weights")

    def state(self) -> dict[str, Any]:
        """Optimizer, counter, metrics since the last `take_metrics`, and a batch drawn ahead.

        Priorities that are still on their way are set first, so that the replay has them all.
        """
        self._set_late_priorities(0)
        return {
            "optimizer": self.optimizer.state_dict(),
            "updates": self.updates,
            "sums": self._sums,
            "summed": self._summed,
            "feeder": self._prefetcher.state(),
            "gradients": self._gradients.state(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes on after the update at which `state` was taken."""
        settings = self.optimizer.state_dict()["param_groups"]
        for mine, saved in zip(settings, state["optimizer"]["param_groups"], strict=True):
            mine["lr"] = float(saved["lr"])
        moments = state["optimizer"]["state"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": settings})
        names = self._moment_names()
        for weight, moments in self.optimizer.state.items():
            for name in names:
                if moments[name].dim() > 0:  # fused steps read both in the order of memory
                    moments[name] = torch.empty_like(weight).copy_(
                        checked_like(moments[name], weight)
                    )
        self.updates = int(state["updates"])
        sums = state["sums"].items()
        self._sums = {name: value.to(self._device).reshape(()) for name, value in sums}
        self._summed = int(state["summed"])
        self._prefetcher.load_state(state["feeder"])
        self._gradients.load_state(state.get("gradients", {"generators": []}))

    def _moment_names(self) -> set[str]:
        """What the optimizer keeps for each weight."""
        probe = nn.Linear(1, 1, device=self._device)
        probe(torch.ones(1, device=self._device)).backward()
        optimizer = make_optimizer(probe, self._config)
        optimizer.step()
        return set(optimizer.state[probe.weight])

    def _return_priorities(self, ids: torch.Tensor, priorities: torch.Tensor) -> None:
        """Sends priorities back: at once on the CPU; on CUDA one update late, without waiting."""
        if not priorities.is_cuda:
            self._set_priorities(ids, priorities)
            return
        host = torch.empty(priorities.shape, dtype=priorities.dtype, pin_memory=True)
        host.copy_(priorities, non_blocking=True)
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record(torch.cuda.current_stream(priorities.device))
        self._late.append((ids, host, done))
        self._set_late_priorities(1)

    def _set_late_priorities(self, keep: int) -> None:
        """Waits for all but the last `keep` priorities that are on their way, and sets them."""
        while len(self._late) > keep:
            ids, host, done = self._late.popleft()
            done.synchronize()
            self._set_priorities(ids, host)

    def _set_priorities(self, ids: torch.Tensor, priorities: torch.Tensor) -> None:
        if not bool(torch.isfinite(priorities).all()):
            raise self._not_finite("priorities: they")
        self._replay.update_priorities(ids, priorities)

    def _not_finite(self, what: str) -> NumericError:
        return NumericError(
            f"{what} are not finite at update {self.updates}; the last checkpoint is whole; "
            "lower --optim.lr or use --precision fp32"
        )

    def _add_metrics(self, values: dict[str, torch.Tensor]) -> None:
        for name, value in values.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._summed += 1

    def take_metrics(self) -> dict[str, float]:
        """Means of the metrics since the last call.

        Raises:
            NumericError: the loss is not finite.
        """
        metrics = {name: float(value) / self._summed for name, value in self._sums.items()}
        self._sums, self._summed = {}, 0
        if not math.isfinite(metrics.get("loss/td", 0.0)):
            raise self._not_finite("loss: its values")
        return metrics
