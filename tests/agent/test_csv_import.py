from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.runs import collected, noted

ROWS = "frames,return_mean,seed\n1000,10,1\n2000,20,1\n1000,11,2\n2000,22,2\n"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_columns_and_name_say_what_a_file_holds(tmp_path: Path) -> None:
    found = collected(write(tmp_path / "theirs-walker_walk.csv", ROWS))
    assert [(c.task, c.variant, c.seed, list(c.trace.returns)) for c in found.curves] == [
        ("dmc/walker-walk", "theirs", 1, [10, 20]),
        ("dmc/walker-walk", "theirs", 2, [11, 22]),
    ]
    assert found.curves[0].target_frames is None
    assert np.isnan(found.curves[0].trace.seconds).all()
    assert found.notes == ()


@pytest.mark.parametrize(
    ("name", "task", "variant", "seed"),
    [
        ("drqv2/walker-walk_seed-3.csv", "dmc/walker-walk", "drqv2", 3),
        ("Walker_Walk.seed4.csv", "dmc/walker-walk", "{folder}", 4),
        ("cartpole-swingup-my-agent-seed_07.csv", "dmc/cartpole-swingup", "my-agent", 7),
    ],
)
def test_names_without_columns(tmp_path: Path, name: str, task: str, variant: str, seed: int) -> None:
    found = collected(write(tmp_path / name, "Frames,Episode Reward\n10,1\n20,2\n"))
    (curve,) = found.curves
    assert (curve.task, curve.variant, curve.seed) == (task, variant.format(folder=tmp_path.name), seed)


def test_flags_name_what_a_file_does_not(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", "frames,reward,seed\n10,1,1\n")
    assert noted(collected(path)) == [
        "log.csv: names no task, neither in a column nor in its name: give --task TASK"
    ]
    (curve,) = collected(path, labels=["ours"], task="Other/Task").curves
    assert (curve.task, curve.variant) == ("Other/Task", "ours")


def test_tasks_and_methods_from_columns(tmp_path: Path) -> None:
    text = "method;env;seed;frame;reward\na;walker_walk;1;10;1\nb;walker-walk;1;10;2\na;Pong;1;10;3\n"
    found = collected(write(tmp_path / "all.csv", text))
    assert [(c.task, c.variant) for c in found.curves] == [
        ("Pong", "a"),
        ("dmc/walker-walk", "a"),
        ("dmc/walker-walk", "b"),
    ]
    assert {c.variant for c in collected(tmp_path / "all.csv", labels=["x"]).curves} == {"x, a", "x, b"}


def test_steps_need_an_action_repeat(tmp_path: Path) -> None:
    path = write(tmp_path / "walker-walk.csv", "step,reward,seed\n1000,1,1\n2000,2,1\n")
    (note,) = noted(collected(path))
    assert "'step' counts frames or decisions?" in note
    assert "--action-repeat N" in note
    for repeats, last in (({"": 1}, 2000), ({"": 4}, 8000), ({"": 4, "dmc/walker-walk": 2}, 4000)):
        (curve,) = collected(path, action_repeat=repeats).curves
        assert curve.last_frames == last
        assert curve.conditions == {"action repeat": {str(last // 2000)}}


def test_frames_count_whatever_steps_there_are_beside(tmp_path: Path) -> None:
    path = write(tmp_path / "walker-walk.csv", "step,frame,reward,seed,action_repeat\n10,20,1,1,2\n")
    (curve,) = collected(path).curves
    assert curve.last_frames == 20
    assert curve.conditions == {"action repeat": {"2"}}
    assert collected(path).notes == ()


@pytest.mark.parametrize(
    ("text", "message", "seeds"),
    [
        ("", "is empty", []),
        ("frames,return_mean,seed\n", "has a header and no complete row", []),
        ("time,loss,seed\n1,2,3\n", "has no column frames or step; found time, loss, seed", []),
        ("frames,loss,seed\n1,2,3\n", "has no column reward or return_mean; found frames, loss, seed", []),
        (f"{ROWS}3000,30", "line 6 has 2 of 3 columns: left out", [1, 2]),
        (ROWS[:-1], "the last line has no line break", [1, 2]),
        (f"{ROWS}3000,nan,2\n", "seed 2: line 6: the return is nan; used up to 2,000 frames", [1, 2]),
        (f"{ROWS}1500,30,2\n", "seed 2: left out: frames go from 2,000 to 1,500 in line 6", [1]),
        (f"{ROWS}2000,30,2\n", "seed 2: left out: frames go from 2,000 to 2,000 in line 6", [1]),
        (f"{ROWS}3000,30,x\n", "seed x: seed 'x' is no whole number", [1, 2]),
        (f"{ROWS}-5,30,3\n", "seed 3: left out: line 6: frames are -5; nothing before it", [1, 2]),
        ("frames,reward,loss\n1,2,3\n", "columns that are not read: loss", [0]),
        ("frames,reward\n1,2\n", "has no column seed and none in its name", [0]),
        ("frames,reward,seed,frame_skip\n1,2,1,0\n", "expected one whole number as action repeat", []),
    ],
)  # fmt: skip
def test_damage_is_one_line_and_the_rest_is_used(
    tmp_path: Path, text: str, message: str, seeds: list[int]
) -> None:
    found = collected(write(tmp_path / "walker-walk.csv", text))
    notes = noted(found)
    assert any(message in note for note in notes)
    assert all(note.startswith("walker-walk.csv") and "\n" not in note for note in notes)
    assert [curve.seed for curve in found.curves] == seeds


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "walker-walk.csv").write_bytes(b"\xff\xfe\x00\x01")
    assert noted(collected(tmp_path / "walker-walk.csv")) == [
        "walker-walk.csv: cannot be read (no UTF-8 text)"
    ]


def test_a_folder_of_csv_files_alone_is_read(tmp_path: Path) -> None:
    for seed in (1, 2):
        write(tmp_path / f"walker-walk-seed{seed}.csv", "frames,reward\n10,1\n")
    assert [curve.seed for curve in collected(tmp_path).curves] == [1, 2]
