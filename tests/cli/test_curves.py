"""`nearfar curves`, from a command line to its files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import cli
from tests.runs import write_run

ROOT = Path(__file__).parents[2]


def run_command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scripts.cli", "curves", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_files_and_tables_of_a_comparison(tmp_path: Path) -> None:
    """What is damaged is named, and the rest is compared; two processes write the same bytes."""
    for seed in (1, 2):
        write_run(tmp_path / "runs" / f"{seed}", seed=seed)
    (write_run(tmp_path / "runs" / "3", seed=3) / "eval.csv").write_text("nonsense")
    csv = tmp_path / "theirs-walker_walk.csv"
    csv.write_text("step,reward,seed\n5000,50,1\n15000,250,1\n5000,nan,2\n")
    outputs = []
    for out in (tmp_path / "a", tmp_path / "b"):
        done = run_command(
            f"ours={tmp_path / 'runs'}", csv, "--action-repeat", 2, "--resamples", 50, "--out", out
        )
        assert done.returncode == 0, done.stderr
        outputs.append({str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*.*"))})
    assert outputs[0] == outputs[1]
    assert {"report.html", "summary.json", "curves.csv", "reached.csv"} < outputs[0].keys()
    assert {"figures/dmc-walker-walk-frames.svg", "figures/dmc-walker-walk-frames.png"} < outputs[0].keys()
    for text in ("runs/3/eval.csv: has not the header", "seed 2: left out: line 4: the return is nan"):
        assert text in done.stderr
    assert "Traceback" not in done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["dmc/walker-walk", "ours", "30k", "30k", "missing"] in lines
    assert "at 30,000 frames" in done.stdout
    assert ["dmc/walker-walk", "ours", "not", "(2", "of", "2)", "not", "(2", "of", "2)"] in lines
    found = json.loads((tmp_path / "a" / "summary.json").read_text())
    assert (found["variants"], found["at"]) == (["ours", "theirs"], [30_000])


def test_nothing_heavy_is_imported() -> None:
    program = """
import sys
import scripts.curves
from agent.evaluation.comparison import exports, figure_files, report, study
print([name for name in ("torch", "mujoco", "dm_control", "gymnasium", "tensorboard") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--out {tmp}/out", "nothing to compare: name run directories, sweeps or CSV files"),
        ("{tmp}/absent --out {tmp}/out", "absent: does not exist"),
        ("{tmp}/empty --out {tmp}/out", "empty: holds no run, no sweep and no CSV file"),
        ("{tmp}/run --out {tmp}/file", "file cannot be made (File exists): give another directory"),
        ("{tmp}/run --at 1k --out {tmp}/out", "--at 1k: expected positive numbers"),
        ("{tmp}/run --threshold 0 --out {tmp}/out", "--threshold 0: expected positive numbers"),
        ("{tmp}/run --action-repeat two --out {tmp}/out", "--action-repeat two: expected N or TASK=N"),
        ("=x --out {tmp}/out", "=x: expected LABEL=PATH"),
        ("{tmp}/steps-walker_walk.csv --out {tmp}/out", "'step' counts frames or decisions? Say so"),
        ("{tmp}/steps-walker_walk.csv --axis seconds --action-repeat 2 --out {tmp}/out", "its seconds"),
        ("{tmp}/run --smooth 0 --out {tmp}/out", "smooth: input should be greater than 0"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "steps-walker_walk.csv").write_text("step,reward,seed\n1,2,3\n")
    assert cli.main(["curves", *arguments.format(tmp=tmp_path).split()]) == 2
    assert not (tmp_path / "out").exists()
    text = capsys.readouterr().err
    assert text.startswith("nearfar: error: ")
    assert text.count("\n") == 1
    assert message in text


def test_several_reasons_are_lines_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "1", seed=1)
    write_run(tmp_path / "2", seed=2, mujoco="4.0.0")
    arguments = ["curves", str(tmp_path / "1"), str(tmp_path / "2"), str(tmp_path / "3")]
    assert cli.main([*arguments, "--out", str(tmp_path / "out")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "nearfar: 3: does not exist",
        "nearfar: dmc/walker-walk, cpu: refused, mixed mujoco (3.17.0: seed 1; 4.0.0: seed 2): "
        "such runs measure different things; tell them apart with LABEL=PATH, or pool them with "
        "--allow-mixed",
        "nearfar: error: nothing can be drawn, for 2 reasons above",
    ]
