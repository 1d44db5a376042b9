"""Over which tasks, variants and seeds numbers are taken: each task alone, and all that can be aggregated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from agent.evaluation.comparison.grid import Array, Axis, carried, places
from agent.evaluation.comparison.reading import RunSet
from agent.evaluation.comparison.records import Curve, Note

SUITE_SCALES = {"dmc": 1000.0}
"""Suites whose returns can be aggregated over tasks -> the return that counts as 1."""

AGGREGATE = "aggregate"
_LEAST_TASKS = 2


@dataclass(frozen=True)
class Scope:
    """Runs that numbers are taken over.

    Attributes:
        name: the task, or `aggregate`.
        tasks: T names.
        scale: returns are divided by it: 1 for a single task.
        members: variant -> seed -> its runs, one for each task.
    """

    name: str
    tasks: tuple[str, ...]
    scale: float
    members: Mapping[str, Mapping[int, tuple[Curve, ...]]]

    @property
    def is_aggregate(self) -> bool:
        """Whether scores of several tasks are pooled."""
        return self.name == AGGREGATE

    @property
    def title(self) -> str:
        """How it is called in pictures and tables."""
        return f"{len(self.tasks)} tasks" if self.is_aggregate else self.name

    def on_grid(self, variant: str, grid: Array, axis: Axis) -> Array:
        """Scores of a variant, (R, T, C); NaN where a run has none."""
        rows = [
            [carried(places(run.trace, axis), run.trace.returns, grid) for run in runs]
            for runs in self.members[variant].values()
        ]
        return np.array(rows, dtype=np.float64) / self.scale

    def scores_at(self, variant: str, at: float, axis: Axis) -> tuple[list[int], Array]:
        """Seeds of which every task's run goes that far, and their scores there, (R, T)."""
        scores = self.on_grid(variant, np.array([at]), axis)[..., 0]
        reaches = np.flatnonzero(~np.isnan(scores).any(axis=1))
        seeds = list(self.members[variant])
        return [seeds[row] for row in reaches], scores[reaches]


def scale_of(task: str) -> float | None:
    """The return that counts as 1; None for a suite without a common scale."""
    return SUITE_SCALES.get(task.partition("/")[0])


def make_scopes(run_set: RunSet) -> tuple[list[Scope], list[Note]]:
    """The aggregate first, where there is one, then each task; and what the aggregate leaves out."""
    tables: dict[str, dict[str, dict[int, Curve]]] = {task: {} for task in run_set.tasks}
    for curve in run_set.curves:
        tables[curve.task].setdefault(curve.variant, {})[curve.seed] = curve
    alone = [
        Scope(
            task,
            (task,),
            1.0,
            {
                variant: {seed: (curve,) for seed, curve in table[variant].items()}
                for variant in run_set.variants
                if variant in table
            },
        )
        for task, table in tables.items()
    ]
    aggregate, notes = _make_aggregate(run_set.variants, tables)
    return ([aggregate] if aggregate else []) + alone, notes


def _make_aggregate(
    variants: Sequence[str], tables: Mapping[str, Mapping[str, Mapping[int, Curve]]]
) -> tuple[Scope | None, list[Note]]:
    """All tasks that have a common scale, of the variants that have them, by the seeds that they share."""
    notes = []
    scaled = [task for task in tables if scale_of(task)]
    if (others := [task for task in tables if not scale_of(task)]) and len(tables) > 1:
        notes.append(_note(f"{', '.join(others)}: no common scale with other tasks, not aggregated"))
    suites = {variant: {task for task in scaled if variant in tables[task]} for variant in variants}
    tasks = _shared_tasks(suites, tables)
    if not tasks:
        if len(tables) > 1:
            notes.append(_note("no variant has two tasks with a common scale: nothing is aggregated"))
        return None, notes
    if left := sorted(set(scaled) - set(tasks)):
        notes.append(_note(f"{', '.join(left)}: not of all its variants, not aggregated"))
    lacking = [variant for variant in variants if not suites[variant] >= set(tasks)]
    if lacking:
        notes.append(_note(f"variants that lack some of its tasks are left out: {'; '.join(lacking)}"))
    members = {}
    for variant in (each for each in variants if each not in lacking):
        shared = set.intersection(*(set(tables[task][variant]) for task in tasks))
        members[variant] = {
            seed: tuple(tables[task][variant][seed] for task in tasks) for seed in sorted(shared)
        }
        known = set.union(*(set(tables[task][variant]) for task in tasks))
        if unshared := sorted(known - shared):
            seeds = ", ".join(map(str, unshared))
            notes.append(_note(f"{variant}: seeds that not all tasks have are left out: {seeds}"))
    members = {variant: rows for variant, rows in members.items() if rows}
    scale = scale_of(tasks[0])
    if not members or scale is None:
        return None, notes
    return Scope(AGGREGATE, tuple(tasks), scale, members), notes


def _shared_tasks(
    suites: Mapping[str, set[str]], tables: Mapping[str, Mapping[str, Mapping[int, Curve]]]
) -> list[str]:
    """Two tasks or more, such that tasks times variants with a seed in all of them are as many as can be."""
    best: tuple[int, int, list[str]] = (0, 0, [])
    for tasks in suites.values():
        if len(tasks) >= _LEAST_TASKS:
            variants = sum(
                suites[other] >= tasks and bool(set.intersection(*(set(tables[t][other]) for t in tasks)))
                for other in suites
            )
            best = max(best, (variants * len(tasks), len(tasks), sorted(tasks)))
    return best[2]


def _note(text: str) -> Note:
    return Note(AGGREGATE, text, is_loss=False)
