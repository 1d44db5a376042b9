"""Curves of several runs with pointwise intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.evaluation.comparison.aggregation import Scope
from agent.evaluation.comparison.grid import Array, Axis
from agent.evaluation.intervals import bootstrap_band, t_band
from agent.evaluation.resampling import weighted_iqm
from agent.evaluation.statistics import iqm, mean

FEW_SEEDS = 3
"""So few or fewer runs are drawn one by one, without an interval."""


@dataclass(frozen=True)
class Estimation:
    """How intervals are made.

    Attributes:
        resamples: of the bootstrap.
        seed: of the bootstrap.
        confidence: nominal coverage.
    """

    resamples: int = 2000
    seed: int = 0
    confidence: float = 0.95


@dataclass(frozen=True)
class Band:
    """A variant's curve: IQM over several tasks, or mean over the runs of one.

    Attributes:
        grid: (C,).
        value: (C,); NaN where there is no run.
        low: end of the pointwise interval, (C,); NaN with fewer than two runs.
        high: other end, (C,).
        runs: how many runs of each task are in, (C,).
    """

    grid: Array
    value: Array
    low: Array
    high: Array
    runs: Array

    @property
    def is_full(self) -> NDArray[np.bool_]:
        """Where as many runs are in as ever, (C,) bool."""
        full: NDArray[np.bool_] = self.runs == self.runs.max()
        return full

    @property
    def is_drawn(self) -> NDArray[np.bool_]:
        """Where there are runs enough for an interval to be shown, (C,) bool."""
        drawn: NDArray[np.bool_] = self.runs > FEW_SEEDS
        return drawn


def make_band(scope: Scope, variant: str, grid: Array, axis: Axis, estimation: Estimation) -> Band:
    """The curve of a variant over a scope, at each point from the runs that have a score in all its tasks.

    The same runs are resampled at all points that have the same runs.
    """
    scores = scope.on_grid(variant, grid, axis)
    present = ~np.isnan(scores).any(axis=1)  # (R, C)
    value, low, high = (np.full(len(grid), np.nan) for _ in range(3))
    for pattern in np.unique(present, axis=1).T:
        points = (present == pattern[:, None]).all(axis=0)
        if pattern.any():
            found = scores[pattern][:, :, points]
            statistic = iqm if scope.is_aggregate else mean
            value[points] = [statistic(found[..., c]) for c in range(found.shape[2])]
            if pattern.sum() >= 2:
                low[points], high[points] = _interval(scope, found, estimation)
    return Band(grid, value, low, high, present.sum(axis=0).astype(np.float64))


def seed_curves(scope: Scope, variant: str, grid: Array, axis: Axis) -> Array:
    """IQM over the tasks of each seed of an aggregate, (R, C); NaN where one of its runs has no score."""
    scores = scope.on_grid(variant, grid, axis)  # (R, T, C)
    rows, tasks, points = scores.shape
    tables = scores.transpose(0, 2, 1).reshape(-1, 1, tasks)
    is_whole = ~np.isnan(tables).any(axis=(1, 2))
    curves = np.full(len(tables), np.nan)
    curves[is_whole] = weighted_iqm(tables[is_whole], np.ones((1, tasks, 1)))[:, 0]
    return curves.reshape(rows, points)


def last_place(bands: Mapping[str, Band]) -> float:
    """Where the last of some curves ends; 0 where there is none."""
    ends = [float(band.grid[band.runs > 0][-1]) for band in bands.values() if band.runs.any()]
    return max(ends, default=0.0)


def _interval(scope: Scope, scores: Array, estimation: Estimation) -> tuple[Array, Array]:
    """Pointwise interval of scores (R, T, C): (C,) twice."""
    if scope.is_aggregate:
        return bootstrap_band(
            scores,
            iqm,
            confidence=estimation.confidence,
            resamples=estimation.resamples,
            seed=estimation.seed,
        )
    return t_band(scores[:, 0], estimation.confidence)
