"""Learning curves as pictures, beside published figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.evaluation.comparison.aggregation import Scope, scale_of
from agent.evaluation.comparison.curve_intervals import FEW_SEEDS, Band, last_place, seed_curves
from agent.evaluation.comparison.grid import Array, Axis, places
from agent.evaluation.figure_style import (
    EDGE,
    INK,
    Look,
    band_key,
    picture,
    short_count,
    short_time,
    shortened,
)
from agent.evaluation.published import PublishedScore, published_benchmarks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

AXIS_LABELS = {"frames": "environment frames", "seconds": "training time", "updates": "gradient steps"}
_MOST_NAMES = 8
_LABEL_GAP = 0.066  # of the axis: the height of a published method's name
_NAME_MARGIN = 1.3  # inches, for published methods' names


def draw_curves(
    path: Path,
    scope: Scope,
    bands: Mapping[str, Band],
    axis: Axis,
    looks: Mapping[str, Look],
    published: Sequence[PublishedScore] = (),
    *,
    is_end_named: bool = False,
) -> None:
    """A thin line each run, a bold one each variant with its pointwise band, marks for published figures.

    Over several tasks a thin line is a seed's IQM over them. The bold line is dashed where some of the
    variant's runs have ended; of few runs there is no band.

    Args:
        path: of PNG and SVG, without suffix; with `.png`, of that alone.
        scope: whose runs are drawn.
        bands: by variant, one at least.
        axis: what they are drawn over.
        looks: colour and dashes by variant.
        published: figures on the same axis and scale, which goes on to the last of them.
        is_end_named: whether the legend says what each curve has come to.
    """
    right = _NAME_MARGIN if published else 0.35
    has_band = any(_has_area(band) for band in bands.values())
    rows = len(bands) + has_band + len({score.kind for score in published})
    with picture(path, scope.title, rows=rows, right=right) as (axes, legend):
        for variant, band in bands.items():
            _draw_runs(axes, scope, variant, axis, band, looks[variant])
            artist = _draw_band(axes, band, looks[variant])
            seeds = len(scope.members[variant])
            count = "1 seed" if seeds == 1 else f"{seeds} seeds"
            end = f": {_end(band)}" if is_end_named and band.runs.any() else ""
            legend.append((artist, f"{shortened(variant)} ({count}){end}"))
        _limits(axes, scope, max([last_place(bands), *(score.frames for score in published)]))
        statistic = "IQM of return / 1000" if scope.is_aggregate else "episode return"
        axes.set_ylabel(statistic, fontsize=11)
        _axis_of(axes, axis)
        if has_band:
            legend.append(band_key())
        if published:
            legend += _draw_published(axes, scope, published)


def _end(band: Band) -> str:
    """The last value that all runs are in, and where it is."""
    last = np.flatnonzero(band.is_full)[-1]
    return f"{band.value[last]:.0f} at {short_count(band.grid[last])}"


def _axis_of(axes: Axes, axis: Axis) -> None:
    axes.set_xlabel(AXIS_LABELS[axis], fontsize=11)
    as_text = short_time if axis == "seconds" else short_count
    axes.xaxis.set_major_formatter(lambda value, _: as_text(value))
    if axis == "seconds":
        from matplotlib.ticker import FixedLocator

        axes.xaxis.set_major_locator(FixedLocator(_time_ticks(axes.get_xlim()[1])))


def _time_ticks(last: float) -> list[float]:
    """Round minutes or hours, seven at most."""
    steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200]
    step = next((each for each in steps if last / each <= 5), 86400 * max(1, round(last / 86400 / 5)))
    return [step * index for index in range(int(last / step) + 1)]


def _limits(axes: Axes, scope: Scope, last: float) -> None:
    axes.set_xlim(0, last)
    if scale := scale_of(scope.tasks[0]):
        axes.set_ylim(0, scale / scope.scale)


def _draw_runs(axes: Axes, scope: Scope, variant: str, axis: Axis, band: Band, look: Look) -> None:
    """A line each run, fainter where there are many; in an aggregate each seed's IQM over the tasks."""
    colour, _ = look
    rows = scope.members[variant].values()
    alpha = 0.38 if len(rows) <= FEW_SEEDS else 0.24
    style: dict[str, Any] = {"color": colour, "alpha": alpha, "linewidth": 0.9}
    if scope.is_aggregate:
        for scores in seed_curves(scope, variant, band.grid, axis):
            axes.plot(band.grid, scores, **style)
    else:
        for (run,) in rows:
            axes.plot(places(run.trace, axis), run.trace.returns, **style)


def _draw_band(axes: Axes, band: Band, look: Look) -> Line2D:
    """The bold line and the band around it; returns the line."""
    colour, dashes = look
    if _has_area(band):
        axes.fill_between(
            band.grid, band.low, band.high, where=band.is_drawn, color=colour, alpha=0.16, linewidth=0
        )
    solid = np.where(band.is_full, band.value, np.nan)
    marker = "o" if (~np.isnan(solid)).sum() == 1 else None
    (line,) = axes.plot(
        band.grid, solid, color=colour, linestyle=dashes, linewidth=2.3, marker=marker, markersize=5
    )
    if not band.is_full.all():
        thinned = np.where(~band.is_full | np.roll(~band.is_full, -1), band.value, np.nan)
        axes.plot(band.grid, thinned, color=colour, linestyle=(0, (2, 1.4)), linewidth=1.7)
    return line


def _has_area(band: Band) -> bool:
    """Whether the interval of a curve spans something: two neighbouring points or more."""
    return bool((band.is_drawn[1:] & band.is_drawn[:-1]).any())


def _draw_published(
    axes: Axes, scope: Scope, published: Sequence[PublishedScore]
) -> list[tuple[Line2D, str]]:
    """Marks at their frames, those at the last with their names beside them; entries of the legend."""
    label = "published means over tasks, {}" if scope.is_aggregate else "published, {} episodes"
    entries = []
    for kind, marker in (("evaluation", "D"), ("training", "o")):
        chosen = [score for score in published if score.kind == kind]
        if chosen:
            (marks,) = axes.plot(
                [score.frames for score in chosen],
                [score.return_mean for score in chosen],
                marker, color="none", markeredgecolor=INK, markersize=4.6, markeredgewidth=1.0,
                clip_on=False, zorder=5,
            )  # fmt: skip
            entries.append((marks, label.format(kind)))
    _name_published(axes, _named(published), decimals=2 if scope.is_aggregate else 0)
    return entries


def _named(published: Sequence[PublishedScore]) -> list[PublishedScore]:
    """Figures at the last frames that are named, lowest first: one of each method, the highest of these."""
    frames = max(score.frames for score in published)
    benchmarks = published_benchmarks()
    column = [score for score in published if score.frames == frames]
    by_method = {
        score.method: score
        for score in sorted(column, key=lambda score: benchmarks.index(score.benchmark), reverse=True)
    }
    highest = sorted(by_method.values(), key=lambda score: (score.return_mean, score.method))
    return highest[-_MOST_NAMES:]


def _name_published(axes: Axes, column: Sequence[PublishedScore], decimals: int) -> None:
    """Names to the right of figures at the same frames, lowest first."""
    low, high = axes.get_ylim()
    _, last = axes.get_xlim()
    heights = np.array([(score.return_mean - low) / (high - low) for score in column])
    for score, height in zip(column, _within(spread(heights, _LABEL_GAP)), strict=True):
        axes.annotate(
            f"{score.method} {score.return_mean:.{decimals}f}",
            xy=(score.frames, score.return_mean),
            xytext=(score.frames + 0.035 * last, low + height * (high - low)),
            fontsize=9.3, color=INK, va="center", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "relpos": (0, 0.5), "color": EDGE, "linewidth": 0.7,
                        "shrinkB": 4, "shrinkA": 1},
        )  # fmt: skip


def spread(values: Array, gap: float) -> Array:
    """Move sorted values apart, as little as needed, until neighbours are `gap` or more apart.

    Args:
        values: ascending, (N,).
        gap: least distance between neighbours, >= 0.

    Returns:
        Ascending values, (N,), that minimise the sum of squared moves.
    """
    offsets = gap * np.arange(len(values))
    blocks: list[tuple[float, int]] = []  # mean and size: isotonic regression by pooling neighbours
    for value in values - offsets:
        mean, size = float(value), 1
        while blocks and blocks[-1][0] > mean:
            before, count = blocks.pop()
            mean, size = (before * count + mean * size) / (count + size), count + size
        blocks.append((mean, size))
    return np.concatenate([np.full(size, mean) for mean, size in blocks] or [np.zeros(0)]) + offsets


def _within(heights: Array) -> Array:
    """Moved down together where the highest would leave the axes."""
    return heights - max(0.0, float(heights[-1]) - 1.02)
