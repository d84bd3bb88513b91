"""One objective's part of an update: gradients, clipping, learning rate, optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic

import torch
from torch import nn

from atari_fast.agents.agent import B, Objective
from atari_fast.infra.weights import checked_like
from atari_fast.nets.torsos import iterate_spectral_norms
from atari_fast.runtime.device import Autocast
from atari_fast.runtime.gradients import BatchResult, Gradients
from atari_fast.runtime.optimizers import make_optimizer
from atari_fast.schedules import interpolate


class ObjectiveStep(Generic[B]):
    """Computes the gradients of an objective and applies them."""

    def __init__(
        self,
        objective: Objective[B],
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        autocast: Autocast,
        batch_size: int,
        threads: int,
        smallest_share: int,
    ) -> None:
        """Take an objective and its optimizer; the others are those of `Learner`, `Gradients`."""
        self.objective = objective
        self.optimizer = optimizer
        self._device = device
        self._gradients = Gradients(
            objective.loss, objective.net, autocast, batch_size, threads, smallest_share
        )

    def gradients(self, batch: B) -> BatchResult:
        """Compute the gradients of a batch."""
        iterate_spectral_norms(self.objective.net)
        return self._gradients(batch)

    def apply(self, progress: float) -> None:
        """Take a step of the optimizer; `progress` as for `Learner.update`."""
        if self.objective.optim.max_grad_norm > 0:
            self._clip_gradient()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.objective, progress)
        self.optimizer.step()

    def _clip_gradient(self) -> None:
        """Scale the gradient down to the norm `max_grad_norm`.

        On the CPU one that is short enough is not multiplied by 1, a pass over all of it.
        """
        largest = self.objective.optim.max_grad_norm
        parameters = list(self.objective.net.parameters())
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if norm.is_cuda or not norm < largest:
            nn.utils.clip_grads_with_norm_(parameters, largest, norm)

    def state(self) -> dict[str, Any]:
        """State of the optimizer and of the shares' random generators."""
        return {"optimizer": self.optimizer.state_dict(), "gradients": self._gradients.state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`."""
        settings = self.optimizer.state_dict()["param_groups"]
        for mine, saved in zip(settings, state["optimizer"]["param_groups"], strict=True):
            mine["lr"] = float(saved["lr"])
        moments = state["optimizer"]["state"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": settings})
        names = self._moment_names()
        for weight, moments in self.optimizer.state.items():
            for name in names:
                if moments[name].dim() > 0:  # fused steps read both in the order of memory
                    saved = checked_like(moments[name], weight)
                    moments[name] = torch.empty_like(weight).copy_(saved)
        self._gradients.load_state(state.get("gradients", {"generators": []}))

    def _moment_names(self) -> set[str]:
        """What the optimizer keeps for each weight."""
        probe = nn.Linear(1, 1, device=self._device)
        probe(torch.ones(1, device=self._device)).backward()
        optimizer = make_optimizer(probe, self.objective.optim)
        optimizer.step()
        return set(optimizer.state[probe.weight])


def learning_rate(objective: Objective[Any], progress: float) -> float:
    """Learning rate after a fraction `progress` of the run's learning: a line to its end."""
    optim = objective.optim
    return optim.lr * interpolate(1.0, optim.lr_final_fraction, progress)
