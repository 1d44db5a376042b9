"""Runs on one grid: the last evaluation is carried forward, and no run goes on beyond its end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from agent.evaluation.evaluations import Trace

Axis = Literal["frames", "seconds", "updates"]
Array = NDArray[np.float64]

MOST_POINTS = 100
_NICE = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)


def places(trace: Trace, axis: Axis) -> Array:
    """Where a run was evaluated, (N,), strictly increasing.

    Raises:
        ValueError: the run does not say so on this axis.
    """
    x: Array = getattr(trace, axis)
    if np.isnan(x).any() or (np.diff(x) <= 0).any():
        raise ValueError(f"does not record its {axis}")
    return x


def make_grid(xs: Sequence[Array], axis: Axis) -> Array:
    """Equal steps up to the end of the longest run, as wide as the runs' evaluations customarily are.

    Over seconds, where no two runs are evaluated at the same place, they are as narrow as can be.

    Args:
        xs: where each run was evaluated, at least one run.
        axis: what they are places of.

    Returns:
        Multiples of a round step, (C,), C <= `MOST_POINTS`; the first is the step.
    """
    gaps = [float(np.median(np.diff(x, prepend=0.0))) for x in xs]
    last = max(float(x[-1]) for x in xs)
    usual = 0.0 if axis == "seconds" else float(np.median(gaps))
    step = _round_up(max(usual, last / MOST_POINTS))
    if step > last:
        return np.array([last])
    return step * np.arange(1, math.floor(last / step * (1 + 1e-9)) + 1, dtype=np.float64)


def carried(x: Array, y: Array, grid: Array) -> Array:
    """A run's value at each point of a grid: that of its last evaluation there or before.

    Args:
        x: where it was evaluated, (N,), strictly increasing.
        y: what was found, (N,).
        grid: (C,).

    Returns:
        (C,); NaN before its first evaluation and beyond its last.
    """
    index = np.searchsorted(x, grid * (1 + 1e-12), side="right") - 1
    values: Array = np.where((index < 0) | (grid > x[-1] * (1 + 1e-12)), np.nan, y[index])
    return values


def smoothed(y: Array, window: int) -> Array:
    """Mean of each evaluation and those before it, `window` of them or as many as there are."""
    sums = np.cumsum(np.concatenate([[0.0], y]))
    ends = np.arange(1, len(y) + 1)
    starts = np.maximum(ends - window, 0)
    means: Array = (sums[ends] - sums[starts]) / (ends - starts)
    return means


def _round_up(value: float) -> float:
    """The next larger number with one or two digits."""
    if value <= 0:
        return 1.0
    unit = 10.0 ** math.floor(math.log10(value))
    return next(float(f"{nice * unit:.12g}") for nice in _NICE if nice * unit >= value * (1 - 1e-9))
