"""One learner for every agent: batches, objectives, optimizers, priorities, metrics."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any, Generic

import torch

from atari_fast.agents.agent import Agent, B, Memory
from atari_fast.errors import NumericError
from atari_fast.runtime.device import Autocast
from atari_fast.runtime.objective import ObjectiveStep
from atari_fast.runtime.optimizers import MakeOptimizer, make_optimizer
from atari_fast.runtime.prefetcher import Prefetcher


class Learner(Generic[B]):
    """Updates an agent's networks from its memory."""

    def __init__(
        self,
        agent: Agent[B],
        memory: Memory[B],
        device: torch.device,
        autocast: Autocast,
        check_period: int = 100,
        threads: int = 1,
        make_optimizer: MakeOptimizer = make_optimizer,
    ) -> None:
        """Make a learner.

        Args:
            agent: its objectives are trained.
            memory: the source of batches.
            device: where the agent's networks are.
            autocast: precision in which losses are computed.
            check_period: updates between checks of the losses. A check waits for the device; with
                1 the weights are still finite when a loss is not.
            threads: threads that compute the gradients on the CPU; see `Gradients`.
            make_optimizer: makes the optimizer of a network.
        """
        self._memory = memory
        self._device = device
        self._check_period = check_period
        self.batch: B | None = None
        """The batch of the last update."""
        self._prefetcher = Prefetcher(memory, agent.batch_size, device)
        self._steps = [
            ObjectiveStep(
                objective,
                make_optimizer(objective.net, objective.optim),
                device,
                autocast,
                agent.batch_size,
                threads,
                agent.smallest_share,
            )
            for objective in agent.objectives
        ]
        self.updates = 0
        self._sums: dict[str, torch.Tensor] = {}
        self._summed = 0
        self._late: deque[tuple[torch.Tensor, torch.Tensor, torch.cuda.Event]] = deque()

    @property
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Optimizer of each objective, by the objective's name."""
        return {step.objective.name: step.optimizer for step in self._steps}

    def update(self, beta: float, progress: float = 0.0) -> None:
        """Take one step of every optimizer on a new batch.

        Args:
            beta: importance exponent.
            progress: fraction of the run's learning that is done, from 0 to 1, by which learning
                rates are scheduled.

        Raises:
            NumericError: a loss or a priority is not finite.
        """
        self.batch = batch = self._prefetcher.next(beta)
        self.updates += 1
        check = self.updates % self._check_period == 0
        metrics: dict[str, torch.Tensor] = {}
        for index, step in enumerate(self._steps):
            name = step.objective.name
            out = step.gradients(batch)
            if check and not math.isfinite(out.loss.item()):
                raise self._not_finite(f"loss/{name}: its values")
            step.apply(progress)
            metrics |= {f"loss/{name}": out.loss} | dict(out.metrics)
            if index == 0:
                metrics["loss/priority"] = out.priorities.mean()
                priorities = out.priorities
        if self._memory.prioritized:
            self._return_priorities(batch.ids, priorities)
        self._prefetcher.prefetch(beta)
        self._add_metrics(metrics)

    def check_finite(self) -> None:
        """Raise NumericError when a weight of a trained network is not finite."""
        for step in self._steps:
            weights = step.objective.net.parameters()
            if not all(bool(torch.isfinite(weight).all()) for weight in weights):
                raise self._not_finite("network: its weights")

    def state(self) -> dict[str, Any]:
        """Optimizers, counter, metrics since the last `take_metrics`, and what is on its way.

        That is a batch drawn ahead, and priorities that the memory gets with the next update.
        """
        for _, _, done in self._late:
            done.synchronize()
        return {
            "objectives": {step.objective.name: step.state() for step in self._steps},
            "updates": self.updates,
            "sums": self._sums,
            "summed": self._summed,
            "feeder": self._prefetcher.state(),
            "late": [[ids, priorities] for ids, priorities, _ in self._late],
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue after the update at which `state` was taken."""
        # Version 0.1 had one objective, whose state was not nested.
        saved = state.get("objectives", {step.objective.name: state for step in self._steps})
        for step in self._steps:
            step.load_state(saved[step.objective.name])
        self.updates = int(state["updates"])
        sums = state["sums"].items()
        self._sums = {name: value.to(self._device).reshape(()) for name, value in sums}
        self._summed = int(state["summed"])
        self._prefetcher.load_state(state["feeder"])
        if self._device.type == "cuda":
            event = torch.cuda.Event  # one that was never recorded is done
            self._late.extend((*pair, event()) for pair in state.get("late", ()))  # type: ignore[no-untyped-call]
        else:
            for ids, priorities in state.get("late", ()):
                self._set_priorities(ids, priorities)

    def _return_priorities(self, ids: torch.Tensor, priorities: torch.Tensor) -> None:
        """Send priorities back: at once on the CPU; on CUDA one update late, without waiting."""
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
        """Wait for all but the last `keep` priorities that are on their way, and set them."""
        while len(self._late) > keep:
            ids, host, done = self._late.popleft()
            done.synchronize()
            self._set_priorities(ids, host)

    def _set_priorities(self, ids: torch.Tensor, priorities: torch.Tensor) -> None:
        if not bool(torch.isfinite(priorities).all()):
            raise self._not_finite("priorities: they")
        self._memory.update_priorities(ids, priorities)

    def _not_finite(self, what: str) -> NumericError:
        return not_finite(what, self.updates)

    def _add_metrics(self, values: dict[str, torch.Tensor]) -> None:
        for name, value in values.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._summed += 1

    def take_metrics(self) -> dict[str, float]:
        """Means of the metrics since the last call.

        Raises:
            NumericError: a loss is not finite.
        """
        metrics = {name: float(value) / self._summed for name, value in self._sums.items()}
        self._sums, self._summed = {}, 0
        for step in self._steps:
            if not math.isfinite(metrics.get(f"loss/{step.objective.name}", 0.0)):
                raise self._not_finite(f"loss/{step.objective.name}: its values")
        return metrics


def not_finite(what: str, updates: int) -> NumericError:
    """The error of a run in which something, such as `loss: its values`, is not finite."""
    return NumericError(
        f"{what} are not finite at update {updates}; the last checkpoint is whole; lower "
        "--optim.lr or use --precision fp32"
    )
