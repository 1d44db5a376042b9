from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agent.evaluation.curves import draw_learning_curve, mean_curve, spread
from agent.evaluation.published import published_scores
from agent.evaluation.runs import Evaluation, RunCurve

TASK = "dmc/cartpole-swingup"


def run(seed: int, returns: dict[int, float], task: str = TASK) -> RunCurve:
    rows = (
        Evaluation(frames, frames // 8, frames / 60, value, 20.0, 10) for frames, value in returns.items()
    )
    return RunCurve(task=task, label="cpu", seed=seed, evaluations=tuple(rows))


ONE = run(1, {10_000: 100.0, 50_000: 400.0, 100_000: 830.0})
TWO = run(2, {10_000: 200.0, 30_000: 300.0, 50_000: 600.0})


@pytest.mark.parametrize("runs", [[ONE], [ONE, TWO]])
@pytest.mark.parametrize("with_published", [True, False])
def test_same_input_same_picture(tmp_path: Path, runs: list[RunCurve], with_published: bool) -> None:
    published = published_scores(TASK, 100_000) if with_published else []
    paths = [tmp_path / "a.png", tmp_path / "deep" / "b.png"]
    for path in paths:
        draw_learning_curve(runs, published, path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with Image.open(paths[0]) as picture:
        assert picture.width > 600
        colours = len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0))
    assert colours > 50


def test_published_figures_are_drawn(tmp_path: Path) -> None:
    pictures = []
    for published in (published_scores(TASK, 100_000), []):
        draw_learning_curve([ONE], published, tmp_path / "curve.png")
        pictures.append((tmp_path / "curve.png").read_bytes())
    assert pictures[0] != pictures[1]


def test_times_that_say_nothing_are_left_out(tmp_path: Path) -> None:
    pictures = []
    for is_timed in (True, False):
        draw_learning_curve([ONE], [], tmp_path / "curve.png", is_timed=is_timed)
        pictures.append((tmp_path / "curve.png").read_bytes())
    assert pictures[0] != pictures[1]


def test_mean_stands_where_all_runs_have_been() -> None:
    frames, mean = mean_curve([ONE, TWO])
    np.testing.assert_array_equal(frames, [10_000, 30_000, 50_000])
    np.testing.assert_allclose(mean, [150, (250 + 300) / 2, 500])


def test_labels_are_moved_apart_no_further_than_needed() -> None:
    values = np.array([0.1, 0.5, 0.51, 0.52])
    moved = spread(values, 0.05)
    assert np.diff(moved).min() >= 0.05 - 1e-9
    assert moved[0] == pytest.approx(0.1)
    assert moved[1:].mean() == pytest.approx(values[1:].mean())


def test_mistakes_are_named(tmp_path: Path) -> None:
    path = tmp_path / "never.png"
    with pytest.raises(ValueError, match="0 runs"):
        draw_learning_curve([], [], path)
    with pytest.raises(ValueError, match="walker"):
        draw_learning_curve([ONE, run(1, {1: 1.0}, "dmc/walker-walk")], [], path)
    with pytest.raises(ValueError, match="without"):
        draw_learning_curve([run(1, {})], [], path)
    assert not path.exists()
