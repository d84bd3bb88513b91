"""Optimizers by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from atari_fast.config import OptimConfig


class CentredRMSProp(torch.optim.Optimizer):
    """RMSProp of Mnih et al. 2015: w -= lr g / sqrt(E[g^2] - E[g]^2 + eps).

    The eps is inside the root; torch's own RMSprop has it outside, where the same number is another
    method.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, decay: float, eps: float) -> None:
        super().__init__(params, {"lr": lr, "decay": decay, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Takes one step with the gradients as they are; parameters without one are left alone."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self._step_group(group, params)
        return loss

    def _step_group(self, group: dict[str, Any], params: list[nn.Parameter]) -> None:
        grads = [p.grad for p in params if p.grad is not None]
        for p in params:
            if not self.state[p]:
                self.state[p] = {"mean": torch.zeros_like(p), "square": torch.zeros_like(p)}
        means = [self.state[p]["mean"] for p in params]
        squares = [self.state[p]["square"] for p in params]
        keep = group["decay"]
        torch._foreach_lerp_(means, grads, 1 - keep)
        torch._foreach_mul_(squares, keep)
        torch._foreach_addcmul_(squares, grads, grads, 1 - keep)
        roots = torch._foreach_mul(means, means)
        torch._foreach_sub_(roots, squares)
        torch._foreach_neg_(roots)
        torch._foreach_clamp_min_(roots, 0.0)  # rounding can leave the variance below 0
        torch._foreach_add_(roots, group["eps"])
        torch._foreach_sqrt_(roots)
        torch._foreach_addcdiv_(list[torch.Tensor](params), grads, roots, -group["lr"])


def make_optimizer(net: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """The optimizer that `config.name` names, over all parameters of `net`."""
    if config.name == "adam":
        return torch.optim.Adam(net.parameters(), lr=config.lr, eps=config.eps, fused=True)
    return CentredRMSProp(net.parameters(), config.lr, config.decay, config.eps)
