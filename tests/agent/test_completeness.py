from __future__ import annotations

from pathlib import Path

import pytest

from agent.evaluation.comparison.completeness import completeness_matrix
from agent.evaluation.comparison.pooling import refuse_mixed
from tests.runs import collected, noted, write_run


def statuses(matrix: tuple[object, ...]) -> dict[tuple[str, str], list[str]]:
    return {(row.task, row.variant): [cell.status for cell in row.cells] for row in matrix}  # type: ignore[attr-defined]


def test_every_run_that_could_be_there_has_a_cell(tmp_path: Path) -> None:
    write_run(tmp_path / "a1", seed=1)
    write_run(tmp_path / "a2", {10_000: 1.0}, seed=2)
    write_run(tmp_path / "a3", {}, seed=3)
    write_run(tmp_path / "b1", seed=1, preset="gpu")
    write_run(tmp_path / "c1", seed=1, task="dmc/cartpole-swingup")
    matrix = completeness_matrix(collected(tmp_path))
    assert statuses(matrix) == {
        ("dmc/cartpole-swingup", "cpu"): ["complete", "missing", "missing"],
        ("dmc/cartpole-swingup", "gpu"): ["unplanned", "", ""],
        ("dmc/walker-walk", "cpu"): ["complete", "short", "missing"],
        ("dmc/walker-walk", "gpu"): ["complete", "", ""],
    }
    short = matrix[2].cells[1]
    assert (short.seed, short.last_frames, short.target_frames) == (2, 10_000, 30_000)


def test_where_nobody_says_the_longest_run_is_the_target(tmp_path: Path) -> None:
    path = tmp_path / "walker-walk.csv"
    path.write_text("frames,reward,seed\n10,1,1\n20,1,1\n10,1,2\n")
    (row,) = completeness_matrix(collected(path))
    assert [cell.status for cell in row.cells] == ["complete", "short"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"mujoco": "4.0.0"}, "mujoco (3.17.0: seed 1, seed 2; 4.0.0: seed 3)"),
        ({"look": "original"}, "look (fast: seed 1, seed 2; original: seed 3)"),
        ({"action_repeat": 4}, "action repeat (2: seed 1, seed 2; 4: seed 3)"),
        ({"size": 84}, "size (64: seed 1, seed 2; 84: seed 3)"),
        ({"obs": "state"}, "obs (pixels: seed 1, seed 2; state: seed 3)"),
        ({"distract": "camera=easy"}, "distract (camera=easy: seed 3; none: seed 1, seed 2)"),
        ({"stack": 4}, "stack (3: seed 1, seed 2; 4: seed 3)"),
    ],
)
def test_mixed_pools_are_refused(tmp_path: Path, change: dict[str, object], text: str) -> None:
    for seed in (1, 2):
        write_run(tmp_path / f"{seed}", seed=seed)
    write_run(tmp_path / "3", seed=3, **change)  # type: ignore[arg-type]
    write_run(tmp_path / "4", seed=4, preset="gpu")
    found = collected(tmp_path)
    used, refused = refuse_mixed(found, is_allowed=False)
    assert refused == {("dmc/walker-walk", "cpu")}
    assert [curve.variant for curve in used.curves] == ["gpu"]
    assert noted(used)[0].startswith(f"dmc/walker-walk, cpu: refused, mixed {text}: such runs measure")
    assert statuses(completeness_matrix(found, refused))["dmc/walker-walk", "cpu"] == ["refused"] * 3 + [""]

    used, refused = refuse_mixed(found, is_allowed=True)
    assert (len(used.curves), refused) == (4, set())
    note = used.notes[0]
    assert f"mixed {text}: pooled all the same" in note.text
    assert not note.is_loss


def test_labels_tell_mixed_runs_apart(tmp_path: Path) -> None:
    write_run(tmp_path / "1", seed=1)
    write_run(tmp_path / "2", seed=2, look="original")
    used, refused = refuse_mixed(
        collected(tmp_path / "1", tmp_path / "2", labels=["a", "b"]), is_allowed=False
    )
    assert not refused
    assert noted(used) == ["dmc/walker-walk: variants differ in look (fast: a; original: b)"]


def test_what_is_not_known_is_no_contradiction(tmp_path: Path) -> None:
    write_run(tmp_path / "1", seed=1)
    (write_run(tmp_path / "2", seed=2) / "manifest.json").unlink()
    _, refused = refuse_mixed(collected(tmp_path), is_allowed=False)
    assert not refused
