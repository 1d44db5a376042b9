"""What people are shown: how far runs are, how fast, and how long all of it takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.sweeps.board import Board
from agent.sweeps.estimate import Cost, estimate, expected_seconds, total_seconds
from agent.sweeps.forecast import forecast
from agent.sweeps.ledger import Ledger, PlannedRun, RunRecord
from agent.sweeps.table import RunStatus, failure_report, render
from agent.sweeps.watching import PACE_WINDOW_S, Pace, Reading, read_progress
from configs.load import configure
from configs.schema import Config

HEADER = "frames,updates,seconds,return_mean,return_std,episodes\n"


def run_of(variant: str = "a", task: str = "dmc/walker-walk", seed: int = 1) -> PlannedRun:
    return PlannedRun(task, variant, seed, 1000, 1, ())


def cost(seconds: float | None = 100.0, updates: int = 10) -> Cost:
    return Cost(seconds=seconds, memory_mb=1000.0, disk_mb=50.0, updates=updates)


# Reading what runs write.


def test_progress_is_the_end_of_the_files(tmp_path: Path) -> None:
    assert read_progress(tmp_path) == Reading()
    records: list[dict[str, Any]] = [{"frames": i, "padding": "x" * 200} for i in range(900)]
    records += [{"frames": 700, "train/episode_return": 12.5}, {"frames": 710, "loss/value": 1.0}]
    text = "".join(json.dumps(record) + "\n" for record in records)
    (tmp_path / "metrics.jsonl").write_text(text + '{"frames": 99')
    assert read_progress(tmp_path) == Reading(710, 12.5)
    (tmp_path / "eval.csv").write_text(HEADER + "400,9,1.0,33.25,1,10\n800,")
    assert read_progress(tmp_path) == Reading(710, 12.5, 33.25)


def test_damage_counts_as_not_written_yet(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(b'{"frames": 5}\n\xff\xfe{{\n[3]\n')
    (tmp_path / "eval.csv").write_text("what is this\n")
    assert read_progress(tmp_path) == Reading(5)
    (tmp_path / "eval.csv").write_bytes(b"\xff\xfe")
    assert read_progress(tmp_path) == Reading(5)
    (tmp_path / "eval.csv").write_text(HEADER + "400,9,1.0,33.25,1,10\n800,9,2.0,oh,1,10\n")
    assert read_progress(tmp_path) == Reading(5, None, 33.25), "what comes before damage is"


def test_pace_is_that_of_the_last_minutes() -> None:
    pace = Pace()
    pace.see(0.0, 0)
    assert pace.frames_per_s(0.0) is None
    for second in range(1, 11):
        pace.see(float(second), 100 * second)
    assert pace.frames_per_s(10.0) == pytest.approx(100)
    for step in range(1, 7):
        pace.see(10 + step * PACE_WINDOW_S / 2, 1000 + step)
    assert pace.frames_per_s(10 + 3 * PACE_WINDOW_S) == pytest.approx(2 / PACE_WINDOW_S)
    overdue = pace.frames_per_s(10 + 9 * PACE_WINDOW_S)
    assert overdue is not None
    assert overdue < 1 / PACE_WINDOW_S, "the next record has been long in coming"


def test_pace_begins_anew_where_a_run_went_back() -> None:
    pace = Pace()
    pace.see(0.0, 500)
    pace.see(1.0, 900)
    pace.see(2.0, 600)
    assert pace.frames_per_s(2.0) is None


# Expecting.


def test_estimate_is_near_what_was_measured() -> None:
    """Runs of preset cpu that took 1,420 s (cartpole, alone) and, on one thread, about 4,700 s (reacher)."""
    alone = estimate(Config(), 8, 2)
    assert alone.seconds == pytest.approx(1420, rel=0.15)
    assert alone.updates == 12_500
    assert alone.disk_mb == pytest.approx(149 + 65 + 9, rel=0.15)
    assert estimate(Config(), 4, 1).seconds == pytest.approx(4700, rel=0.15)
    assert estimate(Config(), 4, 1).memory_mb == pytest.approx(1573, rel=0.15)


@pytest.mark.parametrize(
    "options",
    [
        {"frames": 200_000},
        {"training.batch_size": 128},
        {"size": 84},
        {"world_model.objective": "reconstruction"},
        {"planner.samples": 256},
        {"training.updates_per_step": 2.0},
        {"evaluation.every_frames": 1000},
    ],
)
def test_more_work_takes_longer(options: dict[str, Any]) -> None:
    usual, more = estimate(Config(), 8, 2).seconds, estimate(configure("cpu", options, "here"), 8, 2).seconds
    assert usual is not None
    assert more is not None
    assert more > 1.05 * usual


def test_nothing_is_learnt_before_the_random_frames_are_over() -> None:
    config = configure("cpu", {"frames": 3000}, "here")
    assert estimate(config, 8, 1).updates == 0
    assert estimate(config, 8, 1, on_gpu=True).seconds is None


def test_finished_runs_stand_for_those_most_like_them() -> None:
    costs = {
        run_of(variant, task, seed).key: cost()
        for variant in "abc"
        for task in ("dmc/x-x", "dmc/y-y")
        for seed in (1, 2)
    }
    assert expected_seconds([], costs)(run_of("a", "dmc/x-x")) == 100
    records = [
        RunRecord(run_of("a", "dmc/x-x"), "finished", attempts=1, seconds=50.0),
        RunRecord(run_of("b", "dmc/x-x"), "finished", attempts=1, seconds=70.0),
        RunRecord(run_of("a", "dmc/y-y"), "finished", attempts=2, seconds=7.0),  # what was killed is lost
        RunRecord(run_of("c", "dmc/y-y"), "failed", attempts=1, seconds=1.0),
        RunRecord(run_of("b", "dmc/y-y", 2), "finished", attempts=1),  # nobody saw when it began
    ]
    expected = expected_seconds(records, costs)
    assert expected(run_of("a", "dmc/x-x", 2)) == 50
    assert expected(run_of("c", "dmc/x-x")) == pytest.approx(60)
    assert expected(run_of("b", "dmc/y-y")) == 70
    assert expected(run_of("c", "dmc/y-y")) == pytest.approx(60)


def test_without_a_figure_time_is_in_proportion_to_updates() -> None:
    costs = {run_of("a").key: cost(None, 10), run_of("b").key: cost(None, 30)}
    assert expected_seconds([], costs)(run_of("b")) is None
    finished = RunRecord(run_of("a"), "finished", attempts=1, seconds=5.0)
    assert expected_seconds([finished], costs)(run_of("b")) == pytest.approx(15)


@pytest.mark.parametrize(("jobs", "total"), [(1, 10.0), (2, 6.0), (4, 4.0), (9, 4.0)])
def test_runs_share_the_places(jobs: int, total: float) -> None:
    assert total_seconds([1, 2, 3, 4], jobs) == total


def test_board_knows_how_long_it_takes(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    runs = [run_of(seed=seed) for seed in (1, 2, 3)]
    for run in runs:
        ledger.plan(run)
    keys = [run.key for run in runs]
    config = configure("cpu", {"training.random_frames": 100}, "here")
    board = Board(ledger, keys, {"a": config}, {key: cost() for key in keys}, jobs=2)
    assert board.left_s() == pytest.approx(200)
    ledger.start(keys[0], "pid 1")
    run_dir = tmp_path / keys[0]
    run_dir.mkdir(parents=True)
    for second, frames in enumerate((50, 200, 300)):
        (run_dir / "metrics.jsonl").write_text(json.dumps({"frames": frames}) + "\n")
        board.look({keys[0]}, float(second))
    first, second_row, _ = board.rows()
    assert (first.reading.frames, first.frames_per_s) == (300, 100)
    assert first.left_s == pytest.approx(7)
    assert (second_row.frames_per_s, second_row.left_s) == (None, None)
    assert board.left_s() == pytest.approx(107), "the last one follows the first"
    ledger.end(keys[0], "finished", seconds=40.0)
    board.look((), 3.0)
    assert board.left_s() == pytest.approx(40)
    (run_dir / "metrics.jsonl").write_text(json.dumps({"frames": 1000, "train/episode_return": 5.0}) + "\n")
    board.look_at_all()
    assert board.rows()[0].reading.episode_return == 5.0


# Showing.


def statuses(count: int) -> list[RunStatus]:
    kinds = ("finished", "planned", "failed", "started")
    return [
        RunStatus(RunRecord(run_of(seed=seed), kinds[seed % 4]), Reading(500, 12.34, 56.0), 9.87, 61.0)  # type: ignore[arg-type]
        for seed in range(count)
    ]


def test_table_shows_every_run() -> None:
    lines = render(statuses(4), left_s=3700.0)
    assert lines[0].split() == ["run", "state", "progress", "frames/s", "return", "evaluation", "left"]
    assert lines[1].split() == [
        "dmc/walker-walk/a/seed-3", "running", "50%", "of", "1,000", "9.9", "12.3", "56.0", "1m", "01s",
    ]  # fmt: skip
    assert [line.split()[1] for line in lines[2:5]] == ["failed", "waiting", "done"]
    assert "100% of 1,000" in lines[4]
    assert lines[-1] == "4 runs: 1 waiting, 1 running, 1 done, 1 failed; about 1h 01m left"


@pytest.mark.parametrize("height", [4, 8, 24])
def test_table_fits_the_terminal(height: int) -> None:
    lines = render(statuses(40), left_s=None, width=60, height=height)
    assert len(lines) < height + (height < 5)
    assert max(map(len, lines)) <= 60
    assert "running" in lines[1], "those that go on come first"
    assert lines[-2].startswith("... and ")
    shown = len(lines) - 3
    assert lines[-2].startswith(f"... and {40 - shown} more")
    assert lines[-1] == "40 runs: 10 waiting, 10 running, 10 done, 10 failed"


def test_failures_are_told_with_the_end_of_their_log() -> None:
    failed = RunRecord(run_of(), "failed", exit_code=1, tail=("first", "last"))
    lines = failure_report([failed, RunRecord(run_of(seed=2), "finished")])
    assert lines[1:] == [
        "dmc/walker-walk/a/seed-1: exit code 1, log dmc/walker-walk/a/seed-1.log",
        "    first",
        "    last",
    ]


def test_forecast_adds_up() -> None:
    runs = [run_of(variant, seed=seed) for variant in "ab" for seed in (1, 2)]
    costs = {run.key: cost() for run in runs}
    records = [RunRecord(run) for run in runs]
    text = forecast(records, costs, jobs=2, free_disk_mb=9000.0)
    rows = [line.split() for line in text.splitlines()]
    assert rows[1][:8] == ["dmc/walker-walk", "a", "2", "0", "1,000", "10", "1m", "40s"]
    assert "4 runs, 4 of them to do, 2 at a time on 1 thread each" in text
    assert "time    3m 20s" in text
    assert "memory  2.0 GB at a time" in text
    assert "disk    0.2 GB, of 9.0 GB that are free" in text
    assert "rough" in text

    records[0] = RunRecord(runs[0], "finished", attempts=1, seconds=10.0)
    text = forecast(records, costs, jobs=2, free_disk_mb=9000.0)
    assert "4 runs, 3 of them to do" in text
    assert "time    20s" in text
    assert "The times are those of runs of this sweep" in text


def test_forecast_without_a_figure_says_so() -> None:
    text = forecast([RunRecord(run_of())], {run_of().key: cost(None)}, jobs=1, free_disk_mb=1.0)
    assert "time    not known" in text
    assert "Nothing has been measured on a GPU" in text
