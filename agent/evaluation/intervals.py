"""Intervals beyond `statistics.bootstrap_interval`: over time, of profiles, of comparisons."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from agent.evaluation.resampling import Statistic, count_rows, percentile_interval
from agent.evaluation.score_checks import Array, check_confidence, check_resampling, checked_scores
from agent.evaluation.statistics import bootstrap, bootstrap_interval, mean, won_pairs


def bootstrap_band(
    scores: ArrayLike,
    statistic: Statistic,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    inflate: bool = True,
) -> tuple[Array, Array]:
    """Interval of a statistic at every checkpoint, by resampling whole runs: the same ones at all of them.

    At each checkpoint it is what `bootstrap_interval` gives with this seed. It holds pointwise: a true
    curve may well leave the band somewhere.

    Args:
        scores: (R, T, C): runs, tasks, checkpoints; R >= 2.
        statistic: maps scores (R, T) to a float, as for `bootstrap_interval`.
        confidence: nominal coverage at each checkpoint, between 0 and 1.
        resamples: at least 1.
        seed: of `numpy.random.default_rng`; nothing else is random.
        inflate: widen both ends about the point estimate by sqrt(R / (R - 1)).

    Returns:
        low and high, (C,) each.

    Raises:
        ValueError: not three axes, none of them 0; fewer than two runs; a score that is not finite; a
            confidence or a number of resamples out of range.
    """
    tables = checked_scores("scores", scores, "RTC", least_runs=2).transpose(2, 0, 1)
    check_resampling(confidence, resamples)
    return bootstrap(np.ascontiguousarray(tables), statistic, confidence, resamples, seed, inflate)


def profile_band(
    scores: ArrayLike,
    thresholds: ArrayLike,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    inflate: bool = True,
) -> tuple[Array, Array]:
    """Pointwise interval of `performance_profile`, within [0, 1].

    Args:
        scores: (R, T), R >= 2.
        thresholds: (K,).
        confidence: as for `bootstrap_band`, as are the other options.
        resamples: at least 1.
        seed: of `numpy.random.default_rng`.
        inflate: widen by sqrt(R / (R - 1)).

    Returns:
        low and high, (K,) each.

    Raises:
        ValueError: shapes other than these; as `bootstrap_band` otherwise.
    """
    levels = checked_scores("thresholds", thresholds, "K")
    above = checked_scores("scores", scores, least_runs=2)[..., None] > levels
    low, high = bootstrap_band(
        above, mean, confidence=confidence, resamples=resamples, seed=seed, inflate=inflate
    )
    return low.clip(0, 1), high.clip(0, 1)


def improvement_interval(
    x: ArrayLike,
    y: ArrayLike,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    inflate: bool = True,
) -> tuple[float, float]:
    """Interval of `probability_of_improvement`, within [0, 1]: runs of both sides are resampled.

    Args:
        x: scores (R1, T), R1 >= 2.
        y: scores (R2, T), R2 >= 2.
        confidence: nominal coverage, between 0 and 1.
        resamples: at least 1.
        seed: of `numpy.random.default_rng`; rows of x are drawn first.
        inflate: widen by sqrt(R / (R - 1)), with R the smaller of R1 and R2.

    Returns:
        (low, high). Where every run of one side beats every run of the other it has no width, whatever
        the number of runs: no resampling of the runs at hand can show another order.

    Raises:
        ValueError: shapes other than these, a score that is not finite, fewer than two runs, or a
            confidence or a number of resamples out of range.
    """
    won = won_pairs(x, y, least_runs=2)
    check_resampling(confidence, resamples)
    generator = np.random.default_rng(seed)
    ours, theirs = (  # (T, R1, N) and (T, R2, N)
        count_rows(generator.integers(runs, size=(resamples, runs, len(won))), runs).transpose(1, 0, 2)
        for runs in won.shape[1:]
    )
    values = (ours * (won @ theirs)).sum(axis=(0, 1)) / won.size
    low, high = percentile_interval(
        values[None], np.atleast_1d(won.mean()), min(won.shape[1:]), confidence, inflate
    )
    return float(low[0].clip(0, 1)), float(high[0].clip(0, 1))


def t_interval(values: ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """Student's interval of the mean of one task, mean ± t · s / sqrt(R).

    Args:
        values: scores of one task, (R,), R >= 2.
        confidence: coverage if they are normally distributed, between 0 and 1.

    Returns:
        (low, high).

    Raises:
        ValueError: not one axis, fewer than two values, one that is not finite, or a confidence out of range.
    """
    low, high = t_band(checked_scores("values", values, "R", least_runs=2)[:, None], confidence)
    return float(low[0]), float(high[0])


def t_band(values: ArrayLike, confidence: float = 0.95) -> tuple[Array, Array]:
    """`t_interval` at every checkpoint, pointwise.

    Args:
        values: scores of one task, (R, C), R >= 2.
        confidence: as for `t_interval`.

    Returns:
        low and high, (C,) each.

    Raises:
        ValueError: not two axes; as `t_interval` otherwise.
    """
    sample = checked_scores("values", values, "RC", least_runs=2)
    check_confidence(confidence)
    runs = len(sample)
    reach = stdtrit(runs - 1, (1 + confidence) / 2) * sample.std(axis=0, ddof=1) / np.sqrt(runs)
    return sample.mean(axis=0) - reach, sample.mean(axis=0) + reach


@dataclass(frozen=True)
class PairedDifference:
    """How much more X scored than Y, over pairs of runs.

    Attributes:
        mean: of the differences X - Y.
        low: end of its interval.
        high: other end.
        pairs: pairs for each task.
    """

    mean: float
    low: float
    high: float
    pairs: int


def paired_difference(
    x: ArrayLike, y: ArrayLike, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> PairedDifference:
    """Mean difference between runs that pair, for instance by their seed.

    Args:
        x: scores (R, T), R >= 2.
        y: scores (R, T); row i of a task pairs with row i of that task of x.
        confidence: nominal coverage, between 0 and 1.
        resamples: for several tasks, at least 1.
        seed: for several tasks.

    Returns:
        The mean of the differences, with Student's interval for one task, and that of
        `bootstrap_interval` over pairs for several.

    Raises:
        ValueError: shapes that differ or are not (R, T), fewer than two pairs, a score that is not
            finite, or a confidence or a number of resamples out of range.
    """
    x, y = (checked_scores(*side, least_runs=2) for side in (("x", x), ("y", y)))
    if x.shape != y.shape:
        raise ValueError(f"expected x and y of one shape (R, T), found {x.shape} and {y.shape}")
    difference = x - y
    if difference.shape[1] == 1:
        low, high = t_interval(difference[:, 0], confidence)
    else:
        low, high = bootstrap_interval(
            difference, mean, confidence=confidence, resamples=resamples, seed=seed
        )
    return PairedDifference(mean(difference), low, high, len(difference))
