from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from agent.evaluation.runs import EVAL_HEADER, RunError, read_evaluations, read_run
from agent.evaluation.text_tables import format_duration, results_table

ROWS = "1000,10,5.5,100.25,3,10\n2000,20,11,150,4.5,10\n"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "eval.csv").write_text(f"{EVAL_HEADER}\n{ROWS}")
    config = {"task": "dmc/walker-walk", "preset": "cpu", "seed": 3}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "manifest.json").write_text(json.dumps({"python": "3"}))
    return tmp_path


def test_reads_a_run(run: Path) -> None:
    found = read_run(run)
    assert (found.task, found.label, found.seed, found.manifest) == (
        "dmc/walker-walk",
        "cpu",
        3,
        {"python": "3"},
    )
    assert [(row.frames, row.return_mean, row.episodes) for row in found.evaluations] == [
        (1000, 100.25, 10),
        (2000, 150.0, 10),
    ]
    assert read_run(run, label="mine").label == "mine"


def test_a_torn_last_line_is_left_out(run: Path) -> None:
    path = run / "eval.csv"
    path.write_text(f"{EVAL_HEADER}\n{ROWS}3000,30,1")
    assert [row.frames for row in read_evaluations(path)] == [1000, 2000]


def test_rows_of_a_run_that_went_back_replace_later_ones(run: Path) -> None:
    path = run / "eval.csv"
    path.write_text(f"{EVAL_HEADER}\n{ROWS}1500,15,8,1,1,10\n")
    assert [row.frames for row in read_evaluations(path)] == [1000, 1500]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("eval.csv", None, "missing"),
        ("eval.csv", "frames,return\n1,2\n", "header"),
        ("eval.csv", f"{EVAL_HEADER}\n1,2,3\n", "line 2"),
        ("eval.csv", f"{EVAL_HEADER}\n1,2,three,4,5,6\n", "line 2"),
        ("config.yaml", None, "missing"),
        ("config.yaml", "task: [", "damaged"),
        ("config.yaml", "- a list\n", "expected a mapping"),
        ("config.yaml", "task: dmc/walker-walk\n", "'preset'"),
        ("manifest.json", "{", "damaged"),
    ],
)
def test_damage_is_named(run: Path, name: str, content: str | None, message: str) -> None:
    (run / name).unlink()
    if content is not None:
        (run / name).write_text(content)
    with pytest.raises(RunError, match=message) as error:
        read_run(run)
    assert str(run / name) in str(error.value)


def test_table_has_one_line_a_run(run: Path) -> None:
    empty = run / "eval.csv"
    first = read_run(run)
    empty.write_text(f"{EVAL_HEADER}\n")
    lines = results_table([first, read_run(run)]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[2].split() == ["dmc/walker-walk", "3", "2,000", "150.0", "±", "4.5", "10", "150.0", "11s"]
    assert lines[3].split() == ["dmc/walker-walk", "3", "-", "-", "-", "-", "-"]


@pytest.mark.parametrize(("seconds", "text"), [(59.2, "59s"), (725, "12m 05s"), (11_220, "3h 07m")])
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
