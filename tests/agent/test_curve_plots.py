"""What is drawn around bold lines: runs, bands and published figures, by axes and text of the pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from agent.evaluation.comparison import curve_plots
from agent.evaluation.comparison.aggregation import AGGREGATE, Scope, make_scopes
from agent.evaluation.comparison.curve_intervals import Estimation, make_band
from agent.evaluation.comparison.exports import summary
from agent.evaluation.comparison.figure_files import draw_charts
from agent.evaluation.comparison.published_means import means_over_tasks
from agent.evaluation.comparison.reading import RunSet
from agent.evaluation.comparison.records import Curve
from agent.evaluation.comparison.report import make_page
from agent.evaluation.comparison.study import Question, make_study
from agent.evaluation.evaluations import Trace
from agent.evaluation.figure_style import looks_of
from agent.evaluation.published import PublishedScore, published_scores
from tests.pictures import keep_axes

FAST = Estimation(resamples=20)
GRID = np.array([50_000.0, 100_000.0])
TASKS = ("dmc/cartpole-swingup", "dmc/cheetah-run", "dmc/finger-spin", "dmc/walker-walk")


def run(task: str, seed: int, returns: Sequence[float]) -> Curve:
    frames = 50_000 * np.arange(1, len(returns) + 1, dtype=np.float64)
    unknown = np.full(len(frames), np.nan)
    trace = Trace(frames, np.array(returns, np.float64), unknown, unknown, unknown, unknown)
    return Curve(task, "ours", seed, trace, source=f"{task}/{seed}")


def runs(tasks: Sequence[str], seeds: int) -> RunSet:
    rng = np.random.default_rng(0)
    curves = [run(task, seed, rng.uniform(0, 900, 2).tolist()) for task in tasks for seed in range(seeds)]
    return RunSet(tuple(curves), (), (), ("ours",))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Axes]:
    """Axes of the pictures that a test draws."""
    return keep_axes(monkeypatch, curve_plots)


def draw(path: Path, scope: Scope, published: Sequence[PublishedScore] = ()) -> str:
    bands = {"ours": make_band(scope, "ours", GRID, "frames", FAST)}
    curve_plots.draw_curves(path, scope, bands, "frames", looks_of(["ours"]), published)
    return path.with_suffix(".svg").read_text()


def thin_lines(axes: Axes) -> list[Line2D]:
    return [line for line in axes.get_lines() if line.get_linewidth() < 1]


def test_a_thin_line_of_an_aggregate_is_an_iqm_as_the_bold_one_is(drawn: list[Axes], tmp_path: Path) -> None:
    for seeds in (2, 5):
        found = runs(TASKS, seeds)
        scope = make_scopes(found)[0][0]
        assert scope.name == AGGREGATE
        text = draw(tmp_path / f"{seeds}", scope)
        assert "IQM of return / 1000" in text
        lines = thin_lines(drawn[-1])
        assert len(lines) == seeds
        for seed, line in enumerate(lines):
            scores = np.array([each.trace.returns for each in found.curves if each.seed == seed])
            middle = np.sort(scores, axis=0)[1:3].mean(axis=0)
            np.testing.assert_allclose(np.asarray(line.get_ydata()), middle / 1000)
    few, many = (float(thin_lines(axes)[0].get_alpha() or 1) for axes in drawn)
    assert many < few


@pytest.mark.parametrize("tasks", [TASKS, TASKS[:1]])
def test_bands_are_called_pointwise_where_there_are_any(tasks: tuple[str, ...], tmp_path: Path) -> None:
    texts = [draw(tmp_path / f"{seeds}", make_scopes(runs(tasks, seeds))[0][0]) for seeds in (3, 4)]
    assert "pointwise" not in texts[0]
    assert texts[1].count("band: 95%, pointwise<") == 1


def test_runs_that_are_evaluated_once_have_no_band(tmp_path: Path) -> None:
    curves = tuple(run(TASKS[0], seed, [100.0 * seed]) for seed in range(5))
    scope = make_scopes(RunSet(curves, (), (), ("ours",)))[0][0]
    assert "pointwise" not in draw(tmp_path / "once", scope)


def figure(method: str, task: str, frames: int, value: float, **others: Any) -> PublishedScore:
    facts: Mapping[str, Any] = {"kind": "evaluation", "action_repeat": 2, "seeds": 5} | others
    return PublishedScore(method, "a paper", "a protocol", task, frames, return_mean=value, **facts)


def test_published_means_are_of_methods_that_have_all_tasks() -> None:
    scope = Scope(AGGREGATE, ("dmc/a", "dmc/b"), 1000.0, {})
    figures = [
        *(figure("whole", "dmc/a", frames, 100.0) for frames in (100, 200, 900)),
        *(figure("whole", "dmc/b", frames, 300.0 + frames) for frames in (100, 200, 900)),
        figure("low", "dmc/a", 100, 20.0),
        figure("low", "dmc/b", 100, 40.0),
        figure("low", "dmc/c", 100, 999.0),
        figure("half", "dmc/a", 100, 100.0),
        figure("elsewhere", "dmc/a", 100, 100.0),
        figure("elsewhere", "dmc/b", 200, 100.0),
        figure("of two kinds", "dmc/a", 100, 100.0),
        figure("of two kinds", "dmc/b", 100, 100.0, kind="training"),
    ]
    found = means_over_tasks(scope, figures, last=500)
    assert [(each.method, each.frames) for each in found] == [("low", 100), ("whole", 100), ("whole", 200)]
    assert [each.return_mean for each in found] == pytest.approx([0.03, 0.25, 0.3])
    assert {(each.task, each.seeds, each.action_repeat) for each in found} == {(AGGREGATE, None, None)}


def test_an_aggregate_shows_what_is_published_for_all_of_its_tasks(drawn: list[Axes], tmp_path: Path) -> None:
    question = Question(estimation=FAST, methods=("DMControl-100k",))
    study = make_study(runs(TASKS, 2), question)
    assert study is not None
    charts = draw_charts(study, tmp_path)
    (path,) = [each.path for each in charts if (each.kind, each.scope) == ("curves", AGGREGATE)]
    text = path.with_name(f"{path.name}.svg").read_text()
    assert "published means over tasks, evaluation<" in text
    curl = [
        score.return_mean
        for task in TASKS
        for score in published_scores(task, 100_000)
        if score.method == "CURL"
    ]
    assert len(curl) == 4
    assert f"CURL {sum(curl) / 4000:.2f}<" in text
    (marks,) = [line for line in drawn[0].get_lines() if line.get_marker() == "D"]
    heights = np.asarray(marks.get_ydata())
    assert len(heights) == len(study.findings[0].published) == 6
    assert np.isclose(heights, sum(curl) / 4000).any()
    assert set(np.asarray(marks.get_xdata()).tolist()) == {100_000}
    assert summary(study, {})["scopes"][0]["published"][0]["task"] == AGGREGATE
    listed = make_page(study, charts).html
    assert f"Published figures: {sum(len(each.published) for each in study.findings[1:])}<" in listed


def test_an_aggregate_with_a_task_of_which_nothing_is_published_shows_nothing(tmp_path: Path) -> None:
    study = make_study(runs((*TASKS, "dmc/made-up"), 2), Question(estimation=FAST))
    assert study is not None
    aggregate, *tasks = study.findings
    assert any(each.published for each in tasks)
    assert aggregate.published == []
    assert "published" not in draw(tmp_path / "a", aggregate.scope, aggregate.published)
