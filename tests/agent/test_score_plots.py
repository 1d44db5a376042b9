"""What bars, profiles and comparisons show, by the axes and the text of their pictures."""

from __future__ import annotations

import math
import warnings
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes

from agent.evaluation.comparison import score_plots
from agent.evaluation.comparison.aggregation import Scope
from agent.evaluation.comparison.curve_intervals import Estimation
from agent.evaluation.comparison.figure_files import draw_charts
from agent.evaluation.comparison.scores import PROFILE_LEVELS, Comparison, Estimate, Profile, Scorecard
from agent.evaluation.comparison.study import Question, make_study
from agent.evaluation.figure_style import looks_of
from tests.pictures import keep_axes
from tests.runs import collected, write_run

ANT = Scope("gym/Ant-v5", ("gym/Ant-v5",), 1.0, {})
WALKER = Scope("dmc/walker-walk", ("dmc/walker-walk",), 1.0, {})


def card(variant: str, value: float, low: float = math.nan, high: float = math.nan) -> Scorecard:
    mean = Estimate(value, low, high)
    return Scorecard(variant, (1, 2), 2, {"mean": mean}, None, value, None)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Axes]:
    """Axes of the pictures that a test draws."""
    return keep_axes(monkeypatch, score_plots)


@pytest.mark.parametrize(
    ("scope", "cards", "published", "limits"),
    [
        (ANT, [card("a", -500, -900, -100), card("b", -50, -60, -40)], {}, (-900, 0)),
        (ANT, [card("a", -500, -900, -100), card("b", 80, 20, 140)], {}, (-900, 140)),
        (ANT, [card("a", 200, 100, 300)], {}, (0, 300)),
        (ANT, [card("a", 200, 100, 300)], {"SAC": 900.0}, (0, 900)),
        (ANT, [card("a", -300)], {}, (-300, 0)),
        (ANT, [card("a", 0)], {}, (0, 0)),
        (WALKER, [card("a", 97, -95, 289)], {}, (-95, 1000)),
        (WALKER, [card("a", 900, 700, 1100)], {}, (0, 1100)),
        (WALKER, [card("a", 900, 850, 950)], {}, (0, 1000)),
    ],
)
def test_bars_and_intervals_are_whole(
    scope: Scope,
    cards: list[Scorecard],
    published: dict[str, float],
    limits: tuple[float, float],
    drawn: list[Axes],
    tmp_path: Path,
) -> None:
    """With a margin where something ends that is neither 0 nor the most there is."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        looks = looks_of([each.variant for each in cards])
        score_plots.draw_bars(tmp_path / "bars", scope, 1e5, "frames", cards, published, looks)
    low, high = drawn[0].get_xlim()
    assert low < high
    for found, end in ((low, limits[0]), (high, limits[1])):
        if end in (0, 1000) and limits != (0, 0):
            assert found == end
        elif end:
            assert 0.01 < (found - end) / (high - low) * math.copysign(1, found - (low + high) / 2) < 0.1


LONG = (
    "cpu, objective augmentation, imagination after updates 1500",
    "cpu, objective augmentation, imagination after updates 3000",
    "WWWWWWWWWWWWWWWWWWWWWWWWWWWWWW",
    "$x$",
)


def labels_of(axes: Axes) -> list[str]:
    """Those of the y-axis, which lie within the picture and not over one another."""
    axes.figure.canvas.draw()
    labels = axes.get_yticklabels()
    boxes = [label.get_window_extent() for label in labels]
    assert all(box.x0 >= 0 and box.x1 <= axes.get_window_extent().x0 for box in boxes)
    assert not any(first.overlaps(second) for first, second in combinations(boxes, 2))
    return [label.get_text() for label in labels]


def test_long_names_stay_apart_and_in_the_picture(drawn: list[Axes], tmp_path: Path) -> None:
    cards = [card(name, 10) for name in LONG]
    score_plots.draw_bars(tmp_path / "bars", WALKER, 1e5, "frames", cards, {}, looks_of(LONG))
    pairs = [Comparison(first, second, Estimate(0.5), None) for first, second in combinations(LONG, 2)]
    score_plots.draw_improvement(tmp_path / "pairs", WALKER, 1e5, "frames", pairs)
    bars, improvement = (labels_of(axes) for axes in drawn)
    assert [(label[:3], label[-4:]) for label in bars] == [
        ("cpu", "1500"),
        ("cpu", "3000"),
        ("WWW", "WWWW"),
        ("$x$", "$x$"),
    ]
    assert len(set(improvement)) == 6
    first, second = improvement[0].split("\n")
    assert first.endswith("1500") and second.startswith("> cpu") and second.endswith("3000")


def test_short_names_are_whole(drawn: list[Axes], tmp_path: Path) -> None:
    pairs = [Comparison("contrastive", "predictive", Estimate(0.5), None)]
    score_plots.draw_improvement(tmp_path / "pairs", WALKER, 1e5, "frames", pairs)
    assert labels_of(drawn[0]) == ["contrastive > predictive"]


def test_bands_of_profiles_are_called_pointwise(tmp_path: Path) -> None:
    share, none = np.linspace(1, 0, len(PROFILE_LEVELS)), np.full(len(PROFILE_LEVELS), np.nan)
    looks = looks_of(["a"])
    for name, low, high in (("with", share - 0.1, share + 0.1), ("without", none, none)):
        profile = Profile("a", share, low, high)
        score_plots.draw_profiles(tmp_path / name, WALKER, 1e5, "frames", [profile], looks)
    assert "band: 95%, pointwise<" in (tmp_path / "with.svg").read_text()
    assert "pointwise" not in (tmp_path / "without.svg").read_text()


def test_every_pair_is_drawn(tmp_path: Path) -> None:
    """Of seven variants, as the bundled comparison of objectives has, 21."""
    for number in range(7):
        for seed in (1, 2):
            run = tmp_path / "runs" / f"{number}-{seed}"
            write_run(run, {10_000: 10.0 * number + seed}, seed=seed, preset=f"v{number}")
    study = make_study(collected(tmp_path / "runs"), Question(estimation=Estimation(resamples=20)))
    assert study is not None
    (chart,) = [each for each in draw_charts(study, tmp_path / "figures") if each.kind == "improvement"]
    svg = chart.path.with_name(f"{chart.path.name}.svg").read_text()
    for first in range(7):
        for second in range(first + 1, 7):
            assert f"v{first} &gt; v{second}<" in svg
            assert f"v{first} over v{second} 0.00" in chart.description
