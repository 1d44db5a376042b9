"""Numbers along an episode, drawn under its frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agent.evaluation.figure_style import COLOURS, FAINT, new_figure
from envs.recording import Episode

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_THUMBNAILS = 12
_WIDTH, _LEFT, _RIGHT = 11.0, 0.77, 0.33  # inches, as all that follow
_HEADING, _FILM, _PANEL, _GAP, _BOTTOM = 0.38, 0.82, 1.55, 0.25, 0.65


@dataclass(frozen=True)
class Line:
    """Numbers of an episode of T decisions.

    Attributes:
        values: of the decisions, (T,), drawn as steps, or of the observations, (T + 1,), drawn as a curve.
        label: in the panel's legend; empty: none.
    """

    values: NDArray[np.floating[Any]]
    label: str = ""


@dataclass(frozen=True)
class Panel:
    """Lines over one axis.

    Attributes:
        name: of the axis.
        lines: the first is solid, the others dashed.
    """

    name: str
    lines: Sequence[Line]


def draw_under_frames(episode: Episode, panels: Sequence[Panel], heading: str, path: Path | str) -> None:
    """Frames spread over an episode, if it has any, and below them numbers on the same axis of time.

    Args:
        episode: of T decisions.
        panels: from top to bottom, one at least.
        heading: above the frames.
        path: the PNG; its directory is made.

    Raises:
        ValueError: a line has numbers for another count than T decisions or T + 1 observations.
    """
    for panel in panels:
        for line in panel.lines:
            if line.values.shape not in ((episode.steps,), (episode.steps + 1,)):
                raise ValueError(
                    f"{panel.name}: expected {episode.steps} or {episode.steps + 1} numbers, "
                    f"found {line.values.shape}"
                )
    height = _HEADING + _FILM + len(panels) * (_PANEL + _GAP) + _BOTTOM
    across = (_LEFT / _WIDTH, (_WIDTH - _LEFT - _RIGHT) / _WIDTH)
    with new_figure(path, _WIDTH, height) as figure:
        bottom = height - _HEADING - _FILM
        film(figure.add_axes((across[0], bottom / height, across[1], _FILM / height)), episode)
        for number, panel in enumerate(panels):
            bottom -= _GAP + _PANEL
            axes = figure.add_axes((across[0], bottom / height, across[1], _PANEL / height))
            _draw_panel(axes, panel, episode.steps)
            axes.tick_params(length=0, labelbottom=number == len(panels) - 1)
        axes.set_xlabel("decision")
        figure.text(across[0], 1 - 0.24 / height, heading, fontsize=13, fontweight="bold")


def _draw_panel(axes: Axes, panel: Panel, steps: int) -> None:
    for number, line in enumerate(panel.lines):
        style: dict[str, Any] = {
            "color": COLOURS[number % len(COLOURS)],
            "linewidth": 1.4 if number else 1.8,
            "linestyle": "--" if number else "-",
            "label": line.label or None,
        }
        if len(line.values) == steps:  # each holds until the next decision
            axes.stairs(line.values, np.arange(steps + 1), baseline=None, **style)
        else:
            axes.plot(line.values, **style)
    axes.set_xlim(0, steps)
    axes.set_ylabel(panel.name)
    axes.grid(color=FAINT)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if any(line.label for line in panel.lines):
        axes.legend(frameon=False, fontsize=10)


def film(axes: Axes, episode: Episode, *, horizontal: bool = True) -> None:
    """Frames spread over an episode, side by side or from top to bottom; nothing where there are none."""
    axes.set_axis_off()
    if not episode.frame.size:
        return
    chosen = np.linspace(0, episode.steps, _THUMBNAILS).round().astype(int)
    frames = [episode.frame[t].transpose(1, 2, 0) for t in chosen]
    axes.imshow(np.concatenate(frames, axis=1 if horizontal else 0), aspect="auto")
