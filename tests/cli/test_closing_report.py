"""What `nearfar train` ends with, from run directories on paper."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from configs.schema import Config
from scripts.train import _closing_report
from tests.runs import EVAL_HEADER, write_run


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(task="dmc/walker-walk", preset="cpu", out=str(tmp_path / "run"))


def test_curve_and_table(tmp_path: Path, config: Config) -> None:
    run = write_run(tmp_path / "run", {10_000: 100.0, 20_000: 200.0})
    lines = _closing_report(config, run, restarts=2).splitlines()
    (row,) = [line for line in lines if line.startswith("dmc/walker-walk")]
    assert row.split() == ["dmc/walker-walk", "1", "20,000", "200.0", "±", "1.5", "10", "200.0", "3m", "20s"]
    assert f"learning curve  {run / 'learning-curve.png'}" in lines
    assert any(line.startswith("restarts        2") for line in lines)
    with Image.open(run / "learning-curve.png") as picture:
        assert min(picture.size) > 200


def test_nothing_learnt_is_said(tmp_path: Path, config: Config) -> None:
    report = _closing_report(config, write_run(tmp_path / "run", {7: 1.0}), restarts=0)  # before any update
    assert report.startswith("nothing was learnt: raise --frames above --training.random-frames")


def test_evaluations_that_cannot_be_used_are_named(
    tmp_path: Path, config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run")
    (run / "eval.csv").write_text(f"{EVAL_HEADER}\n1000,1,1,nan,0,10\n")
    report = _closing_report(config, run, restarts=0)
    assert capsys.readouterr().err == "nearfar: run/eval.csv: line 2: the return is nan; nothing before it\n"
    assert not (run / "learning-curve.png").exists()
    assert "learning curve" not in report
    assert "tensorboard" in report


def test_evaluations_before_damage_are_drawn(
    tmp_path: Path, config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run")
    with (run / "eval.csv").open("a") as file:
        file.write("40000,1,1,oh,0,10\n")
    assert "30,000" in _closing_report(config, run, restarts=0)
    assert "line 5: return 'oh' is no number; used up to 30,000 frames" in capsys.readouterr().err
