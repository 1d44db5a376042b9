"""Scores as pictures: bars, profiles, probabilities of improvement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agent.evaluation.comparison.aggregation import Scope, scale_of
from agent.evaluation.comparison.grid import Axis
from agent.evaluation.comparison.scores import PROFILE_LEVELS, Comparison, Profile, Scorecard
from agent.evaluation.figure_style import (
    GREY,
    INK,
    Look,
    band_key,
    fitted,
    inches_of,
    picture,
    short_count,
    short_time,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_BAR_NAMES, _PAIR_NAMES = 1.7, 2.05  # inches that names take at most
_BAR_SIZE, _PAIR_SIZE = 10.0, 9.5  # points
_GAP = 0.2  # inches around names
_MOST_INCHES = 300.0  # pictures have fewer than 2^16 pixels a side: beyond, rows get narrower


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
    title = f"{scope.title}, {_at_text(at, axis)}"
    labels = [fitted(name, _BAR_NAMES, _BAR_SIZE) for name in names]
    height, left = 0.29 * len(names) + 0.1, _room(labels, _BAR_SIZE)
    with picture(path, title, rows=0, height=height, left=left, right=0.5) as (axes, _):
        rows = np.arange(len(names))[::-1]
        bars = axes.barh(rows, values, height=0.68, color=colours, alpha=0.85)
        for bar in bars[len(cards) :]:
            bar.set_alpha(0.45)
        for row, card in zip(rows, cards, strict=False):
            mean = card.numbers["mean"]
            axes.plot([mean.low, mean.high], [row, row], color=INK, linewidth=1.3, solid_capstyle="butt")
        _label_rows(axes, rows, labels, _BAR_SIZE)
        axes.grid(visible=False, axis="y")
        scale = scale_of(scope.tasks[0])
        axes.set_xlim(*_bar_limits(values, cards, scale / scope.scale if scale else None))
        if axes.get_xlim()[0] < 0:
            axes.axvline(0, color=GREY, linewidth=1.0)
        for row, value in zip(rows, values, strict=True):
            text = f"{value:.2f}" if scope.is_aggregate else f"{value:.0f}"
            axes.annotate(text, (1.015, row), xycoords=("axes fraction", "data"), fontsize=9.5, va="center")
        unit = "mean return / 1000" if scope.is_aggregate else "mean return"
        axes.set_xlabel(f"{unit}; line: 95% interval", fontsize=11)


def _bar_limits(
    values: Sequence[float], cards: Sequence[Scorecard], most: float | None
) -> tuple[float, float]:
    """From where to where bars and intervals go, with a margin beyond what is neither 0 nor the most."""
    means = [card.numbers["mean"] for card in cards]
    ends = [end for mean in means for end in (mean.low, mean.high) if np.isfinite(end)]
    low, high = min(0.0, *values, *ends), max(0.0 if most is None else most, *values, *ends)
    margin = 0.04 * (high - low) or 1.0  # where all are 0
    return low - margin * (low < 0), high + margin * (high not in (0.0, most) or low == high)


def _at_text(at: float, axis: Axis) -> str:
    return f"after {short_time(at)}" if axis == "seconds" else f"at {short_count(at)} {axis}"


def _room(labels: Sequence[str], size: float) -> float:
    """Inches that labels of rows take, and what stands between them and the axes."""
    return max(inches_of(line, size) for label in labels for line in label.splitlines() or [""]) + _GAP


def _label_rows(axes: Axes, rows: Iterable[int], labels: Sequence[str], size: float) -> None:
    axes.set_yticks(list(rows), labels, parse_math=False)
    axes.tick_params(axis="y", labelsize=size)


def draw_profiles(
    path: Path, scope: Scope, at: float, axis: Axis, profiles: Sequence[Profile], looks: Mapping[str, Look]
) -> None:
    """Share of runs above each score, with pointwise bands; arguments as those of `draw_bars`."""
    title = f"{scope.title}, {_at_text(at, axis)}"
    has_band = any(not np.isnan(profile.low).any() for profile in profiles)
    with picture(path, title, rows=len(profiles) + has_band) as (axes, legend):
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
        if has_band:
            legend.append(band_key())
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("return / 1000", fontsize=11)
        axes.set_ylabel("share of runs above", fontsize=11)


def draw_improvement(
    path: Path, scope: Scope, at: float, axis: Axis, comparisons: Sequence[Comparison]
) -> None:
    """Probability that a run of one variant beats one of another; arguments as those of `draw_bars`."""
    title = f"{scope.title}, {_at_text(at, axis)}"
    labels = [_pair(comparison) for comparison in comparisons]
    row_height = 0.44 if any("\n" in label for label in labels) else 0.34
    height = min(row_height * len(comparisons) + 0.15, _MOST_INCHES)
    with picture(path, title, rows=0, height=height, left=_room(labels, _PAIR_SIZE)) as (axes, _):
        rows = list(range(len(comparisons)))[::-1]
        for row, comparison in zip(rows, comparisons, strict=True):
            found = comparison.improvement
            axes.plot([found.low, found.high], [row, row], color=INK, linewidth=1.6)
            axes.plot(found.value, row, "o", color=INK, markersize=6, clip_on=False, zorder=5)
        axes.axvline(0.5, color=GREY, linewidth=1.0, linestyle="--")
        _label_rows(axes, rows, labels, _PAIR_SIZE)
        axes.set_xlim(0, 1)
        axes.set_ylim(-0.6, len(comparisons) - 0.4)
        axes.set_xlabel("probability; line: 95% interval", fontsize=11)


def _pair(comparison: Comparison) -> str:
    """Both names, on a line each where one does not take them."""
    whole = f"{comparison.first} > {comparison.second}"
    if fitted(whole, _PAIR_NAMES, _PAIR_SIZE) == whole:
        return whole
    first, second = fitted(comparison.first, _PAIR_NAMES, _PAIR_SIZE), f"> {comparison.second}"
    return f"{first}\n{fitted(second, _PAIR_NAMES, _PAIR_SIZE)}"
