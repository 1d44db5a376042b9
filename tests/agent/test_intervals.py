"""Intervals against loops, closed forms and scipy, and against the truth in simulated experiments."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats

from agent.evaluation import resampling
from agent.evaluation.intervals import (
    bootstrap_band,
    improvement_interval,
    paired_difference,
    profile_band,
    t_band,
    t_interval,
)
from agent.evaluation.statistics import (
    bootstrap_interval,
    iqm,
    mean,
    median,
    optimality_gap,
    performance_profile,
)

STATISTICS: list[Callable[[Any], float]] = [iqm, mean, median, optimality_gap]


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.5, 0.3, shape)


def percentile(values: list[float], share: float) -> float:
    """Linear between the two values around it."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = min(int(place), len(ordered) - 2)
    return ordered[below] + (place - below) * (ordered[below + 1] - ordered[below])


def looped_interval(
    scores: np.ndarray, statistic: Callable[[Any], float], resamples: int, seed: int, confidence: float
) -> tuple[float, float]:
    """Resample runs of each task by themselves, one number after another; inflate."""
    runs, tasks = scores.shape
    generator = np.random.default_rng(seed)
    values = []
    for _ in range(resamples):
        table = np.empty((runs, tasks))
        rows = generator.integers(runs, size=(runs, tasks))
        for run in range(runs):
            for task in range(tasks):
                table[run, task] = scores[rows[run, task], task]
        values.append(statistic(table))
    estimate, factor = statistic(scores), math.sqrt(runs / (runs - 1))
    tail = (1 - confidence) / 2
    return (
        estimate + factor * (percentile(values, tail) - estimate),
        estimate + factor * (percentile(values, 1 - tail) - estimate),
    )


def by_scipy(scores: np.ndarray) -> float:
    return float(scipy.stats.trim_mean(scores, 0.25, axis=None))


def of_rows(scores: np.ndarray) -> float:
    """It depends on which runs of different tasks stand in one row."""
    return float(scores.mean(axis=1).max())


@pytest.mark.parametrize("statistic", [*STATISTICS, by_scipy, of_rows])
@pytest.mark.parametrize("shape", [(5, 3), (2, 1)])
def test_interval_is_that_of_loops(statistic: Callable[[Any], float], shape: tuple[int, int]) -> None:
    scores = draw(*shape)
    found = bootstrap_interval(scores, statistic, confidence=0.8, resamples=60, seed=3)
    assert found == pytest.approx(looped_interval(scores, statistic, 60, 3, 0.8), rel=1e-12)


def test_inflation_widens_both_ends_about_the_estimate() -> None:
    scores = draw(5, 6)
    plain = bootstrap_interval(scores, iqm, inflate=False)
    wide = bootstrap_interval(scores, iqm)
    for end, wider in zip(plain, wide, strict=True):
        assert wider - iqm(scores) == pytest.approx(math.sqrt(5 / 4) * (end - iqm(scores)))


def test_interval_of_two_runs_is_known() -> None:
    """The mean of two drawn ones is an end a quarter of the times each."""
    assert bootstrap_interval([[0.0], [1.0]], mean, inflate=False) == (0, 1)
    half = math.sqrt(2) / 2
    assert bootstrap_interval([[0.0], [1.0]], mean) == pytest.approx((0.5 - half, 0.5 + half))
    assert bootstrap_interval([[0.3, 0.4]] * 4, iqm) == pytest.approx((0.35, 0.35))


def test_tasks_are_resampled_apart() -> None:
    """A draw of whole rows would keep their sum, which is constant."""
    scores = np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]])
    low, high = bootstrap_interval(scores, mean)
    assert low < 0.3 < 0.7 < high


@pytest.mark.parametrize("statistic", STATISTICS)
def test_band_is_the_interval_at_each_checkpoint(
    statistic: Callable[[Any], float], monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = draw(4, 3, 5)
    low, high = bootstrap_band(scores, statistic, resamples=200, seed=7)
    for point in range(5):
        expected = bootstrap_interval(scores[:, :, point], statistic, resamples=200, seed=7)
        assert (low[point], high[point]) == pytest.approx(expected, rel=1e-12)
    monkeypatch.setattr(resampling, "_BLOCK", 40)
    blockwise = bootstrap_band(scores, statistic, resamples=200, seed=7)
    np.testing.assert_allclose(blockwise, (low, high), rtol=1e-12)


def test_band_of_any_statistic() -> None:
    scores = draw(4, 3, 2)
    expected = bootstrap_band(scores, iqm, resamples=50)
    np.testing.assert_allclose(bootstrap_band(scores, by_scipy, resamples=50), expected, rtol=1e-12)


def test_profile_band_is_that_of_shares() -> None:
    scores, thresholds = draw(5, 4), np.array([-9.0, 0.4, 0.6, 9.0])
    low, high = profile_band(scores, thresholds, resamples=300)
    profile = performance_profile(scores, thresholds)
    assert ((low >= 0) & (low <= profile) & (profile <= high) & (high <= 1)).all()
    assert (low[0], high[0], low[-1], high[-1]) == pytest.approx((1, 1, 0, 0))
    above_0_6 = bootstrap_interval(scores > 0.6, mean, resamples=300)
    assert (low[2], high[2]) == pytest.approx(above_0_6)


def test_improvement_interval_is_that_of_loops() -> None:
    x, y = draw(5, 2), draw(4, 2, seed=1) - 0.1
    generator = np.random.default_rng(2)
    rows_x, rows_y = (generator.integers(runs, size=(80, runs, 2)) for runs in (5, 4))
    values = []
    for ours, theirs in zip(rows_x, rows_y, strict=True):
        wins = [
            float(x[a, task] > y[b, task]) for task in (0, 1) for a in ours[:, task] for b in theirs[:, task]
        ]
        values.append(statistics.fmean(wins))
    estimate = statistics.fmean(float(a > b) for task in (0, 1) for a in x[:, task] for b in y[:, task])
    expected = [
        min(1, estimate + math.sqrt(4 / 3) * (percentile(values, share) - estimate))
        for share in (0.025, 0.975)
    ]
    assert improvement_interval(x, y, resamples=80, seed=2) == pytest.approx(expected, rel=1e-12)


def test_improvement_that_no_resample_doubts_has_no_width() -> None:
    assert improvement_interval(draw(3, 2) + 9, draw(3, 2)) == (1, 1)
    x, y = draw(6, 3), draw(6, 3, seed=1)
    low, high = improvement_interval(x, y)
    assert 0 <= low < 0.5 < high <= 1


def test_t_interval_is_scipys() -> None:
    values = draw(7)
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert t_interval(values, confidence=0.9) == pytest.approx((expected.low, expected.high), rel=1e-12)
    low, high = t_band(np.stack([values, 2 * values], axis=1))
    assert (2 * low[0], 2 * high[0]) == pytest.approx((low[1], high[1]), rel=1e-12)


def test_difference_of_one_task_is_a_paired_t_test() -> None:
    x, y = draw(6, 1), draw(6, 1, seed=1)
    expected = scipy.stats.ttest_rel(x[:, 0], y[:, 0]).confidence_interval(0.95)
    found = paired_difference(x, y)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-12)
    assert found.mean == pytest.approx(x.mean() - y.mean())
    assert found.pairs == 6


def test_difference_of_several_tasks_resamples_pairs() -> None:
    shared = draw(5, 3)
    found = paired_difference(shared + 0.1, shared, seed=4)
    assert (found.mean, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))
    x = draw(5, 3, seed=1)
    found = paired_difference(x, shared, seed=4)
    assert (found.low, found.high) == bootstrap_interval(x - shared, mean, seed=4)


def test_the_seed_alone_decides() -> None:
    scores = draw(5, 6)
    state = str(np.random.get_state())  # noqa: NPY002
    first = bootstrap_interval(scores, iqm, seed=1), improvement_interval(scores, draw(4, 6, seed=2), seed=1)
    assert str(np.random.get_state()) == state  # noqa: NPY002
    np.random.standard_normal(5)  # noqa: NPY002
    again = bootstrap_interval(scores, iqm, seed=1), improvement_interval(scores, draw(4, 6, seed=2), seed=1)
    assert again == first
    assert bootstrap_interval(scores, iqm, seed=2) != first[0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap_interval([[1, 2]], iqm), r"R >= 2 runs, found shape \(1, 2\)"),
        (lambda: bootstrap_interval([[1.0], [math.nan]], iqm), r"the first nan at \(1, 0\)"),
        (lambda: bootstrap_interval(draw(3, 2), iqm, confidence=95), "between 0 and 1, found 95"),
        (lambda: bootstrap_interval(draw(3, 2), iqm, resamples=0), "resamples >= 1, found 0"),
        (lambda: bootstrap_band(draw(3, 2), iqm), r"scores \(R, T, C\).*\(3, 2\)"),
        (lambda: bootstrap_band(draw(1, 2, 3), iqm), "R >= 2"),
        (lambda: profile_band(draw(1, 2), [0]), "R >= 2"),
        (lambda: improvement_interval(draw(3, 2), draw(1, 2)), r"y \(R, T\) with R >= 2"),
        (lambda: t_interval([1.0]), r"values \(R\) with R >= 2"),
        (lambda: t_band([1.0, 2.0]), r"values \(R, C\)"),
        (lambda: paired_difference(draw(3, 2), draw(4, 2)), r"found \(3, 2\) and \(4, 2\)"),
        (lambda: paired_difference(draw(1, 2), draw(1, 2)), "R >= 2"),
    ],
)
def test_mistakes_are_named(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_nominal_95_percent_holds_the_truth_as_often() -> None:
    """IQM of 6 tasks x 5 seeds: without inflation it would be 91%."""
    generator = np.random.default_rng(0)
    height, spread = np.linspace(0.2, 0.9, 6), np.linspace(0.15, 0.05, 6)
    truth = iqm(generator.normal(height, spread, (100_000, 6)))
    experiments = generator.normal(height, spread, (400, 5, 6))
    held = [low <= truth <= high for low, high in (bootstrap_interval(x, iqm) for x in experiments)]
    assert 0.90 < statistics.fmean(held) < 0.99


@pytest.mark.slow
def test_six_hundred_runs_are_aggregated_in_seconds() -> None:
    """10 variants x 6 tasks x 10 seeds, 200 evaluations each, 2,000 resamples of everything."""
    variants = draw(10, 10, 6, 200)
    start = time.process_time()
    for scores in variants:
        for statistic in (iqm, mean):
            bootstrap_band(scores, statistic)
        for task in range(6):
            t_band(scores[:, task])
        profile_band(scores[:, :, -1], np.linspace(0, 1, 101))
        for other in variants:
            improvement_interval(scores[:, :, -1], other[:, :, -1])
    assert time.process_time() - start < 20


def test_a_score_on_a_level_is_not_above_it() -> None:
    low, high = profile_band([[0.5], [0.5]], [0.4, 0.5, 0.6])
    assert low.tolist() == high.tolist() == [1, 0, 0]
