"""What changes over the updates of a run, by its progress in [0, 1]."""

from __future__ import annotations

import math
from typing import Literal

Shape = Literal["cosine", "constant"]


def learning_rate_factor(progress: float, warmup: float, shape: Shape) -> float:
    """Share of the full step size: up along a line, then down along a cosine, or level.

    Args:
        progress: share of the updates that are done, in [0, 1].
        warmup: share of the updates that the rise takes.
        shape: how it goes on.

    Source: SimCLR, arXiv:2002.05709, section 2.2.
    """
    if progress < warmup:
        return progress / warmup
    if shape == "constant" or warmup >= 1:
        return 1.0
    return _half_cosine((progress - warmup) / (1 - warmup))


def momentum_step(progress: float, first: float, shape: Shape) -> float:
    """Step of the moving averages towards what is learnt: falls from `first` to zero, or stays.

    Source: BYOL, arXiv:2006.07733, section 3.2 (their tau is one minus this).
    """
    return first if shape == "constant" else first * _half_cosine(progress)


def _half_cosine(progress: float) -> float:
    """From 1 to 0, along half a period."""
    return (1 + math.cos(math.pi * min(progress, 1.0))) / 2
