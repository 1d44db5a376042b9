"""Pictures of what a trained agent makes of an episode."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from agent.evaluation.figure_style import COLOURS, GREY, new_figure
from agent.evaluation.inspection.analysis import Candidates, Match, Seen
from agent.evaluation.inspection.frame_panels import Line, Panel, draw_under_frames, film

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_DIMENSIONS = 3  # of an action, that are drawn


def draw_imagination(
    seen: Seen, starts: Sequence[int], matches: Sequence[Sequence[Match]], gallery_size: int, path: Path
) -> None:
    """For each start two rows: what followed, and the recorded frames nearest to what was imagined.

    Args:
        seen: the episode.
        starts: decisions that imagination started from.
        matches: of each start, of 1 to H decisions ahead.
        gallery_size: observations that were searched.
        path: the PNG.
    """
    rows, columns = 2 * len(starts), len(matches[0]) + 1
    with new_figure(path, 0.6 + 1.05 * columns, 0.9 + 1.3 * rows) as figure:
        figure.suptitle(
            "what followed (above) and the recorded frame nearest to what was imagined (below)", fontsize=12
        )
        grid = figure.add_gridspec(rows, columns, left=0.01, right=0.99, top=0.93, bottom=0.04, hspace=0.42)
        for row, (start, found) in enumerate(zip(starts, matches, strict=True)):
            _image(figure.add_subplot(grid[2 * row, 0]), seen.episode.frame[start], f"t = {start}")
            for k, match in enumerate(found, start=1):
                above = figure.add_subplot(grid[2 * row, k])
                _image(above, seen.episode.frame[start + k], f"t + {k}")
                _image(figure.add_subplot(grid[2 * row + 1, k]), match.frame, _verdict(match))
        figure.text(
            0.5, 0.015, f"rank of the true observation among {gallery_size:,}; where the nearest is from",
            ha="center", fontsize=10, color=GREY,
        )  # fmt: skip


def _verdict(match: Match) -> str:
    if match.rank == 1:
        return "rank 1\n"
    off = "other episode" if match.steps_off is None else f"{match.steps_off:+d} decisions off"
    return f"rank {match.rank}\n{off}"


def _image(axes: Axes, frame: np.ndarray, title: str) -> None:
    """A frame, uint8 (3, H, W), without axes; blank where an agent that sees no pixels recorded none."""
    if frame.size:
        axes.imshow(frame.transpose(1, 2, 0))
    axes.set_title(title, fontsize=7.5, pad=2, color=GREY)
    axes.set_axis_off()


def draw_traces(seen: Seen, realised: NDArray[np.float64], path: Path) -> None:
    """Frames of an episode, and below them its rewards, its values and what was realised.

    Args:
        seen: the episode.
        realised: discounted return that followed each observation, (T + 1,).
        path: the PNG.
    """
    panels = [
        Panel("reward", [Line(seen.episode.reward)]),
        Panel(
            "value",
            [
                Line(seen.value, "value of the critics"),
                Line(realised, "realised, discounted (at a time limit: and the value then)"),
            ],
        ),
    ]
    draw_under_frames(seen.episode, panels, f"return {seen.episode.episode_return:.0f}", path)


def draw_similarity(seen: Seen, path: Path) -> None:
    """Cosine of every observation of an episode with every other, in the space the objective compares in."""
    cosine = (seen.key @ seen.key.T).cpu().numpy()
    with new_figure(path, 7.4, 7.0) as figure:
        axes = figure.add_axes((0.16, 0.15, 0.69, 0.73))
        image = axes.imshow(cosine, cmap="magma", vmin=min(0.0, float(cosine.min())), vmax=1.0)
        axes.set_xlabel("decision")
        axes.xaxis.set_label_position("top")
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        film(figure.add_axes((0.16, 0.05, 0.69, 0.08)), seen.episode)
        film(figure.add_axes((0.02, 0.15, 0.08, 0.73)), seen.episode, horizontal=False)
        bar = figure.colorbar(image, cax=figure.add_axes((0.88, 0.15, 0.025, 0.73)))
        bar.outline.set_visible(False)
        figure.text(0.16, 0.965, "similarity of an episode's states to one another", fontsize=12.5)


def draw_candidates(seen: Seen, starts: Sequence[int], plans: Sequence[Candidates], path: Path) -> None:
    """Candidate plans of some states, coloured by what the model expects of them, best on top.

    Args:
        seen: the episode.
        starts: decisions that are planned for.
        plans: one for each start.
        path: the PNG.
    """
    dimensions = min(plans[0].action.shape[2], _MOST_DIMENSIONS)
    with new_figure(path, 2.4 + 3.0 * dimensions, 0.8 + 2.1 * len(starts)) as figure:
        grid = figure.add_gridspec(
            len(starts), dimensions + 1, width_ratios=[1.1, *[2.0] * dimensions],
            left=0.03, right=0.90, top=0.93, bottom=0.09, hspace=0.35, wspace=0.3,
        )  # fmt: skip
        for row, (start, plan) in enumerate(zip(starts, plans, strict=True)):
            _image(figure.add_subplot(grid[row, 0]), seen.episode.frame[start], f"t = {start}")
            for dimension in range(dimensions):
                axes = figure.add_subplot(grid[row, dimension + 1])
                _fan(figure, axes, plan, dimension, has_bar=dimension == dimensions - 1)
                if row == len(starts) - 1:
                    axes.set_xlabel("decisions ahead", fontsize=9)
                if row == 0 and dimension == 0:
                    axes.legend(frameon=False, fontsize=7, loc="lower right")
        figure.text(0.03, 0.96, "candidate plans by predicted return", fontsize=12)


def _fan(figure: Figure, axes: Axes, plan: Candidates, dimension: int, *, has_bar: bool) -> None:
    """One entry of the action over the decisions ahead: candidates, the plan, the policy."""
    from matplotlib.collections import LineCollection

    order = np.argsort(plan.predicted)
    steps = np.arange(plan.action.shape[1])
    lines = np.stack(np.broadcast_arrays(steps, plan.action[order, :, dimension]), axis=-1)
    fan = LineCollection(list(lines), cmap="viridis", linewidths=0.9, alpha=0.75)
    fan.set_array(plan.predicted[order])
    axes.add_collection(fan)
    axes.plot(steps, plan.policy[:, dimension], color="white", linewidth=3.6)
    axes.plot(steps, plan.policy[:, dimension], color=COLOURS[1], linewidth=2.0, label="policy")
    axes.plot(steps, plan.chosen[:, dimension], color="black", linewidth=1.6, linestyle="--", label="plan")
    axes.set_xlim(-0.05, steps[-1] + 0.05)
    axes.set_ylim(-1.08, 1.08)
    axes.set_xticks(steps)
    axes.set_ylabel(f"action {dimension}", fontsize=9)
    axes.tick_params(length=0, labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    if has_bar:
        bar = figure.colorbar(fan, ax=axes, fraction=0.05, pad=0.03)
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=0, labelsize=7)
