"""Pictures of features: nearest neighbours, an episode's similarity to itself, and a map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from agent.evaluation.figure_style import GREY, new_figure
from agent.evaluation.probe.data import ProbeData
from envs.state import StateVariable
from world_model.probing import Features, Floats, spread

QUERIES, NEIGHBOURS = 5, 4
QUERY_COLOUR = (213, 94, 0)
_MOST_POINTS = 3000
_MAP_VARIABLES = 3


def nearest_elsewhere(
    features: Features, episode: NDArray[np.int64], query: int, rows: NDArray[np.int64], count: int
) -> NDArray[np.int64]:
    """The rows whose features are nearest (Euclidean) to one row's, among those of other episodes.

    Args:
        features: (N, F).
        episode: of each row, (N,).
        query: the row.
        rows: to search.
        count: how many, the nearest first.
    """
    rows = rows[episode[rows] != episode[query]]
    distance = np.linalg.norm(features[rows] - features[query], axis=1)
    return rows[np.argsort(distance, kind="stable")[:count]]


def draw_neighbours(features: Mapping[str, Features], data: ProbeData, path: Path) -> None:
    """Some test observations, and for each encoder the observations of other episodes nearest to them.

    Nothing is drawn where there are no frames.
    """
    if not data.episodes[0].frame.size:
        return
    queries = spread(data.split.test, QUERIES)
    searched = np.arange(len(data.time))
    width = 0.2 + 0.85 * (1 + NEIGHBOURS) * len(features)
    with new_figure(path, width, 0.8 + 0.9 * len(queries)) as figure:
        for place, (name, rows) in enumerate(features.items()):
            axes = figure.add_axes((place / len(features), 0.01, 0.98 / len(features), 0.82))
            lines = []
            for query in queries:
                found = nearest_elsewhere(rows, data.episode, int(query), searched, NEIGHBOURS)
                lines.append(_strip(data.frames(np.array([query, *found]))))
            axes.imshow(np.concatenate(lines), aspect="auto")
            axes.set_axis_off()
            axes.set_title(name, fontsize=10, loc="left", pad=4)
        figure.text(
            0.01,
            0.95,
            "observations (framed) and the nearest ones of other episodes",
            fontsize=11,
            color=GREY,
        )


def _strip(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Frames, uint8 (n, 3, H, W), side by side with margins, that of the first one coloured: (H', W', 3)."""
    margin = max(1, frames.shape[-1] // 24)
    edges = ((0, 0), (margin, margin), (margin, margin), (0, 0))
    padded = np.pad(frames.transpose(0, 2, 3, 1), edges, constant_values=255)
    colour = np.array(QUERY_COLOUR, np.uint8)
    padded[0, :margin] = padded[0, -margin:] = colour
    padded[0, :, :margin] = padded[0, :, -margin:] = colour
    return np.concatenate(list(padded), axis=1)


def draw_similarities(features: Mapping[str, Features], data: ProbeData, path: Path) -> None:
    """Cosine of every observation of a test episode with every other, for each encoder."""
    rows = np.flatnonzero(data.episode == data.episode[data.split.test[0]])
    with new_figure(path, 0.4 + 3.1 * len(features), 3.7) as figure:
        for place, (name, each) in enumerate(features.items()):
            axes = figure.add_subplot(1, len(features), place + 1)
            unit = F.normalize(torch.from_numpy(each[rows]), dim=1)
            cosine = (unit @ unit.T).numpy()
            # each with a scale of its own: what is far from one encoder is near for another
            image = axes.imshow(cosine, cmap="magma", vmin=float(cosine.min()), vmax=1.0)
            axes.set_title(name, fontsize=10, loc="left")
            axes.tick_params(length=0, labelsize=7)
            bar = figure.colorbar(image, ax=axes, fraction=0.045, pad=0.03)
            bar.outline.set_visible(False)
            bar.ax.tick_params(length=0, labelsize=7)
        figure.subplots_adjust(left=0.04, right=0.96, top=0.84, bottom=0.06, wspace=0.25)
        figure.text(0.01, 0.94, "similarity of an episode's states to one another", fontsize=11, color=GREY)


def principal_plane(features: Features) -> Floats:
    """Features on the two directions of their largest variance, (N, F) -> (N, 2)."""
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    plane: Floats = centred @ vectors[:, :-3:-1]
    return plane


def draw_maps(features: Mapping[str, Features], data: ProbeData, path: Path) -> None:
    """Every encoder's features on their principal plane, coloured by state variables."""
    rows = spread(np.sort(np.concatenate([data.split.validation, data.split.test])), _MOST_POINTS)
    variables = _coloured(data, rows)
    if not variables:
        return
    with new_figure(path, 0.6 + 2.6 * len(features), 0.7 + 2.5 * len(variables)) as figure:
        for column, (name, each) in enumerate(features.items()):
            points = principal_plane(each[rows])
            for line, variable in enumerate(variables):
                place = line * len(features) + column + 1
                axes = figure.add_subplot(len(variables), len(features), place)
                value = data.state[rows, variable.index]
                cmap = "twilight" if variable.is_periodic else "viridis"
                colour = np.mod(value, 2 * np.pi) if variable.is_periodic else value
                axes.scatter(
                    points[:, 0], points[:, 1], c=colour, cmap=cmap, s=3, linewidths=0, rasterized=True
                )
                axes.set_xticks([])
                axes.set_yticks([])
                if line == 0:
                    axes.set_title(name, fontsize=10, loc="left")
                if column == 0:
                    axes.set_ylabel(variable.name, fontsize=9)
        figure.subplots_adjust(left=0.07, right=0.99, top=0.88, bottom=0.02, wspace=0.06, hspace=0.08)
        figure.text(
            0.01, 0.955, "features on their two main directions, coloured by state", fontsize=11, color=GREY
        )


def _coloured(data: ProbeData, rows: NDArray[np.int64]) -> Sequence[StateVariable]:
    """The first variables that vary, positions before all others."""
    varying = [each for each in data.variables if data.state[rows, each.index].std() > 1e-6]
    return sorted(varying, key=lambda each: each.kind != "position")[:_MAP_VARIABLES]
