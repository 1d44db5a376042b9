"""Optimisers of pretraining: AdamW, and LARS for very large batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from configs.pretrain import OptimizerOptions

_TRUST = 1e-3
_MOMENTUM = 0.9


class LARS(torch.optim.Optimizer):
    """Momentum, with a step size for each tensor in proportion to the norm of its weights.

    Tensors without weight decay (biases, gains) get plain momentum.

    Source: You et al. 2017, arXiv:1708.03888, algorithm 1, with the trust coefficient and the exceptions of
    SimCLR (arXiv:2002.05709, section 2.2).
    """

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float) -> None:
        """Build it for groups with `params` and `weight_decay`."""
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step along the gradients that are there."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, group["lr"], group["weight_decay"])

    def _move(self, parameter: Tensor, rate: float, decay: float) -> None:
        assert parameter.grad is not None
        gradient = parameter.grad.add(parameter, alpha=decay)
        if parameter.ndim > 1:
            weights, slope = parameter.norm(), gradient.norm()
            fits = (weights > 0) & (slope > 0)
            gradient = gradient * torch.where(fits, _TRUST * weights / slope, torch.ones_like(slope))
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].mul_(_MOMENTUM).add_(gradient)
        parameter.add_(state["momentum"], alpha=-rate)


def make_optimizer(
    module: nn.Module, options: OptimizerOptions, learning_rate: float
) -> torch.optim.Optimizer:
    """An optimiser of all that learns in a module; biases and gains do not decay."""
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [each for each in learning if each.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [each for each in learning if each.ndim <= 1], "weight_decay": 0.0},
    ]
    if options.name == "lars":
        return LARS(groups, learning_rate)
    return torch.optim.AdamW(groups, lr=learning_rate, fused=True)
