"""What runs needed, against published examples and an algorithm of another kind."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.evaluation.thresholds import censored_median, frames_to_threshold

NEVER = math.inf


def test_frames_to_a_threshold_are_those_of_the_first_crossing() -> None:
    returns = [[100, 500, 300], [500, 0, 0], [0, 100, 499], [0, 0, 500]]
    found = frames_to_threshold([10, 20, 30], returns, 500)
    assert found.tolist() == [20, 10, math.inf, 30]
    assert frames_to_threshold([10], [1], 2) == math.inf


@pytest.mark.parametrize(
    ("frames", "middle", "censored"),
    [
        ([30, 10, 20], 20, 0),
        ([30, NEVER, 20], 30, 1),
        ([NEVER, NEVER, 20], NEVER, 2),
        ([10, 20, 30, NEVER], 25, 1),
        ([10, 20, NEVER, NEVER], NEVER, 2),
        ([NEVER, NEVER], NEVER, 2),
    ],
)
def test_runs_that_end_last_without_it_are_later_than_all(
    frames: list[float], middle: float, censored: int
) -> None:
    """With all runs equally long it is the ordinary median."""
    found = censored_median(frames, [40] * len(frames))
    assert (found.median, found.censored, found.runs) == (middle, censored, len(frames))


def test_by_hand() -> None:
    """Of five runs two end at 20 and 40: 4/5 are left after 10, 2/3 of these after 30, none after 50."""
    frames, ends = [10, NEVER, 30, NEVER, 50], [60, 20, 60, 40, 60]
    assert 4 / 5 * 2 / 3 > 0.5
    assert censored_median(frames, ends).median == 50
    # A run that ended at 30 was at risk there; one that ended before was not.
    assert censored_median([30, NEVER], [60, 30]).median == NEVER
    assert censored_median([30, NEVER], [60, 29]).median == 30


def test_remission_times() -> None:
    """The textbook example of the estimate: weeks of remission with and without 6-mercaptopurine."""
    ended = [6, 6, 6, 7, 10, 13, 16, 22, 23]
    lost = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
    treated = censored_median([*ended, *[NEVER] * len(lost)], [*ended, *lost])
    assert (treated.median, treated.censored, treated.runs) == (23, 12, 21)
    placebo = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]
    assert censored_median(placebo, placebo).median == 8


def by_moving_weights(runs: list[tuple[int, bool]]) -> float:
    """Efron's form of the estimate: a run that is lost leaves its weight to those that go on, in parts."""
    waiting = sorted((at, not has_reached) for at, has_reached in runs)  # reached before lost, at one time
    weights = [Fraction(1, len(runs))] * len(runs)
    for place, (_, is_lost) in enumerate(waiting):
        later = len(runs) - place - 1
        if is_lost and later:
            for other in range(place + 1, len(runs)):
                weights[other] += weights[place] / later
            weights[place] = Fraction(0)
    total, half = Fraction(0), NEVER
    for (at, is_lost), weight in zip(waiting, weights, strict=True):
        if is_lost:
            continue
        total += weight
        if total >= Fraction(1, 2):
            half = min(half, at)
        if total > Fraction(1, 2):
            return (half + at) / 2
    return NEVER


@given(st.lists(st.tuples(st.integers(1, 7), st.booleans()), min_size=1, max_size=9))
def test_against_weights_that_move(runs: list[tuple[int, bool]]) -> None:
    frames = [at if has_reached else NEVER for at, has_reached in runs]
    found = censored_median(frames, [at for at, _ in runs])
    assert found.median == by_moving_weights(runs)
    assert found.censored == sum(not has_reached for _, has_reached in runs)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=9), st.randoms(use_true_random=False))
def test_runs_that_ended_before_all_others_change_nothing(times: list[int], random: Any) -> None:
    ends = [at + random.randrange(9) for at in times]
    alone = censored_median(times, ends).median
    assert censored_median([NEVER, *times, NEVER], [0, *ends, 0]).median == alone


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: frames_to_threshold([2, 1], [1, 1], 0), "found 2 before 1"),
        (lambda: frames_to_threshold([1, 2], [1, math.nan], 0), "finite returns"),
        (lambda: censored_median([], []), "R >= 1"),
        (lambda: censored_median([math.nan], [1]), "without NaN"),
        (lambda: censored_median([1, 2], [1]), r"found \[1.0\]"),
        (lambda: censored_median([NEVER], [NEVER]), r"finite ends .* found \[inf\]"),
        (lambda: censored_median([2], [1]), "none before its frames"),
    ],
)
def test_mistakes_are_named(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
