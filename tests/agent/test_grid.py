from __future__ import annotations

import numpy as np
import pytest

from agent.evaluation.comparison.grid import MOST_POINTS, carried, make_grid, places, smoothed
from agent.evaluation.evaluations import Trace

NAN = np.nan


def array(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)


def test_the_last_evaluation_is_carried_forward_and_never_beyond_the_end() -> None:
    x, y = array(10, 20, 35), array(1, 2, 3)
    found = carried(x, y, array(5, 10, 15, 20, 30, 35, 36, 40))
    np.testing.assert_array_equal(found, [NAN, 1, 1, 2, 2, 3, NAN, NAN])


def test_a_grid_has_the_step_of_customary_evaluations() -> None:
    every_10 = np.arange(10_000.0, 100_001, 10_000)
    np.testing.assert_array_equal(make_grid([every_10, every_10[:3]], "frames"), every_10)
    odd = make_grid([array(5016, 10_032, 15_048)], "frames")
    np.testing.assert_array_equal(odd, [6000, 12_000])
    np.testing.assert_array_equal(make_grid([array(7)], "frames"), [8] if odd.size == 0 else [7])


@pytest.mark.parametrize("axis", ["frames", "seconds"])
def test_a_grid_is_never_finer_than_it_can_be_drawn(axis: str) -> None:
    grid = make_grid([np.arange(1.0, 12_346)], axis)  # type: ignore[arg-type]
    assert MOST_POINTS / 2 < len(grid) <= MOST_POINTS
    assert grid[-1] <= 12_345 < grid[-1] + grid[0]
    np.testing.assert_allclose(np.diff(grid), grid[0])


def test_seconds_have_a_fine_grid_however_rare_evaluations_are() -> None:
    assert len(make_grid([array(500, 1000)], "seconds")) == MOST_POINTS
    assert len(make_grid([array(500, 1000)], "frames")) == 2


def test_smoothing_averages_evaluations_and_those_before() -> None:
    np.testing.assert_allclose(smoothed(array(1, 3, 8, 4), 2), [1, 2, 5.5, 6])
    np.testing.assert_allclose(smoothed(array(1, 3), 1), [1, 3])
    np.testing.assert_allclose(smoothed(array(1, 3, 8), 9), [1, 2, 4])


def test_an_axis_must_have_been_recorded() -> None:
    frames = array(1, 2)
    trace = Trace(frames, frames, array(NAN, NAN), array(5, 5), array(NAN, NAN), array(NAN, NAN))
    np.testing.assert_array_equal(places(trace, "frames"), frames)
    for axis in ("seconds", "updates"):
        with pytest.raises(ValueError, match=f"does not record its {axis}"):
            places(trace, axis)
