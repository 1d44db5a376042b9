"""State-space coverage: which cells of the physics state episodes visited, and how evenly.

A joint grid over a whole physics state says nothing: with 18 variables of 30 cells each nearly every state
has a cell to itself, and counting cells is counting states. So visits are counted over *all pairs* of the
variables that `state_axes.yaml` names for a domain, each pair on a grid of `CELLS` x `CELLS`:

- **cells**: visited cells, summed over the pairs;
- **entropy**: mean over the pairs of the entropy of the visits to the cells of a pair, in nats; at most
  2 log(CELLS) = 6.80. It is that of the visits as they were counted, without a correction for few of them.

For a state of two variables that is the joint grid. Ranges are fixed for each domain and never follow the
data. So runs of one domain compare, at equal frames and with the same action repeat, which decides how many
states a frame leaves behind. Every recorded state of an episode is a visit, its first and its last included.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.evaluation.visits.state_axes import StateAxis, axes_of
from envs.episodes import EpisodeError, EpisodeStore
from envs.recording import Episode

CELLS = 30
"""Cells that the range of a variable is cut into."""
MAP_CELLS = 60
"""Cells a side of a heat map, which is for the eye alone."""


class VariableError(ValueError):
    """Variables that a task does not have; the message names those that it has."""


class Visits:
    """Counts of visits to the cells of all pairs of some variables; its size does not depend on the data."""

    def __init__(self, axes: Sequence[StateAxis], cells_per_axis: int = CELLS) -> None:
        """Count nothing yet.

        Args:
            axes: variables, one at least; a single one is counted by itself.
            cells_per_axis: cells of each.

        Raises:
            ValueError: there are no variables.
        """
        if not axes:
            raise ValueError("expected a variable at least, found none")
        self.axes = tuple(axes)
        self.cells_per_axis = cells_per_axis
        self.pairs = list(combinations(range(len(axes)), 2)) or [(0, 0)]
        self.visits = 0
        self._first, self._second = np.array(self.pairs).T
        self._counts = np.zeros((len(self.pairs), cells_per_axis, cells_per_axis), np.int64)

    def add(self, physics: NDArray[np.float64]) -> None:
        """Count states, float64 (N, entries); those with a number that is not finite are left out."""
        values = physics[:, [axis.index for axis in self.axes]]
        values = values[np.isfinite(values).all(axis=1)]
        side = self.cells_per_axis
        columns = [axis.cells(column, side) for axis, column in zip(self.axes, values.T, strict=True)]
        cell = np.stack(columns, axis=1)  # (N, axes)
        within = cell[:, self._first] * side + cell[:, self._second]  # (N, pairs)
        flat = within + np.arange(len(self.pairs)) * side**2
        self._counts += np.bincount(flat.ravel(), minlength=self._counts.size).reshape(self._counts.shape)
        self.visits += len(values)

    @property
    def cells(self) -> int:
        """Visited cells, over all pairs."""
        return int(np.count_nonzero(self._counts))

    @property
    def possible_cells(self) -> int:
        """Cells that there are, over all pairs; many of them no body can reach."""
        return self.cells_per_axis if len(self.axes) == 1 else self._counts.size

    @property
    def entropy(self) -> float:
        """Mean over the pairs of the entropy of their visits, in nats; 0 where nothing was visited."""
        if not self.visits:
            return 0.0
        counts = self._counts[self._counts > 0]
        mean = (counts * np.log(counts)).sum() / (self.visits * len(self.pairs))
        return max(0.0, float(np.log(self.visits) - mean))

    def pair_entropies(self) -> NDArray[np.float64]:
        """Entropy of the visits of each pair, in nats."""
        found = np.zeros(len(self.pairs))
        for number, counts in enumerate(self._counts):
            share = counts[counts > 0] / max(1, self.visits)
            found[number] = -(share * np.log(share)).sum()
        return found.clip(0.0)  # no -0.0 where one cell has all

    def counts(self, pair: int = 0) -> NDArray[np.int64]:
        """Visits to the cells of a pair, (cells of its first variable, cells of its second one)."""
        return self._counts[pair].copy()


@dataclass(frozen=True)
class Stage:
    """How far coverage had got at the end of an episode.

    Attributes:
        episodes: so many so far.
        frames: environment frames of these.
        cells: as in `Visits`.
        entropy: likewise.
    """

    episodes: int
    frames: int
    cells: int
    entropy: float

    def __str__(self) -> str:
        """One line."""
        return f"{self.frames:,} frames, {self.cells:,} cells, {self.entropy:.2f} nats"


class StateCoverage:
    """What a sequence of episodes visited, and how that grew; nothing where there is no physics state."""

    def __init__(self) -> None:
        """Begin with no episode; the first one says what task it is."""
        self.task = ""
        self.visits: Visits | None = None
        self.stages: list[Stage] = []
        self._episodes = self._frames = 0

    @property
    def axes(self) -> tuple[StateAxis, ...]:
        """Variables that visits are counted over."""
        return self.visits.axes if self.visits else ()

    def add(self, episode: Episode) -> Stage | None:
        """Count an episode; returns how far that gets, None without a physics state."""
        if self.visits is None:
            self.task = episode.info.task
            if not (axes := axes_of(self.task, episode.physics.shape[1])):
                return None
            self.visits = Visits(axes)
        self.visits.add(episode.physics)
        self._episodes += 1
        self._frames += episode.info.frames
        self.stages.append(Stage(self._episodes, self._frames, self.visits.cells, self.visits.entropy))
        return self.stages[-1]


def readable(store: EpisodeStore, problems: list[str], ids: Iterable[int] | None = None) -> Iterator[Episode]:
    """Episodes of a store one by one, in their order, each closed before the next one is opened.

    Args:
        store: where they are.
        problems: what is wrong with those that cannot be read is added here; they are left out.
        ids: numbers of episodes; None: all.
    """
    for identifier in store.ids() if ids is None else ids:
        try:
            yield store.read(identifier)
        except EpisodeError as error:
            problems.append(f"{error}; left out of the visits")


def stored_coverage(store: EpisodeStore) -> tuple[StateCoverage, list[str]]:
    """What the episodes of a store visited, and what is wrong with those that cannot be read."""
    coverage, problems = StateCoverage(), list[str]()
    for episode in readable(store, problems):
        coverage.add(episode)
    return coverage, problems


@dataclass(frozen=True)
class Survey:
    """Coverage of a store, and a finer map of two variables.

    Attributes:
        source: how the store is called.
        coverage: of its episodes.
        map: of two variables, for a picture.
        problems: what is wrong with episodes that were left out.
    """

    source: str
    coverage: StateCoverage
    map: Visits
    problems: tuple[str, ...]


def survey(
    store: EpisodeStore,
    source: str,
    shown: Sequence[str] | None = None,
    progress: Callable[[Sequence[int]], Iterable[int]] = iter,
) -> Survey | None:
    """Read what a store's episodes visited, once, in constant memory; only physics states are read.

    Args:
        store: not empty.
        source: how it is called.
        shown: names of the two variables of the map; None: the first two of the task.
        progress: goes through numbers of episodes and shows how far it is.

    Returns:
        The survey; None where the episodes have no physics state.

    Raises:
        EpisodeError: no episode can be read.
        VariableError: a variable is none of the task's, or named twice.
    """
    coverage, seen, problems = StateCoverage(), None, list[str]()
    for episode in readable(store, problems, progress(store.ids())):
        if coverage.add(episode) is None:
            return None
        if seen is None:
            seen = Visits(_shown(coverage.axes, shown), MAP_CELLS)
        seen.add(episode.physics)
    if seen is None:
        raise EpisodeError(problems[0] if problems else f"{store.path} holds no episodes")
    return Survey(source, coverage, seen, tuple(problems))


def _shown(axes: Sequence[StateAxis], names: Sequence[str] | None) -> list[StateAxis]:
    if names is None:
        return list(axes[:2])
    by_name = {axis.name: axis for axis in axes}
    if len(set(names)) != len(names) or not set(names) <= by_name.keys():
        raise VariableError(f"found {' and '.join(names)}: take two of {', '.join(by_name)}")
    return [by_name[name] for name in names]


def as_json(surveys: Sequence[Survey]) -> dict[str, Any]:
    """Surveys of one domain as JSON values: the variables, then each survey's numbers, pair by pair."""
    visits = _visits(surveys[0])
    return {
        "variables": [vars(axis) for axis in visits.axes],
        "cells_per_variable": visits.cells_per_axis,
        "possible_cells": visits.possible_cells,
        "runs": [_numbers(each) for each in surveys],
    }


def _numbers(found: Survey) -> dict[str, Any]:
    visits, last = _visits(found), found.coverage.stages[-1]
    names = [axis.name for axis in visits.axes]
    return {
        "source": found.source,
        "task": found.coverage.task,
        **vars(last),
        "visits": visits.visits,
        "pairs": [
            {
                "variables": [names[first], names[second]],
                "cells": int(np.count_nonzero(visits.counts(number))),
                "entropy": float(entropy),
            }
            for number, ((first, second), entropy) in enumerate(
                zip(visits.pairs, visits.pair_entropies(), strict=True)
            )
        ],
        "left_out": list(found.problems),
    }


def _visits(found: Survey) -> Visits:
    assert found.coverage.visits is not None, "a survey has visited something"
    return found.coverage.visits


def growth_csv(surveys: Sequence[Survey]) -> str:
    """How coverage grew: a row for each survey and episode."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("source", "episodes", "frames", "cells", "entropy"))
    for found in surveys:
        for stage in found.coverage.stages:
            writer.writerow(
                (found.source, stage.episodes, stage.frames, stage.cells, f"{stage.entropy:.10g}")
            )
    return file.getvalue()
