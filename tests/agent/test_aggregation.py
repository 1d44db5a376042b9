"""Which runs are aggregated, and what the numbers over them are, by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from agent.evaluation.comparison.aggregation import AGGREGATE, Scope, make_scopes
from agent.evaluation.comparison.curve_intervals import Estimation, make_band, seed_curves
from agent.evaluation.comparison.records import Note
from agent.evaluation.comparison.scores import Crossing, compare, profiles, reached, scorecard
from agent.evaluation.intervals import bootstrap_band, paired_difference, t_interval
from agent.evaluation.statistics import iqm
from tests.runs import collected, write_run

TASKS = ("dmc/cartpole-swingup", "dmc/walker-walk")
GRID = np.array([10_000.0, 20_000.0, 30_000.0])
FAST = Estimation(resamples=200)


def write_suite(path: Path, table: dict[tuple[str, str, int], dict[int, float]]) -> Path:
    for index, ((task, preset, seed), returns) in enumerate(table.items()):
        write_run(path / str(index), returns, task=task, preset=preset, seed=seed)
    return path


def line(end: float) -> dict[int, float]:
    """A run that climbs to `end` at 30,000 frames."""
    return {10_000: end / 3, 20_000: 2 * end / 3, 30_000: end}


def scopes_of(path: Path) -> tuple[dict[str, Scope], list[Note]]:
    scopes, notes = make_scopes(collected(path))
    return {scope.name: scope for scope in scopes}, notes


def test_aggregates_use_the_seeds_that_all_tasks_share(tmp_path: Path) -> None:
    runs = {(TASKS[0], "cpu", seed): line(300 * seed) for seed in (1, 2, 3)}
    runs |= {(TASKS[1], "cpu", seed): line(30 * seed) for seed in (2, 3, 4)}
    runs |= {(TASKS[0], "gpu", 1): line(1)}
    found, notes = scopes_of(write_suite(tmp_path, runs))
    scope = found[AGGREGATE]
    assert list(found) == [AGGREGATE, *TASKS]
    assert {variant: list(rows) for variant, rows in scope.members.items()} == {"cpu": [2, 3]}
    assert [note.text for note in notes] == [
        "variants that lack some of its tasks are left out: gpu",
        "cpu: seeds that not all tasks have are left out: 1, 4",
    ]
    seeds, scores = scope.scores_at("cpu", 30_000, "frames")
    assert seeds == [2, 3]
    np.testing.assert_allclose(scores, [[0.6, 0.06], [0.9, 0.09]])


def test_suites_without_a_common_scale_are_not_aggregated(tmp_path: Path) -> None:
    runs = {(task, "cpu", 1): line(900) for task in (*TASKS, "gym/Hopper-v5")}
    found, notes = scopes_of(write_suite(tmp_path / "a", runs))
    assert found[AGGREGATE].tasks == TASKS
    assert [note.text for note in notes] == [
        "gym/Hopper-v5: no common scale with other tasks, not aggregated"
    ]
    runs = {(task, "cpu", 1): line(900) for task in ("gym/Ant-v5", "gym/Hopper-v5")}
    found, notes = scopes_of(write_suite(tmp_path / "b", runs))
    assert AGGREGATE not in found
    assert "nothing is aggregated" in notes[-1].text
    assert profiles(found["gym/Ant-v5"], 30_000, "frames", FAST) == []
    card = scorecard(found["gym/Ant-v5"], "cpu", 30_000, GRID, "frames", FAST)
    assert card is not None
    assert card.failure_rate is None


def test_variants_with_more_tasks_decide_what_is_aggregated(tmp_path: Path) -> None:
    third = "dmc/finger-spin"
    runs = {(task, preset, 1): line(1) for task in TASKS for preset in ("a", "b", "c")}
    found, notes = scopes_of(write_suite(tmp_path, runs | {(third, "a", 1): line(1)}))
    assert found[AGGREGATE].tasks == TASKS
    assert list(found[AGGREGATE].members) == ["a", "b", "c"]
    assert [note.text for note in notes] == [f"{third}: not of all its variants, not aggregated"]


def test_a_variant_without_a_seed_in_all_tasks_decides_nothing(tmp_path: Path) -> None:
    third = "dmc/finger-spin"
    runs = {(task, "a", 1): line(1) for task in (*TASKS, third)}
    found, _ = scopes_of(write_suite(tmp_path, runs | {(TASKS[i], "b", i): line(1) for i in (0, 1)}))
    assert found[AGGREGATE].tasks == (TASKS[0], third, TASKS[1])
    assert list(found[AGGREGATE].members) == ["a"]


def test_a_band_counts_the_runs_that_are_there(tmp_path: Path) -> None:
    runs = {(TASKS[0], "cpu", 1): line(300), (TASKS[0], "cpu", 2): {10_000: 200.0, 20_000: 100.0}}
    runs[TASKS[0], "cpu", 3] = {20_000: 900.0, 30_000: 600.0}
    scope = scopes_of(write_suite(tmp_path, runs))[0][TASKS[0]]
    band = make_band(scope, "cpu", np.array([5_000.0, *GRID, 40_000.0]), "frames", FAST)
    np.testing.assert_array_equal(band.runs, [0, 2, 3, 2, 0])
    np.testing.assert_allclose(band.value, [math.nan, 150, 400, 450, math.nan])
    assert band.is_full.tolist() == [False, False, True, False, False]
    assert (band.low[2], band.high[2]) == pytest.approx(t_interval([200, 100, 900]))
    assert (band.low[3], band.high[3]) == pytest.approx(t_interval([300, 600]))


def test_a_band_over_tasks_resamples_whole_runs(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    runs = {(task, "cpu", seed): line(generator.uniform(100, 900)) for task in TASKS for seed in range(5)}
    scope = scopes_of(write_suite(tmp_path, runs))[0][AGGREGATE]
    band = make_band(scope, "cpu", GRID, "frames", Estimation(resamples=300, seed=7))
    scores = scope.on_grid("cpu", GRID, "frames")
    low, high = bootstrap_band(scores, iqm, resamples=300, seed=7)
    np.testing.assert_allclose(band.low, low)
    np.testing.assert_allclose(band.high, high)
    np.testing.assert_allclose(band.value, [iqm(scores[..., c]) for c in range(3)])


def test_numbers_of_one_task_by_hand(tmp_path: Path) -> None:
    ends = (90.0, 600.0, 900.0)
    runs = {(TASKS[0], "cpu", seed): line(end) for seed, end in enumerate(ends)}
    runs[TASKS[0], "cpu", 3] = {10_000: 500.0}
    scope = scopes_of(write_suite(tmp_path, runs))[0][TASKS[0]]
    card = scorecard(scope, "cpu", 30_000, GRID, "frames", FAST)
    assert card is not None
    assert (card.seeds, card.runs) == ((0, 1, 2), 4)
    mean = card.numbers["mean"]
    assert mean.value == pytest.approx(530)
    assert (mean.low, mean.high) == pytest.approx(t_interval(ends))
    assert "median" not in card.numbers, "over one task it would be the mean, under another name"
    assert card.worst_seed == pytest.approx(90)
    assert card.failure_rate == pytest.approx(1 / 3)
    assert card.area is not None
    assert card.area.value == pytest.approx(530 * 2 / 3)
    early = scorecard(scope, "cpu", 10_000, GRID, "frames", FAST)
    assert early is not None
    assert len(early.seeds) == 4
    assert early.area is None
    assert scorecard(scope, "cpu", 30_001, GRID, "frames", FAST) is None


def test_areas_of_several_tasks_are_aggregated_by_their_iqm(tmp_path: Path) -> None:
    ends = {TASKS[0]: (30.0, 300.0, 900.0), TASKS[1]: (60.0, 600.0, 990.0)}
    runs = {(task, "cpu", seed): line(ends[task][seed]) for task in TASKS for seed in range(3)}
    card = scorecard(
        scopes_of(write_suite(tmp_path, runs))[0][AGGREGATE], "cpu", 30_000, GRID, "frames", FAST
    )
    assert card is not None and card.area is not None
    assert card.numbers["median"].value == pytest.approx((410 + 550) / 2 / 1000)  # of the tasks' means
    # of the six areas, 0.02 to 0.66, the middle four: one each end is cut, 6 // 4
    assert card.area.value == pytest.approx((60 + 300 + 600 + 900) / 4 * 2 / 3 / 1000)


def test_what_a_return_took_counts_runs_that_never_got_there(tmp_path: Path) -> None:
    runs = {(TASKS[0], "cpu", seed): line(end) for seed, end in enumerate((90.0, 600.0, 900.0))}
    scope = scopes_of(write_suite(tmp_path, runs))[0][TASKS[0]]
    found = reached(scope, "cpu", 400, "frames")
    assert (found.median, found.censored, found.runs) == (20_000, 1, 3)
    assert found.crossings == (
        Crossing(0, math.inf, 30_000),
        Crossing(1, 20_000, 30_000),
        Crossing(2, 20_000, 30_000),
    )
    assert reached(scope, "cpu", 800, "frames").median == math.inf
    assert reached(scope, "cpu", 400, "seconds").median == 200


def test_a_run_that_ended_early_is_no_later_than_one_that_went_on(tmp_path: Path) -> None:
    """Two that crashed at 10k say nothing of what they would have done by 30k."""
    runs = {(TASKS[0], "cpu", seed): {10_000: 5.0} for seed in (1, 2)} | {(TASKS[0], "cpu", 3): line(900)}
    scope = scopes_of(write_suite(tmp_path, runs))[0][TASKS[0]]
    found = reached(scope, "cpu", 800, "frames")
    assert (found.median, found.censored, found.runs) == (30_000, 2, 3)


def test_a_seed_of_an_aggregate_has_the_statistic_of_the_aggregate(tmp_path: Path) -> None:
    tasks = (*TASKS, "dmc/finger-spin", "dmc/cheetah-run", "dmc/hopper-hop")
    generator = np.random.default_rng(0)
    runs = {(task, "cpu", seed): line(generator.uniform(100, 900)) for task in tasks for seed in range(3)}
    runs[tasks[0], "cpu", 1] = {10_000: 500.0}  # ends before
    scope = scopes_of(write_suite(tmp_path, runs))[0][AGGREGATE]
    found = seed_curves(scope, "cpu", np.array([5_000.0, *GRID]), "frames")
    assert found.shape == (3, 4)
    assert np.isnan(found[:, 0]).all()
    for seed in range(3):
        for column, at in enumerate((10_000, 20_000, 30_000), start=1):
            if seed == 1 and at > 10_000:
                assert math.isnan(found[seed, column])
                continue
            scores = sorted(runs[task, "cpu", seed][at] / 1000 for task in tasks)
            assert found[seed, column] == pytest.approx(math.fsum(scores[1:-1]) / 3)  # 5 // 4 at each end


def test_variants_are_compared_by_all_runs_and_by_pairs_of_seeds(tmp_path: Path) -> None:
    runs = {(TASKS[0], "a", seed): line(300.0 + 10 * seed) for seed in (1, 2, 3)}
    runs |= {(TASKS[0], "b", seed): line(300.0 + 15 * seed) for seed in (2, 3)}
    runs |= {(TASKS[0], "c", 9): line(1.0)}
    scope = scopes_of(write_suite(tmp_path, runs))[0][TASKS[0]]
    pairs = {(each.first, each.second): each for each in compare(scope, 30_000, "frames", FAST)}
    assert list(pairs) == [("a", "b"), ("a", "c"), ("b", "c")]
    ours = pairs["a", "b"]
    assert ours.improvement.value == pytest.approx(0.5 / 6)  # 330 ties with 330, once in six pairs
    expected = paired_difference([[320.0], [330.0]], [[330.0], [345.0]])
    assert ours.difference is not None
    assert ours.difference.mean == pytest.approx(expected.mean)
    assert ours.difference.pairs == 2
    assert pairs["a", "c"].difference is None
    assert math.isnan(pairs["a", "c"].improvement.low)


def test_profiles_stand_on_the_scale_of_the_suite(tmp_path: Path) -> None:
    runs = {(TASKS[0], "cpu", seed): line(end) for seed, end in enumerate((90.0, 600.0))}
    scope = scopes_of(write_suite(tmp_path, runs))[0][TASKS[0]]
    (profile,) = profiles(scope, 30_000, "frames", FAST)
    np.testing.assert_allclose(profile.share[[0, 4, 5, 29, 30, 50]], [1, 1, 0.5, 0.5, 0, 0])
