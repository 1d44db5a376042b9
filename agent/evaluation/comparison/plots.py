"""Pictures of a comparison: curves, bars, profiles, probabilities of improvement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.evaluation.comparison.aggregation import Scope, scale_of
from agent.evaluation.comparison.curve_intervals import Band, last_place
from agent.evaluation.comparison.grid import Array, Axis, places
from agent.evaluation.comparison.scores import PROFILE_LEVELS, Comparison, Profile, Scorecard
from agent.evaluation.comparison.study import FEW_SEEDS
from agent.evaluation.curves import spread
from agent.evaluation.figure_style import EDGE, GREY, INK, Look, picture, short_count, short_time, shortened
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
) -> None:
    """A thin line each run, a bold one each variant with its pointwise band, marks for published figures.

    The bold line is dashed where some of the variant's runs have ended; of few runs there is no band.

    Args:
        path: of PNG and SVG, without suffix.
        scope: whose runs are drawn.
        bands: by variant, one at least.
        axis: what they are drawn over.
        looks: colour and dashes by variant.
        published: figures on the same axis.
    """
    right = _NAME_MARGIN if published else 0.35
    with picture(
        path, title_of(scope), rows=len(bands) + len({score.kind for score in published}), right=right
    ) as (axes, legend):
        for variant, band in bands.items():
            _draw_runs(axes, scope, variant, axis, band, looks[variant])
            artist = _draw_band(axes, band, looks[variant])
            seeds = len(scope.members[variant])
            count = "1 seed" if seeds == 1 else f"{seeds} seeds"
            legend.append((artist, f"{shortened(variant)} ({count})"))
        _limits(axes, scope, last_place(bands))
        statistic = "IQM of return / 1000" if scope.is_aggregate else "episode return"
        axes.set_ylabel(statistic, fontsize=11)
        _axis_of(axes, axis)
        if published:
            legend += _draw_published(axes, published)


def title_of(scope: Scope) -> str:
    """How a scope is called in a picture."""
    return f"{len(scope.tasks)} tasks" if scope.is_aggregate else scope.name


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
    """A line each run; in an aggregate, where there are few, the mean over tasks of each seed."""
    colour, _ = look
    style: dict[str, Any] = {"color": colour, "alpha": 0.38, "linewidth": 0.9}
    rows = scope.members[variant].values()
    if not scope.is_aggregate:
        for (run,) in rows:
            axes.plot(places(run.trace, axis), run.trace.returns / scope.scale, **style)
    elif len(rows) <= FEW_SEEDS:
        for scores in scope.on_grid(variant, band.grid, axis).mean(axis=1):
            axes.plot(band.grid, scores, **style)


def _draw_band(axes: Axes, band: Band, look: Look) -> Line2D:
    """The bold line and the band around it; returns the line."""
    colour, dashes = look
    many = band.runs > FEW_SEEDS
    if many.any():
        axes.fill_between(band.grid, band.low, band.high, where=many, color=colour, alpha=0.16, linewidth=0)
    solid = np.where(band.is_full, band.value, np.nan)
    marker = "o" if (~np.isnan(solid)).sum() == 1 else None
    (line,) = axes.plot(
        band.grid, solid, color=colour, linestyle=dashes, linewidth=2.3, marker=marker, markersize=5
    )
    if not band.is_full.all():
        thinned = np.where(~band.is_full | np.roll(~band.is_full, -1), band.value, np.nan)
        axes.plot(band.grid, thinned, color=colour, linestyle=(0, (2, 1.4)), linewidth=1.7)
    return line


def _draw_published(axes: Axes, published: Sequence[PublishedScore]) -> list[tuple[Line2D, str]]:
    """Marks at their frames, those at the last with their names beside them; entries of the legend."""
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
            entries.append((marks, f"published, {kind} episodes"))
    _name_published(axes, _named(published))
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


def _name_published(axes: Axes, column: Sequence[PublishedScore]) -> None:
    """Names to the right of figures at the same frames, lowest first."""
    low, high = axes.get_ylim()
    _, last = axes.get_xlim()
    heights = np.array([(score.return_mean - low) / (high - low) for score in column])
    for score, height in zip(column, _within(spread(heights, _LABEL_GAP)), strict=True):
        axes.annotate(
            f"{score.method} {score.return_mean:.0f}",
            xy=(score.frames, score.return_mean),
            xytext=(score.frames + 0.035 * last, low + height * (high - low)),
            fontsize=9.3, color=INK, va="center", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "relpos": (0, 0.5), "color": EDGE, "linewidth": 0.7,
                        "shrinkB": 4, "shrinkA": 1},
        )  # fmt: skip


def _within(heights: Array) -> Array:
    """Moved down together where the highest would leave the axes."""
    return heights - max(0.0, float(heights[-1]) - 1.02)


def draw_bars(
    path: Path,
    scope: Scope,
    at: float,
    axis: Axis,
    cards: Sequence[Scorecard],
    published: Mapping[str, float],
    looks: Mapping[str, Look],
) -> None:
    """Mean of each variant with its interval at one place, beside published means over the same tasks.

    Args:
        path: of PNG and SVG, without suffix.
        scope: over which the means are taken.
        at: place on the axis.
        axis: which axis.
        cards: variants that go that far, one at least.
        published: method -> mean on the scale of the scope.
        looks: colour and dashes by variant.
    """
    names = [*(card.variant for card in cards), *published]
    values = [*(card.numbers["mean"].value for card in cards), *published.values()]
    colours = [*(looks[card.variant][0] for card in cards), *([GREY] * len(published))]
    title = f"{title_of(scope)}, {_at_text(at, axis)}"
    with picture(path, title, rows=0, height=0.29 * len(names) + 0.1, left=1.75, right=0.5) as (axes, _):
        rows = np.arange(len(names))[::-1]
        bars = axes.barh(rows, values, height=0.68, color=colours, alpha=0.85)
        for bar in bars[len(cards) :]:
            bar.set_alpha(0.45)
        for row, card in zip(rows, cards, strict=False):
            mean = card.numbers["mean"]
            axes.plot([mean.low, mean.high], [row, row], color=INK, linewidth=1.3, solid_capstyle="butt")
        _label_rows(axes, rows, names)
        scale = scale_of(scope.tasks[0])
        end = scale / scope.scale if scale else max(values)
        axes.set_xlim(min(0.0, *values), end)
        for row, value in zip(rows, values, strict=True):
            text = f"{value:.2f}" if scope.is_aggregate else f"{value:.0f}"
            axes.annotate(text, (1.015, row), xycoords=("axes fraction", "data"), fontsize=9.5, va="center")
        unit = "mean return / 1000" if scope.is_aggregate else "mean return"
        axes.set_xlabel(f"{unit}; line: 95% interval", fontsize=11)


def _at_text(at: float, axis: Axis) -> str:
    return f"after {short_time(at)}" if axis == "seconds" else f"at {short_count(at)} {axis}"


def _label_rows(axes: Axes, rows: Iterable[int], names: Sequence[str]) -> None:
    axes.set_yticks(list(rows), [name if len(name) <= 22 else f"{name[:21]}…" for name in names])
    axes.tick_params(axis="y", labelsize=10)
    axes.grid(visible=False, axis="y")


def draw_profiles(
    path: Path, scope: Scope, at: float, axis: Axis, profiles: Sequence[Profile], looks: Mapping[str, Look]
) -> None:
    """Share of runs above each score, with pointwise bands; arguments as those of `draw_bars`."""
    title = f"{title_of(scope)}, {_at_text(at, axis)}"
    with picture(path, title, rows=len(profiles)) as (axes, legend):
        for profile in profiles:
            colour, dashes = looks[profile.variant]
            if not np.isnan(profile.low).any():
                axes.fill_between(
                    PROFILE_LEVELS, profile.low, profile.high, step="post", color=colour, alpha=0.14,
                    linewidth=0,
                )  # fmt: skip
            (line,) = axes.step(
                PROFILE_LEVELS, profile.share, where="post", color=colour, linestyle=dashes, linewidth=2.0
            )
            legend.append((line, profile.variant))
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("return / 1000", fontsize=11)
        axes.set_ylabel("share of runs above", fontsize=11)


def draw_improvement(
    path: Path, scope: Scope, at: float, axis: Axis, comparisons: Sequence[Comparison]
) -> None:
    """Probability that a run of one variant beats one of another; arguments as those of `draw_bars`."""
    title = f"{title_of(scope)}, {_at_text(at, axis)}"
    height = 0.34 * len(comparisons) + 0.15
    with picture(path, title, rows=0, height=height, left=2.15) as (axes, _):
        rows = list(range(len(comparisons)))[::-1]
        for row, comparison in zip(rows, comparisons, strict=True):
            found = comparison.improvement
            axes.plot([found.low, found.high], [row, row], color=INK, linewidth=1.6)
            axes.plot(found.value, row, "o", color=INK, markersize=6, clip_on=False, zorder=5)
        axes.axvline(0.5, color=GREY, linewidth=1.0, linestyle="--")
        axes.set_yticks(rows, [_pair(each) for each in comparisons])
        axes.tick_params(axis="y", labelsize=9.5)
        axes.set_xlim(0, 1)
        axes.set_ylim(-0.6, len(comparisons) - 0.4)
        axes.set_xlabel("probability; line: 95% interval", fontsize=11)


def _pair(comparison: Comparison) -> str:
    first, second = (
        name if len(name) <= 13 else f"{name[:12]}…" for name in (comparison.first, comparison.second)
    )
    return f"{first} > {second}"
