"""The stratified bootstrap: runs are drawn with replacement, independently for each task."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
from numpy.typing import NDArray

from agent.evaluation.score_checks import Array

Rows = NDArray[np.int64]
Statistic = Callable[[Array], float]  # of scores (R, T)
WeightedStatistic = Callable[[Array, Array], Array]  # of scores (C, R, T) and counts (R, T, N), to (C, N)
RowsStatistic = Callable[[Array, Rows], Array]  # of scores (C, R, T) and rows (N, R, T), to (C, N)

_BLOCK = 1 << 15  # rows drawn at a time: 256 KB, which stay in the processor's cache


def resampled(scores: Array, statistic: RowsStatistic, resamples: int, seed: int) -> Array:
    """Values of a statistic in resampled runs, which are the same runs at all checkpoints.

    Args:
        scores: (C, R, T): checkpoints, runs, tasks.
        statistic: from `of_counts` or `of_tables`.
        resamples: how often all runs are drawn.
        seed: of `numpy.random.default_rng`, which draws R·T rows for each resample, run by run.

    Returns:
        (C, resamples). What is drawn depends on nothing but the seed, R and T.
    """
    _, runs, tasks = scores.shape
    generator = np.random.default_rng(seed)
    block = max(1, _BLOCK // (runs * tasks))
    sizes = [min(block, resamples - start) for start in range(0, resamples, block)]
    return np.concatenate(
        [statistic(scores, generator.integers(runs, size=(size, runs, tasks))) for size in sizes], axis=1
    )


def all_rows(runs: int, tasks: int) -> Rows:
    """Rows of the one resample that holds every run once, (1, R, T)."""
    return np.broadcast_to(np.arange(runs)[:, None], (1, runs, tasks))


def count_rows(rows: Rows, runs: int) -> Array:
    """How often each of R runs is drawn, (N, R', T) -> (R, T, N)."""
    resamples, _, tasks = rows.shape
    cells = (rows * tasks + np.arange(tasks)) * resamples + np.arange(resamples)[:, None, None]
    counts = np.bincount(cells.ravel(), minlength=runs * tasks * resamples)
    return counts.reshape(runs, tasks, resamples).astype(np.float64)


def of_counts(statistic: WeightedStatistic) -> RowsStatistic:
    """A statistic that needs to know only how often each run was drawn."""
    return lambda scores, rows: statistic(scores, count_rows(rows, scores.shape[1]))


def of_tables(statistic: Statistic) -> RowsStatistic:
    """Any statistic, called for every checkpoint and resample."""

    def each(scores: Array, rows: Rows) -> Array:
        tasks = np.arange(scores.shape[2])
        values = [statistic(table[drawn, tasks]) for table, drawn in product(scores, rows)]
        return np.array(values, dtype=np.float64).reshape(len(scores), len(rows))

    return each


def weighted_mean(scores: Array, counts: Array) -> Array:
    """Mean over runs and tasks, (C, R, T) and (R, T, N) -> (C, N)."""
    cells = scores[0].size
    return scores.reshape(-1, cells) @ counts.reshape(cells, -1) / cells


def weighted_median(scores: Array, counts: Array) -> Array:
    """Median over tasks of the mean over runs, (C, R, T) and (R, T, N) -> (C, N)."""
    means = scores.transpose(2, 0, 1) @ counts.transpose(1, 0, 2) / scores.shape[1]  # (T, C, N)
    value: Array = np.median(means, axis=0)
    return value


def weighted_iqm(scores: Array, counts: Array) -> Array:
    """Mean of the middle half of runs and tasks, (C, R, T) and (R, T, N) -> (C, N)."""
    cells = scores[0].size
    drawn, cut = counts.reshape(cells, -1), cells // 4
    result = np.empty((len(scores), drawn.shape[1]))
    for point, values in enumerate(scores.reshape(-1, cells)):
        order = values.argsort()
        # Scores up to each one, of which those in the middle half count.
        middle = drawn[order].cumsum(axis=0).clip(cut, cells - cut)
        middle[1:] -= middle[:-1]
        middle[0] -= cut
        result[point] = values[order] @ middle / (cells - 2 * cut)
    return result


def percentile_interval(
    values: Array, estimate: Array, runs: int, confidence: float, inflate: bool
) -> tuple[Array, Array]:
    """Linear percentiles of resampled values about an estimate.

    Args:
        values: (C, resamples).
        estimate: what the runs themselves give, (C,).
        runs: how many were drawn for each task, >= 2.
        confidence: share of the resampled values within, before inflation.
        inflate: widen both ends about the estimate by sqrt(R / (R - 1)): the variance among resampled
            means is the unbiased one times (R - 1) / R.

    Returns:
        low and high, (C,) each.
    """
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2], axis=1)
    factor = np.sqrt(runs / (runs - 1)) if inflate else 1.0
    return estimate + factor * (low - estimate), estimate + factor * (high - estimate)
