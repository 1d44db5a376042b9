"""What scores of several runs say together; docs/statistics.md says what each number means.

Scores are (R, T): runs x tasks, on one scale for all tasks (dm_control: return / 1000). Row i of one task
has nothing to do with row i of another. All is float64.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from agent.evaluation.resampling import (
    RowsStatistic,
    Statistic,
    WeightedStatistic,
    all_rows,
    of_counts,
    of_tables,
    percentile_interval,
    resampled,
    weighted_iqm,
    weighted_mean,
    weighted_median,
)
from agent.evaluation.score_checks import Array, check_resampling, checked_curve, checked_scores


def iqm(scores: ArrayLike) -> float:
    """Interquartile mean: the mean of the middle half of all R·T scores.

    Of n scores the n // 4 lowest and the n // 4 highest are left out, as by
    `scipy.stats.trim_mean(scores, 0.25, axis=None)`.

    Args:
        scores: (R, T), finite.

    Returns:
        On the scale of the scores.

    Raises:
        ValueError: not two axes, none of them 0, or a score that is not finite.

    Source: Agarwal et al. 2021, arXiv:2108.13264, section 4.3.
    """
    return _estimate(weighted_iqm, checked_scores("scores", scores))


def mean(scores: ArrayLike) -> float:
    """Mean of all scores; arguments and errors as `iqm`."""
    return _estimate(weighted_mean, checked_scores("scores", scores))


def median(scores: ArrayLike) -> float:
    """Median over tasks of the mean over runs, as rliable has it; arguments and errors as `iqm`."""
    return _estimate(weighted_median, checked_scores("scores", scores))


def optimality_gap(scores: ArrayLike, gamma: float = 1.0) -> float:
    """How far the runs stay below a score that is good enough: mean of max(0, gamma - score).

    Args:
        scores: (R, T), finite.
        gamma: scores above count as this one.

    Returns:
        At least 0; lower is better.

    Raises:
        ValueError: as `iqm`.

    Source: Agarwal et al. 2021, arXiv:2108.13264, section 4.3.
    """
    return float(gamma - np.minimum(checked_scores("scores", scores), gamma).mean())


def worst_seed(scores: ArrayLike) -> float:
    """Mean over tasks of each task's lowest score; for one task the worst run. As `iqm` otherwise."""
    return float(checked_scores("scores", scores).min(axis=0).mean())


def failure_rate(scores: ArrayLike, threshold: float) -> float:
    """Share of all R·T scores below a threshold, in [0, 1]; errors as `iqm`."""
    return float((checked_scores("scores", scores) < threshold).mean())


def performance_profile(scores: ArrayLike, thresholds: ArrayLike) -> Array:
    """Share of all R·T scores above each threshold.

    Args:
        scores: (R, T), finite.
        thresholds: (K,).

    Returns:
        (K,), in [0, 1].

    Raises:
        ValueError: shapes other than these, or a number that is not finite.

    Source: run-score distributions of Agarwal et al. 2021, arXiv:2108.13264, section 4.2.
    """
    levels = checked_scores("thresholds", thresholds, "K")
    above: Array = (checked_scores("scores", scores)[..., None] > levels).mean(axis=(0, 1))
    return above


def probability_of_improvement(x: ArrayLike, y: ArrayLike) -> float:
    """How probably a run of X beats one of Y: mean over tasks of P(X > Y) + ½ P(X = Y).

    Args:
        x: scores (R1, T), finite.
        y: scores (R2, T), finite, of the same tasks.

    Returns:
        In [0, 1]; ½ where neither is better.

    Raises:
        ValueError: shapes other than these, or a score that is not finite.

    Source: Agarwal et al. 2021, arXiv:2108.13264, section 4.3 (Mann and Whitney's U over R1·R2).
    """
    return float(won_pairs(x, y).mean())


def won_pairs(x: ArrayLike, y: ArrayLike, least_runs: int = 1) -> Array:
    """Every run of X against every run of Y of the same task.

    Args:
        x: scores (R1, T), finite.
        y: scores (R2, T), finite.
        least_runs: R1 and R2 are at least this.

    Returns:
        (T, R1, R2): 1 where X is higher, 0 where Y is, ½ for a tie.

    Raises:
        ValueError: as `probability_of_improvement`.
    """
    x, y = (checked_scores(*side, least_runs=least_runs) for side in (("x", x), ("y", y)))
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"expected x (R1, T) and y (R2, T) of the same tasks, found {x.shape} and {y.shape}")
    ours, theirs = x.T[:, :, None], y.T[:, None, :]
    return (ours > theirs) + 0.5 * (ours == theirs)


def area_under_curve(frames: ArrayLike, returns: ArrayLike) -> Array:
    """Mean height of a curve between its ends: the area by trapezoids over the span of the frames.

    Areas of whole runs are what a bootstrap resamples; an area of aggregated checkpoints has lost how
    checkpoints of one run hang together.

    Args:
        frames: (C,), strictly increasing, at least two.
        returns: (..., C).

    Returns:
        (...), on the scale of the returns.

    Raises:
        ValueError: shapes other than these, frames that do not increase, or a number that is not finite.
    """
    frames, returns = checked_curve(frames, returns, least_points=2)
    middles = (returns[..., 1:] + returns[..., :-1]) / 2
    area: Array = (middles * np.diff(frames)).sum(axis=-1) / (frames[-1] - frames[0])
    return area


def bootstrap_interval(
    scores: ArrayLike,
    statistic: Statistic,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    inflate: bool = True,
) -> tuple[float, float]:
    """Percentile interval of a statistic, by resampling runs with replacement independently for each task.

    Args:
        scores: (R, T), R >= 2.
        statistic: maps scores (R, T) to a float. Those of this module are computed for many resamples at
            once, any other one is called for each.
        confidence: nominal coverage, between 0 and 1.
        resamples: at least 1.
        seed: of `numpy.random.default_rng`; nothing else is random.
        inflate: widen both ends about the point estimate by sqrt(R / (R - 1)), without which intervals of
            few runs are too narrow.

    Returns:
        (low, high).

    Raises:
        ValueError: as `iqm`; fewer than two runs; a confidence or a number of resamples out of range.

    Source: stratified bootstrap of Agarwal et al. 2021, arXiv:2108.13264, section 4.1, without inflation.
    """
    table = checked_scores("scores", scores, least_runs=2)[None]
    check_resampling(confidence, resamples)
    low, high = bootstrap(table, statistic, confidence, resamples, seed, inflate)
    return float(low[0]), float(high[0])


def bootstrap(
    tables: Array, statistic: Statistic, confidence: float, resamples: int, seed: int, inflate: bool
) -> tuple[Array, Array]:
    """`bootstrap_interval` of every table of (C, R, T), from the same resamples; low and high, (C,) each."""
    of_rows = _of_rows(statistic)
    values = resampled(tables, of_rows, resamples, seed)
    _, runs, tasks = tables.shape
    estimate = of_rows(tables, all_rows(runs, tasks))[:, 0]
    return percentile_interval(values, estimate, runs, confidence, inflate)


def _estimate(statistic: WeightedStatistic, scores: Array) -> float:
    """A statistic of scores (R, T) as they are: every run counts once."""
    return float(statistic(scores[None], np.ones((*scores.shape, 1)))[0, 0])


def _of_rows(statistic: Statistic) -> RowsStatistic:
    known = _WEIGHTED.get(statistic)
    return of_tables(statistic) if known is None else of_counts(known)


_WEIGHTED: dict[Statistic, WeightedStatistic] = {
    iqm: weighted_iqm,
    mean: weighted_mean,
    median: weighted_median,
    optimality_gap: lambda scores, counts: 1.0 - weighted_mean(np.minimum(scores, 1.0), counts),
}
