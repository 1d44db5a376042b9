"""Numbers of each variant at chosen places of the axis, and comparisons of variants."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from agent.evaluation.comparison.aggregation import Scope, scale_of
from agent.evaluation.comparison.curve_intervals import Estimation
from agent.evaluation.comparison.grid import Array, Axis, places
from agent.evaluation.intervals import (
    PairedDifference,
    improvement_interval,
    paired_difference,
    profile_band,
    t_interval,
)
from agent.evaluation.statistics import (
    area_under_curve,
    bootstrap_interval,
    failure_rate,
    iqm,
    mean,
    median,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
    worst_seed,
)
from agent.evaluation.thresholds import censored_median, frames_to_threshold

FAILURE = 0.1
"""A run has failed whose score is below this share of the scale of its suite."""
PROFILE_LEVELS = np.linspace(0.0, 1.0, 51)


@dataclass(frozen=True)
class Estimate:
    """A number with its interval; the ends are NaN where there is one run only."""

    value: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class Scorecard:
    """A variant at one place of the axis.

    Attributes:
        variant: its name.
        seeds: whose runs go that far in all tasks of the scope.
        runs: seeds of the variant in this scope, those that ended before included.
        numbers: `iqm`, `mean` (Student's interval for one task), for an aggregate `median` (over tasks, of
            which one would give its mean again) and `optimality_gap`.
        area: of each run's curve up to there, aggregated; None where a run has fewer than two points.
        worst_seed: lowest score of a task, mean over tasks.
        failure_rate: share of scores below `FAILURE` of the scale; None where there is no scale.
    """

    variant: str
    seeds: tuple[int, ...]
    runs: int
    numbers: dict[str, Estimate]
    area: Estimate | None
    worst_seed: float
    failure_rate: float | None


@dataclass(frozen=True)
class Crossing:
    """Where a run reached a return.

    Attributes:
        seed: the run's seed.
        at: place on the axis; inf for a run that ended without it.
        end: place of its last evaluation.
    """

    seed: int
    at: float
    end: float


@dataclass(frozen=True)
class Reached:
    """What the runs of a variant needed for a return; inf stands for never.

    Attributes:
        variant: its name.
        threshold: the return.
        median: over runs, each censored at its own end (Kaplan and Meier).
        censored: runs that ended without it.
        runs: all runs.
        crossings: of each run.
    """

    variant: str
    threshold: float
    median: float
    censored: int
    runs: int
    crossings: tuple[Crossing, ...]


@dataclass(frozen=True)
class Comparison:
    """Two variants at one place of the axis.

    Attributes:
        first: name of X.
        second: name of Y.
        improvement: probability that a run of X beats one of Y.
        difference: X - Y over seeds that both have; None with fewer than two.
    """

    first: str
    second: str
    improvement: Estimate
    difference: PairedDifference | None


@dataclass(frozen=True)
class Profile:
    """Share of scores above each of `PROFILE_LEVELS`, with its interval, (K,) each."""

    variant: str
    share: Array
    low: Array
    high: Array


def scorecard(
    scope: Scope, variant: str, at: float, grid: Array, axis: Axis, estimation: Estimation
) -> Scorecard | None:
    """Numbers of a variant at one place; None where no seed's runs go that far."""
    seeds, scores = scope.scores_at(variant, at, axis)
    if not seeds:
        return None
    statistics: dict[str, Callable[[Array], float]] = {"iqm": iqm, "mean": mean}
    if scope.is_aggregate:
        statistics |= {"median": median, "optimality_gap": optimality_gap}
    numbers = {name: _estimate(scores, each, estimation) for name, each in statistics.items()}
    if not scope.is_aggregate and len(seeds) > 1:
        numbers["mean"] = Estimate(mean(scores), *t_interval(scores[:, 0], estimation.confidence))
    scale = scale_of(scope.tasks[0])
    return Scorecard(
        variant=variant,
        seeds=tuple(seeds),
        runs=len(scope.members[variant]),
        numbers=numbers,
        area=_area(scope, variant, seeds, at, grid, axis, estimation),
        worst_seed=worst_seed(scores),
        failure_rate=None if scale is None else failure_rate(scores, FAILURE * scale / scope.scale),
    )


def _estimate(scores: Array, statistic: Callable[[Array], float], estimation: Estimation) -> Estimate:
    if len(scores) < 2:
        return Estimate(statistic(scores))
    ends = bootstrap_interval(
        scores,
        statistic,
        confidence=estimation.confidence,
        resamples=estimation.resamples,
        seed=estimation.seed,
    )
    return Estimate(statistic(scores), *ends)


def _area(
    scope: Scope,
    variant: str,
    seeds: Sequence[int],
    at: float,
    grid: Array,
    axis: Axis,
    estimation: Estimation,
) -> Estimate | None:
    """Mean height of the runs' curves up to `at`: each run's own area first, then the aggregate."""
    points = grid[grid <= at]
    scores = scope.on_grid(variant, points, axis)
    scores = scores[[seed in seeds for seed in scope.members[variant]]]
    begun = ~np.isnan(scores).any(axis=(0, 1))
    if begun.sum() < 2:
        return None
    areas = area_under_curve(points[begun], scores[..., begun])  # (R, T)
    return _estimate(areas, iqm if scope.is_aggregate else mean, estimation)


def reached(scope: Scope, variant: str, threshold: float, axis: Axis) -> Reached:
    """What the runs of a variant of one task needed to get to a return, by their own evaluations."""
    crossings = []
    for seed, (run,) in scope.members[variant].items():
        x = places(run.trace, axis)
        at = float(frames_to_threshold(x, run.trace.returns, threshold))
        crossings.append(Crossing(seed, at, float(x[-1])))
    found = censored_median([each.at for each in crossings], [each.end for each in crossings])
    return Reached(variant, threshold, found.median, found.censored, found.runs, tuple(crossings))


def compare(scope: Scope, at: float, axis: Axis, estimation: Estimation) -> list[Comparison]:
    """Every pair of variants, in the order of the scope."""
    scores = {}
    for variant in scope.members:
        seeds, found = scope.scores_at(variant, at, axis)
        if seeds:
            scores[variant] = dict(zip(seeds, found, strict=True))
    return [
        Comparison(
            first,
            second,
            _improvement(scores[first], scores[second], estimation),
            _difference(scores[first], scores[second], estimation),
        )
        for first, second in itertools.combinations(scores, 2)
    ]


def _improvement(x: dict[int, Array], y: dict[int, Array], estimation: Estimation) -> Estimate:
    ours, theirs = np.array(list(x.values())), np.array(list(y.values()))
    value = probability_of_improvement(ours, theirs)
    if min(len(ours), len(theirs)) < 2:
        return Estimate(value)
    ends = improvement_interval(
        ours,
        theirs,
        confidence=estimation.confidence,
        resamples=estimation.resamples,
        seed=estimation.seed,
    )
    return Estimate(value, *ends)


def _difference(x: dict[int, Array], y: dict[int, Array], estimation: Estimation) -> PairedDifference | None:
    shared = sorted(x.keys() & y.keys())
    if len(shared) < 2:
        return None
    return paired_difference(
        np.array([x[seed] for seed in shared]),
        np.array([y[seed] for seed in shared]),
        confidence=estimation.confidence,
        resamples=estimation.resamples,
        seed=estimation.seed,
    )


def profiles(scope: Scope, at: float, axis: Axis, estimation: Estimation) -> list[Profile]:
    """Performance profile of each variant that goes that far; none without a common scale."""
    scale = scale_of(scope.tasks[0])
    if scale is None:
        return []
    found = []
    for variant in scope.members:
        seeds, scores = scope.scores_at(variant, at, axis)
        if not seeds:
            continue
        scores = scores * scope.scale / scale
        low = high = np.full(len(PROFILE_LEVELS), np.nan)
        if len(seeds) > 1:
            low, high = profile_band(
                scores,
                PROFILE_LEVELS,
                confidence=estimation.confidence,
                resamples=estimation.resamples,
                seed=estimation.seed,
            )
        found.append(Profile(variant, performance_profile(scores, PROFILE_LEVELS), low, high))
    return found
