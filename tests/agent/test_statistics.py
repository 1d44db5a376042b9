"""Estimates against loops written from their definitions, closed forms, and scipy."""

from __future__ import annotations

import math
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from agent.evaluation.statistics import (
    area_under_curve,
    failure_rate,
    iqm,
    mean,
    median,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
    worst_seed,
)

TABLES = arrays(
    np.float64,
    st.tuples(st.integers(1, 6), st.integers(1, 4)),
    elements=st.floats(-100, 100).map(lambda value: round(value, 3)),
)


def draw(runs: int, tasks: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.5, 0.3, (runs, tasks))


@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (5, 1), (4, 2), (5, 6), (7, 3), (10, 20)])
def test_iqm_is_the_mean_of_the_middle_half(shape: tuple[int, int]) -> None:
    scores = draw(*shape)
    ordered = sorted(float(score) for row in scores for score in row)
    cut = len(ordered) // 4
    assert iqm(scores) == pytest.approx(statistics.fmean(ordered[cut : len(ordered) - cut]), rel=1e-13)
    assert iqm(scores) == pytest.approx(scipy.stats.trim_mean(scores, 0.25, axis=None), rel=1e-13)


def test_iqm_of_known_scores() -> None:
    assert iqm([[0, 1, 2, 3], [4, 5, 6, 700]]) == 3.5
    assert iqm([[1e16], [1.0], [2.0], [3.0]]) == 2.5  # what is left out leaves no trace


def test_mean_median_and_gap() -> None:
    scores = [[0.0, 0.5, 1.0], [0.2, 0.7, 2.0]]
    assert mean(scores) == pytest.approx(4.4 / 6)
    assert median(scores) == pytest.approx(0.6)  # task means .1, .6, 1.5
    assert optimality_gap(scores) == pytest.approx((1 + 0.8 + 0.5 + 0.3) / 6)
    assert optimality_gap(scores, gamma=2.5) == pytest.approx((6 * 2.5 - 4.4) / 6)
    assert optimality_gap([[1.0, 3.0]]) == 0


def test_median_is_over_tasks_of_means_over_runs() -> None:
    scores = draw(5, 6)
    means = [statistics.fmean(float(row[task]) for row in scores) for task in range(6)]
    assert median(scores) == pytest.approx(statistics.median(means), rel=1e-13)


def test_worst_seed_and_failures() -> None:
    scores = [[0.1, 0.9], [0.8, 0.5], [0.4, 0.7]]
    assert worst_seed(scores) == pytest.approx(0.3)  # .1 and .5
    assert failure_rate(scores, 0.5) == pytest.approx(2 / 6)  # a score at the threshold is none
    assert failure_rate(scores, 0.0) == 0


@given(TABLES)
def test_estimates_lie_within_the_scores_and_know_no_order(scores: np.ndarray) -> None:
    for statistic in (iqm, mean, median):
        value = statistic(scores)
        assert scores.min() - 1e-9 <= value <= scores.max() + 1e-9
        assert statistic(scores[::-1, ::-1]) == pytest.approx(value, abs=1e-9)
        assert statistic(3 * scores - 7) == pytest.approx(3 * value - 7, abs=1e-8)
    assert worst_seed(scores) <= mean(scores) + 1e-9


def test_profile_is_the_share_above() -> None:
    scores, thresholds = np.round(draw(5, 6), 1), np.linspace(-0.2, 1.2, 15).round(1)
    found = performance_profile(scores, thresholds)
    shares = [sum(float(score) > level for score in scores.ravel()) / 30 for level in thresholds]
    np.testing.assert_allclose(found, shares, atol=1e-15)
    survival = scipy.stats.ecdf(scores.ravel()).sf.evaluate(thresholds)
    np.testing.assert_allclose(found, survival, atol=1e-15)


@pytest.mark.parametrize(("ours", "theirs", "digits"), [(5, 5, 6), (3, 8, 1), (4, 4, 0)])
def test_improvement_is_the_share_of_pairs_won(ours: int, theirs: int, digits: int) -> None:
    x, y = draw(ours, 3).round(digits), draw(theirs, 3, seed=1).round(digits)
    shares = []
    for task in range(3):
        wins = sum((a > b) + 0.5 * (a == b) for a in x[:, task] for b in y[:, task])
        shares.append(wins / (ours * theirs))
    assert probability_of_improvement(x, y) == pytest.approx(statistics.fmean(shares), abs=1e-15)
    u = scipy.stats.mannwhitneyu(x, y, alternative="greater").statistic
    assert probability_of_improvement(x, y) == pytest.approx(u.mean() / (ours * theirs), abs=1e-14)


@given(TABLES, st.integers(1, 5))
def test_improvement_of_one_is_what_the_other_lacks(x: np.ndarray, runs: int) -> None:
    y = np.resize(x[::-1] + 1, (runs, x.shape[1]))
    assert probability_of_improvement(x, y) + probability_of_improvement(y, x) == pytest.approx(1)
    assert probability_of_improvement(x, x) == pytest.approx(0.5)
    assert probability_of_improvement(x, x - 1000) == 1


def test_area_of_known_curves() -> None:
    assert area_under_curve([0, 4], [0, 10]) == 5
    assert area_under_curve([10, 20, 60], [0, 10, 10]) == pytest.approx((50 + 400) / 50)
    np.testing.assert_allclose(area_under_curve([1, 2, 7], [[3, 3, 3], [0, 1, 6]]), [3, 3])


def test_area_is_that_of_trapezoids() -> None:
    frames = np.cumsum(np.random.default_rng(0).uniform(1, 5, 9))
    returns = draw(2, 27).reshape(2, 3, 9)
    expected = np.trapezoid(returns, frames, axis=-1) / (frames[-1] - frames[0])
    np.testing.assert_allclose(area_under_curve(frames, returns), expected, rtol=1e-13)


def test_a_mean_of_areas_is_the_area_of_the_mean() -> None:
    frames, returns = np.arange(9.0) ** 2, draw(5, 9)
    of_mean = area_under_curve(frames, returns.mean(axis=0))
    assert area_under_curve(frames, returns).mean() == pytest.approx(float(of_mean))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: iqm([1.0, 2.0]), r"scores \(R, T\).*found shape \(2,\).*scores\[:, None\]"),
        (lambda: mean(np.zeros((2, 0))), r"found shape \(2, 0\)"),
        (lambda: median(np.zeros((2, 3, 4))), r"found shape \(2, 3, 4\)"),
        (lambda: iqm([[1.0, math.nan], [2.0, math.inf]]), r"2 of 4 that are not, the first nan at \(0, 1\)"),
        (lambda: performance_profile([[1]], [[0]]), r"thresholds \(K\).*\(1, 1\)"),
        (lambda: probability_of_improvement([[1, 2]], [[1]]), r"same tasks, found \(1, 2\) and \(1, 1\)"),
        (lambda: probability_of_improvement([[1]], [[math.nan]]), "finite y"),
        (lambda: area_under_curve([1], [1]), "C >= 2 points of a curve, found 1"),
        (lambda: area_under_curve([1, 2, 2], [1, 1, 1]), "increasing frames, found 2 before 2"),
        (lambda: area_under_curve([1, 2], [1, math.nan]), "finite returns"),
        (lambda: area_under_curve([1, 2], [1, 1, 1]), r"found \(2,\) and \(3,\)"),
    ],
)
def test_mistakes_are_named(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_importing_is_cheap() -> None:
    program = """
import sys, agent.evaluation.statistics, agent.evaluation.intervals
print(sorted({"torch", "pandas", "matplotlib", "scipy.stats"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
