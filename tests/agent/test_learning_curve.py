from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agent.evaluation.comparison.curve_plots import draw_curves, spread
from agent.evaluation.comparison.learning_curve import draw_learning_curve, mean_curves, results_table
from agent.evaluation.comparison.records import Curve
from agent.evaluation.evaluations import Trace
from agent.evaluation.figure_style import looks_of
from agent.evaluation.published import published_scores

TASK = "dmc/cartpole-swingup"


def run(seed: int, returns: Mapping[int, float], task: str = TASK, variant: str = "cpu") -> Curve:
    frames = np.array(list(returns), dtype=np.float64)
    trace = Trace(
        frames=frames,
        returns=np.array(list(returns.values()), dtype=np.float64),
        seconds=frames / 60,
        updates=frames // 8,
        stds=np.full(len(frames), 20.0),
        episodes=np.full(len(frames), 10.0),
    )
    return Curve(task, variant, seed, trace, source=f"seed-{seed}")


ONE = run(1, {10_000: 100.0, 50_000: 400.0, 100_000: 830.0})
TWO = run(2, {10_000: 200.0, 30_000: 300.0, 50_000: 600.0})


@pytest.mark.parametrize("runs", [[ONE], [ONE, TWO]])
@pytest.mark.parametrize("with_published", [True, False])
def test_same_input_same_picture(tmp_path: Path, runs: list[Curve], with_published: bool) -> None:
    published = published_scores(TASK, 100_000) if with_published else []
    paths = [tmp_path / "a.png", tmp_path / "deep" / "b.png"]
    for path in paths:
        draw_learning_curve(runs, published, path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert [path.name for path in paths[1].parent.iterdir()] == ["b.png"], "and nothing beside it"
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


def right_half(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    return pixels[:, pixels.shape[1] // 2 :]


def is_curve_in(pixels: np.ndarray) -> bool:
    return bool((pixels == (0, 0x72, 0xB2)).all(axis=2).any())


def test_figures_beyond_the_run_are_on_the_axis(tmp_path: Path) -> None:
    short = run(1, {10_000: 100.0, 20_000: 300.0})
    draw_learning_curve([short], published_scores(TASK, 100_000), tmp_path / "curve.png")
    draw_learning_curve([short], [], tmp_path / "alone.png")
    found = [is_curve_in(right_half(tmp_path / name)) for name in ("curve.png", "alone.png")]
    assert found == [False, True], "the axis ends where the run does, unless figures lie beyond"


def test_the_last_evaluation_is_carried_forward() -> None:
    scope, bands = mean_curves([ONE, TWO])
    band = bands["cpu"]
    # Customary gaps are 40k and 20k, so that points are 30k apart; to these come both ends.
    np.testing.assert_array_equal(band.grid, [30_000, 50_000, 60_000, 90_000, 100_000])
    np.testing.assert_allclose(band.value, [(100 + 300) / 2, (400 + 600) / 2, 400, 400, 830])
    np.testing.assert_array_equal(band.runs, [2, 2, 1, 1, 1])
    assert scope.title == TASK


def test_the_legend_says_what_all_runs_have_come_to(tmp_path: Path) -> None:
    scope, bands = mean_curves([ONE, TWO])
    texts = []
    for is_end_named in (True, False):
        draw_curves(tmp_path / "a", scope, bands, "frames", looks_of(["cpu"]), is_end_named=is_end_named)
        texts.append((tmp_path / "a.svg").read_text())
    assert "cpu (2 seeds): 500 at 50k<" in texts[0]
    assert "cpu (2 seeds)<" in texts[1]


def test_variants_keep_their_order() -> None:
    _, bands = mean_curves([replace(TWO, variant="z"), replace(ONE, variant="a")])
    assert list(bands) == ["z", "a"]
    assert bands["a"].value[-1] == 830


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
    assert not path.exists()


def test_table_has_one_line_a_run() -> None:
    unknown = np.full(3, np.nan)
    bare = replace(TWO, trace=replace(TWO.trace, stds=unknown, episodes=unknown, seconds=unknown))
    falling = run(3, {1000: 100.25, 2000: 50.0})
    lines = results_table([falling, bare]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[2].split() == [TASK, "3", "2,000", "50.0", "±", "20.0", "10", "100.2", "33s"]
    assert lines[3].split() == [TASK, "2", "50,000", "600.0", "±", "-", "-", "600.0", "-"]
