"""The stratified bootstrap: runs are resampled with replacement, independently for each task."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from agent.evaluation.checks import Array

Statistic = Callable[[Array], float]  # of scores (R, T)
BatchedStatistic = Callable[[Array], Array]  # of scores (..., R, T), to (...)

_BLOCK = 1 << 20  # scores gathered at a time: 8 MB


def resampled_statistics(scores: Array, statistic: BatchedStatistic, resamples: int, seed: int) -> Array:
    """Values of a statistic in resampled runs, the same ones at all checkpoints.

    Args:
        scores: (C, R, T): checkpoints, runs, tasks.
        statistic: maps (C, N, R, T) to (C, N).
        resamples: how often all runs are drawn.
        seed: of `numpy.random.default_rng`. Resample by resample, R·T rows are drawn, run by run.

    Returns:
        (C, resamples). The seed alone decides which rows are drawn, not the number of checkpoints.
    """
    points, runs, tasks = scores.shape
    generator = np.random.default_rng(seed)
    flat = np.ascontiguousarray(scores).reshape(points, runs * tasks)
    values = np.empty((points, resamples))
    block = max(1, _BLOCK // flat.size)
    for start in range(0, resamples, block):
        count = min(block, resamples - start)
        rows = generator.integers(runs, size=(count, runs, tasks))
        drawn = np.take(flat, rows * tasks + np.arange(tasks), axis=1)  # (C, count, R, T)
        values[:, start : start + count] = statistic(drawn)
    return values


def percentile_interval(
    values: Array, estimate: Array, runs: int, confidence: float, inflate: bool
) -> tuple[Array, Array]:
    """Linear percentiles of resampled values about an estimate.

    Args:
        values: (C, resamples).
        estimate: what the runs themselves give, (C,).
        runs: how many were resampled for each task, >= 2.
        confidence: share of the resampled values within, before inflation.
        inflate: widen both ends about the estimate by sqrt(R / (R - 1)): the variance of R resampled runs
            is too small by (R - 1) / R.

    Returns:
        low and high, (C,) each.
    """
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2], axis=1)
    factor = np.sqrt(runs / (runs - 1)) if inflate else 1.0
    return estimate + factor * (low - estimate), estimate + factor * (high - estimate)
