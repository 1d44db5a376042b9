"""Learning curves as PNG pictures, beside published figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from agent.evaluation.figure_style import COLOURS, FAINT, INK, new_figure
from agent.evaluation.published import PublishedScore
from agent.evaluation.runs import RunCurve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LABEL_GAP = 0.052  # of the axis: the height of one label
_DMC_RETURN = 1000.0  # every dm_control episode can earn at most this


def draw_learning_curve(
    runs: Sequence[RunCurve],
    published: Sequence[PublishedScore],
    path: Path | str,
    *,
    is_timed: bool = True,
) -> None:
    """Draw returns against environment frames; the same input gives the same bytes.

    Runs of one label share a colour: a thin line each, and a bold one for their mean over the frames
    that all have reached. A label with one run gets the bold line and a band of one deviation over its
    evaluation episodes. Published figures are marks at the frames where they were measured.

    Args:
        runs: runs of one task, each with an evaluation at least.
        published: figures of that task; may be empty.
        path: the PNG; its directory is made.
        is_timed: whether training time says anything, which is shown where there is one label only.

    Raises:
        ValueError: no runs, a run without evaluations, or more than one task.
    """
    tasks = {run.task for run in runs} | {score.task for score in published}
    if not runs or len(tasks) != 1:
        raise ValueError(f"expected runs of one task, found {len(runs)} runs of {sorted(tasks)}")
    if any(not run.evaluations for run in runs):
        raise ValueError("expected an evaluation in every run, found a run without")
    with new_figure(path, 9, 5.4) as figure:
        axes = figure.add_axes((0.085, 0.125, 0.745, 0.70))
        _frame(axes, runs, published)
        groups: dict[str, list[RunCurve]] = {}
        for run in runs:
            groups.setdefault(run.label, []).append(run)
        for index, (label, group) in enumerate(groups.items()):
            _draw_group(axes, label, group, COLOURS[index % len(COLOURS)])
        _draw_published(axes, published)
        if len(groups) == 1 and is_timed:
            _minutes_axis(axes, runs)
        figure.text(0.085, 0.945, tasks.pop(), fontsize=16, fontweight="bold", va="center")
        # Curves rise, so the upper left is free, unless published figures made the axis longer than they are.
        if published:
            axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.01), frameon=False, fontsize=12)
        else:
            axes.legend(loc="upper left", bbox_to_anchor=(0.0, 0.99), frameon=False, fontsize=12)


def _frame(axes: Axes, runs: Sequence[RunCurve], published: Sequence[PublishedScore]) -> None:
    """Limits, grid and labels of the axes."""
    last = max([run.evaluations[-1].frames for run in runs] + [score.frames for score in published])
    axes.set_xlim(0, last)
    if runs[0].task.startswith("dmc/"):
        axes.set_ylim(0, _DMC_RETURN)
    axes.set_xlabel("environment frames", fontsize=12.5)
    axes.set_ylabel("episode return", fontsize=12.5)
    axes.xaxis.set_major_formatter(lambda frames, _: _short_count(frames))
    axes.grid(color=FAINT, linewidth=0.9)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=0, pad=6)


def _draw_group(axes: Axes, label: str, group: Sequence[RunCurve], colour: str) -> None:
    """The runs of one label and their mean."""
    curves = [_points(run) for run in group]
    if len(group) == 1:
        frames, mean = curves[0]
        std = np.array([row.return_std for row in group[0].evaluations])
        axes.fill_between(frames, mean - std, mean + std, color=colour, alpha=0.14, linewidth=0)
    else:
        for frames, returns in curves:
            axes.plot(frames, returns, color=colour, alpha=0.4, linewidth=1.1, solid_capstyle="round")
        frames, mean = mean_curve(group)
    count = "1 seed" if len(group) == 1 else f"{len(group)} seeds"
    text = f"{label}, {count}: {mean[-1]:.0f} at {_short_count(frames[-1])}"
    marker = "o" if len(frames) == 1 else None
    axes.plot(frames, mean, color=colour, linewidth=2.8, label=text, solid_capstyle="round", marker=marker)


def mean_curve(runs: Sequence[RunCurve]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean return over runs, at the frames evaluated in any of them and reached by all.

    Args:
        runs: runs with an evaluation at least; between evaluations a run's return is interpolated.

    Returns:
        frames and mean returns, (N,) each.

    Raises:
        ValueError: some runs ended before others were evaluated first.
    """
    curves = [_points(run) for run in runs]
    start, end = max(frames[0] for frames, _ in curves), min(frames[-1] for frames, _ in curves)
    if start > end:
        raise ValueError(f"expected runs that share frames, found one from {start:.0f}, one to {end:.0f}")
    grid = np.unique(np.concatenate([frames for frames, _ in curves]))
    grid = grid[(grid >= start) & (grid <= end)]
    return grid, np.mean([np.interp(grid, frames, returns) for frames, returns in curves], axis=0)


def _draw_published(axes: Axes, published: Sequence[PublishedScore]) -> None:
    """Published figures as marks, each with its name to the right."""
    low, high = axes.get_ylim()
    _, last = axes.get_xlim()
    for frames in sorted({score.frames for score in published}):
        column = sorted((s for s in published if s.frames == frames), key=lambda s: s.return_mean)
        values = np.array([score.return_mean for score in column])
        axes.plot(
            np.full(len(values), frames), values, "D", color="white", markeredgecolor=INK, markersize=6.5,
            markeredgewidth=1.4, clip_on=False, zorder=5,
        )  # fmt: skip
        heights = low + spread((values - low) / (high - low), _LABEL_GAP) * (high - low)
        for score, height in zip(column, heights, strict=True):
            axes.annotate(
                f"{score.method} {score.return_mean:.0f}",
                xy=(frames, score.return_mean),
                xytext=(frames + 0.035 * last, height),
                fontsize=11,
                color=INK,
                va="center",
                annotation_clip=False,
                arrowprops={
                    "arrowstyle": "-",
                    "relpos": (0, 0.5),  # from the left end of the text
                    "color": "#afb8c1",
                    "linewidth": 0.8,
                    "shrinkB": 5,
                    "shrinkA": 1,
                },
            )


def spread(values: NDArray[np.float64], gap: float) -> NDArray[np.float64]:
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


def _minutes_axis(axes: Axes, runs: Sequence[RunCurve]) -> None:
    """Mean training time of the runs, in minutes, above the picture."""
    _, last = axes.get_xlim()
    reached = min(run.evaluations[-1].frames for run in runs)
    ticks = [tick for tick in axes.get_xticks() if 0 < tick <= min(reached, last)]
    minutes = np.mean(
        [
            np.interp(
                ticks,
                [0, *(row.frames for row in run.evaluations)],
                [0, *(row.seconds / 60 for row in run.evaluations)],
            )
            for run in runs
        ],
        axis=0,
    )
    top = axes.twiny()
    top.set_xlim(axes.get_xlim())
    top.set_xticks(
        ticks, [f"{value:.0f} min" if value >= 1.5 else f"{60 * value:.0f} s" for value in minutes]
    )
    top.tick_params(length=0, pad=5, labelsize=11)
    top.spines[:].set_visible(False)


def _points(run: RunCurve) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    frames = np.array([row.frames for row in run.evaluations], dtype=np.float64)
    return frames, np.array([row.return_mean for row in run.evaluations], dtype=np.float64)


def _short_count(frames: float) -> str:
    """A number of frames as 800, 20k or 1.5M."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if frames >= size:
            return f"{frames / size:.3g}{unit}"
    return f"{frames:.0f}"
