from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from agent.evaluation.evaluations import read_eval_csv

HEADER = "frames,updates,seconds,return_mean,return_std,episodes"
ROWS = "1000,10,5.5,100.25,3,10\n2000,20,11,150,4.5,10\n"


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_every_column_is_read(tmp_path: Path) -> None:
    trace, problems = read_eval_csv(written(tmp_path / "eval.csv", f"{HEADER}\n{ROWS}"))
    assert trace is not None
    found = (trace.frames, trace.updates, trace.seconds, trace.returns, trace.stds, trace.episodes)
    np.testing.assert_array_equal(np.stack(found, axis=1), np.loadtxt(ROWS.split(), delimiter=","))
    assert problems == []


@pytest.mark.parametrize(
    ("more", "frames", "problem"),
    [
        ("3000,30,1", [1000, 2000], "line 4 is torn"),
        ("1500,15,8,1,1,10\n", [1000, 1500], "go from 2,000 to 1,500"),
        ("3000,30,16,x,1,10\n4000,40,20,5,1,10\n", [1000, 2000], "'x' is no number; used up to 2,000"),
    ],
)
def test_a_damaged_file_is_used_up_to_the_fault(
    tmp_path: Path, more: str, frames: list[int], problem: str
) -> None:
    trace, problems = read_eval_csv(written(tmp_path / "eval.csv", f"{HEADER}\n{ROWS}{more}"))
    assert trace is not None
    assert list(trace.frames) == frames
    (text,) = problems
    assert problem in text


def test_a_row_without_its_last_columns_has_a_return(tmp_path: Path) -> None:
    trace, problems = read_eval_csv(written(tmp_path / "eval.csv", f"{HEADER}\n1000,10,5.5,100\n"))
    assert trace is not None
    assert trace.returns.tolist() == [100]
    assert np.isnan([trace.stds[0], trace.episodes[0]]).all()
    assert problems == []


def test_nothing_evaluated_yet(tmp_path: Path) -> None:
    assert read_eval_csv(written(tmp_path / "eval.csv", f"{HEADER}\n")) == (None, [])
    with pytest.raises(ValueError, match="header"):
        read_eval_csv(written(tmp_path / "eval.csv", ROWS))
