"""Optimizers by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from atari_fast.config import OptimizerConfig


class RMSProp(torch.optim.Optimizer):
    """RMSProp with eps inside the root, where torch's own RMSprop has it outside.

    Centred (Mnih et al. 2015): w -= lr g / sqrt(E[g^2] - E[g]^2 + eps), averages beginning at 0.
    Uncentred (A3C, Mnih et al. 2016): w -= lr g / sqrt(E[g^2] + eps), the average beginning at 1
    as in TensorFlow, so that first steps are small.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        decay: float,
        eps: float,
        *,
        centred: bool = True,
    ) -> None:
        super().__init__(params, {"lr": lr, "decay": decay, "eps": eps})
        self._centred = centred

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Takes one step with the gradients as they are; parameters without one are left alone."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self._step_group(group, params)
        return loss

    def begin(self, p: torch.Tensor) -> None:
        """Makes the averages of a parameter."""
        if self._centred:
            self.state[p] = {"mean": torch.zeros_like(p), "square": torch.zeros_like(p)}
        else:
            self.state[p] = {"square": torch.ones_like(p)}

    def _step_group(self, group: dict[str, Any], params: list[nn.Parameter]) -> None:
        grads = [p.grad for p in params if p.grad is not None]
        for p in params:
            if not self.state[p]:
                self.begin(p)
        squares = [self.state[p]["square"] for p in params]
        keep = group["decay"]
        torch._foreach_mul_(squares, keep)
        torch._foreach_addcmul_(squares, grads, grads, 1 - keep)
        if self._centred:
            means = [self.state[p]["mean"] for p in params]
            torch._foreach_lerp_(means, grads, 1 - keep)
            roots = torch._foreach_mul(means, means)
            torch._foreach_sub_(roots, squares)
            torch._foreach_neg_(roots)
            torch._foreach_clamp_min_(roots, 0.0)  # rounding can leave the variance below 0
            torch._foreach_add_(roots, group["eps"])
        else:
            roots = torch._foreach_add(squares, group["eps"])
        torch._foreach_sqrt_(roots)
        torch._foreach_addcdiv_(list[torch.Tensor](params), grads, roots, -group["lr"])


MakeOptimizer = Callable[[nn.Module, OptimizerConfig], torch.optim.Optimizer]


def make_optimizer(net: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """The optimizer that `config.name` names, over all parameters of `net`."""
    params = net.parameters()
    if config.name in ("adam", "amsgrad"):
        amsgrad = config.name == "amsgrad"
        return torch.optim.Adam(params, lr=config.lr, eps=config.eps, amsgrad=amsgrad, fused=True)
    if config.name == "radam":
        return torch.optim.RAdam(params, lr=config.lr, eps=config.eps)
    centred = config.name == "rmsprop"
    return RMSProp(params, config.lr, config.decay, config.eps, centred=centred)


def begin(optimizer: torch.optim.Optimizer) -> None:
    """Makes the state of an optimizer of this module before its first step."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    if isinstance(optimizer, RMSProp):
        for p in params:
            optimizer.begin(p)
        return
    for p in params:
        p.grad = torch.zeros_like(p)
    optimizer.step()  # of length 0
    for p in params:
        p.grad = None
        for value in optimizer.state[p].values():
            value.zero_()
