"""Pictures of what episodes visited: heat maps of two state variables, and how coverage grew."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agent.evaluation.figure_style import FAINT, GREY, Look, new_figure, picture, short_count, shortened
from agent.evaluation.visits.state_axes import StateAxis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

    from agent.evaluation.visits.state_coverage import Stage, Survey, Visits

_ACROSS = 3  # maps side by side: where a page shows them, their text stays readable
_SIDE, _GAP, _LEFT, _RIGHT, _TOP, _TITLE, _BOTTOM = 2.75, 0.25, 0.8, 1.05, 0.4, 0.5, 0.62  # inches
_NEVER = "#f6f8fa"  # cells that were never visited
_TURN = {-np.pi: "-π", -np.pi / 2: "-π/2", 0.0: "0", np.pi / 2: "π/2", np.pi: "π"}
_SQUASHED = (-9.0, -2.0, -0.5, 0.0, 0.5, 2.0, 9.0)


def draw_maps(
    panels: Sequence[tuple[str, str, Visits]], path: Path | str, heading: str = "visited states"
) -> None:
    """Share of the visits that each cell has, on one logarithmic colour scale for all panels.

    Args:
        panels: name, a line of facts, and visits of two variables, the same for all; one panel at least.
        path: the PNG.
        heading: above them.

    Raises:
        ValueError: panels are of other variables than the first one, or not of two.
    """
    axes_of_all = {visits.axes for _, _, visits in panels}
    if len(axes_of_all) != 1 or not 1 <= len(panels[0][2].axes) <= 2:
        raise ValueError(f"expected visits of the same one or two variables, found those of {axes_of_all}")
    columns = min(_ACROSS, len(panels))
    rows = -(-len(panels) // columns)
    width = _LEFT + columns * _SIDE + (columns - 1) * _GAP + _RIGHT
    height = _TOP + rows * (_SIDE + _TITLE) + _BOTTOM
    with new_figure(path, width, height) as figure:
        figure.text(0.12 / width, 1 - 0.25 / height, heading, fontsize=13, fontweight="bold", va="center")
        norm = _norm([visits for _, _, visits in panels])
        for number, (name, facts, visits) in enumerate(panels):
            row, column = divmod(number, columns)
            left = _LEFT + column * (_SIDE + _GAP)
            bottom = height - _TOP - (row + 1) * (_SIDE + _TITLE)
            axes = figure.add_axes((left / width, bottom / height, _SIDE / width, _SIDE / height))
            is_lowest = number + columns >= len(panels)
            mesh = _map(axes, visits, norm, has_x=is_lowest, has_y=column == 0)
            axes.text(0, 1.09, shortened(name), transform=axes.transAxes, fontsize=10.5, parse_math=False)
            axes.text(0, 1.02, facts, transform=axes.transAxes, fontsize=8.5, color=GREY)
        place = (1 - (_RIGHT - 0.15) / width, _BOTTOM / height, 0.13 / width, _SIDE / height)
        _legend(figure, mesh, place)


def draw_surveys(surveys: Sequence[Survey], path: Path | str) -> None:
    """Heat maps of surveys side by side."""
    panels = [(each.source, str(each.coverage.stages[-1]), each.map) for each in surveys]
    draw_maps(panels, path, f"visits of {surveys[0].coverage.task}")


def _legend(figure: Figure, image: AxesImage, place: tuple[float, float, float, float]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    bar = figure.colorbar(image, cax=figure.add_axes(place), ticks=LogLocator(subs=(1, 2, 5)))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g}%"))
    bar.set_label("share of visits", fontsize=10)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=8.5)


def _norm(maps: Sequence[Visits]) -> LogNorm:
    """From a single visit of the run with most of them to the most visited cell of all."""
    from matplotlib.colors import LogNorm

    least = min(1 / max(1, visits.visits) for visits in maps)
    most = max(visits.counts().max() / max(1, visits.visits) for visits in maps)
    return LogNorm(least, max(most, 10 * least))


def _map(axes: Axes, visits: Visits, norm: LogNorm, *, has_x: bool, has_y: bool) -> AxesImage:
    """One heat map; its image."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    colours = ListedColormap(colormaps["magma_r"](np.linspace(0.1, 1, 256)))  # the palest look like paper
    first, second = visits.axes[0], visits.axes[-1]
    counts = visits.counts()
    share = np.ma.masked_equal(counts.T / max(1, visits.visits), 0)
    image = axes.imshow(
        share, cmap=colours, norm=norm, origin="lower", extent=(0, 1, 0, 1), interpolation="nearest", zorder=1
    )
    axes.set_facecolor(_NEVER)
    axes.set_xticks(*_ticks(first))
    axes.set_yticks(*_ticks(second))
    axes.tick_params(length=0, labelsize=8.5, labelbottom=has_x, labelleft=has_y)
    axes.grid(color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_color(FAINT)
    if has_x:
        axes.set_xlabel(first.label, fontsize=10)
    if has_y:
        axes.set_ylabel(second.label, fontsize=10)
    return image


def _ticks(axis: StateAxis) -> tuple[list[float], list[str]]:
    """Places in [0, 1] and what stands there."""
    from matplotlib.ticker import MaxNLocator

    if axis.is_periodic:
        return [(value + np.pi) / (2 * np.pi) for value in _TURN], list(_TURN.values())
    if axis.is_squashed:
        values = np.array(_SQUASHED)
    else:
        found = np.asarray(MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(axis.low, axis.high))
        values = found[(found >= axis.low) & (found <= axis.high)]
    return axis.places(values).tolist(), [f"{value:g}" for value in values]


def draw_growth(path: Path, title: str, lines: Sequence[tuple[str, Look, Sequence[Stage]]]) -> None:
    """Visited cells of runs over their frames.

    Args:
        path: of PNG and SVG, without suffix.
        title: above the axes.
        lines: legend (empty: none of its own), look and stages of each run.
    """
    named = [name for name, _, _ in lines if name]
    with picture(path, title, rows=len(named), left=0.85, right=0.35) as (axes, legend):
        for name, (colour, dashes), stages in lines:
            frames, cells = [0, *(each.frames for each in stages)], [0, *(each.cells for each in stages)]
            (line,) = axes.plot(frames, cells, color=colour, linestyle=dashes, linewidth=1.5)
            if name:
                legend.append((line, name))
        axes.set_xlim(0, max(stages[-1].frames for _, _, stages in lines))
        axes.set_ylim(bottom=0)
        axes.set_ylabel("visited cells", fontsize=11)
        axes.set_xlabel("environment frames", fontsize=11)
        axes.xaxis.set_major_formatter(lambda value, _: short_count(value))
