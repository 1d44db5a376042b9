"""Learning curves of one task: as a picture, as means, and as the line that a run ends with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from agent.evaluation.comparison.aggregation import Scope, make_scopes
from agent.evaluation.comparison.curve_intervals import Band, Estimation, make_band
from agent.evaluation.comparison.curve_plots import draw_curves
from agent.evaluation.comparison.grid import make_grid
from agent.evaluation.comparison.reading import RunSet
from agent.evaluation.comparison.records import Curve
from agent.evaluation.figure_style import looks_of
from agent.evaluation.published import PublishedScore
from agent.evaluation.text_tables import format_duration, ruled

_COLUMNS = ("task", "seed", "frames", "return", "episodes", "best", "time")


def mean_curves(curves: Sequence[Curve]) -> tuple[Scope, dict[str, Band]]:
    """Runs of one task, and over frames the mean of each variant, as a comparison draws it.

    Where a run ends there is always a point, wherever those of a comparison are.

    Args:
        curves: one run for each variant and seed.

    Returns:
        The runs, and the means by variant, in the order in which variants come first.

    Raises:
        ValueError: no runs, or more than one task.
    """
    tasks = {curve.task for curve in curves}
    if len(tasks) != 1:
        raise ValueError(f"expected runs of one task, found {len(curves)} runs of {sorted(tasks)}")
    variants = tuple(dict.fromkeys(curve.variant for curve in curves))
    (scope,), _ = make_scopes(RunSet(tuple(curves), (), (), variants))
    ends = [curve.last_frames for curve in curves]
    grid = np.union1d(make_grid([curve.trace.frames for curve in curves], "frames"), ends)
    return scope, {variant: make_band(scope, variant, grid, "frames", Estimation()) for variant in variants}


def draw_learning_curve(curves: Sequence[Curve], published: Sequence[PublishedScore], path: Path) -> None:
    """Draw returns against environment frames; the same input gives the same bytes.

    Args:
        curves: runs of one task, one for each variant and seed.
        published: figures of that task; may be empty, and may lie beyond where the runs are.
        path: the PNG; its directory is made.

    Raises:
        ValueError: no runs, or more than one task.
    """
    scope, bands = mean_curves(curves)
    draw_curves(path, scope, bands, "frames", looks_of(list(bands)), published, is_end_named=True)


def results_table(curves: Sequence[Curve]) -> str:
    """One line a run: its last evaluation, its best mean return and its training time.

    Args:
        curves: what to list; `-` stands for what a run does not say.

    Returns:
        Aligned lines with a header, without a line break at the end. `return` is mean ± deviation over
        the episodes of the last evaluation.
    """
    return ruled([_COLUMNS, *(_cells(curve) for curve in curves)], left=1)


def _cells(curve: Curve) -> tuple[str, ...]:
    trace = curve.trace
    seconds = float(trace.seconds[-1])
    return (
        curve.task,
        str(curve.seed),
        f"{curve.last_frames:,}",
        f"{trace.returns[-1]:.1f} ± {_known(trace.stds[-1], '.1f')}",
        _known(trace.episodes[-1], ".0f"),
        f"{trace.returns.max():.1f}",
        format_duration(seconds) if math.isfinite(seconds) else "-",
    )


def _known(value: float, form: str) -> str:
    return f"{value:{form}}" if math.isfinite(value) else "-"
