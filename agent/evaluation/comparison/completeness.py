"""What there is of every run that could be there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from agent.evaluation.comparison.pooling import Pool
from agent.evaluation.comparison.reading import RunSet
from agent.evaluation.comparison.records import Curve

Status = Literal["complete", "short", "crashed", "missing", "refused", "unplanned", ""]


@dataclass(frozen=True)
class Cell:
    """One run of the matrix.

    Attributes:
        seed: the run's seed.
        status: `complete`, `short` of its target, `crashed`, `missing` (planned or begun, or the variant has
            this seed in other tasks), `refused` (its pool is mixed), `unplanned` (the variant has this seed
            elsewhere, but nobody planned it for this task), or nothing where nobody expects a run.
        last_frames: frames of its last evaluation; None without one.
        target_frames: frames it was meant to reach; those of the longest run beside it where nobody says.
    """

    seed: int
    status: Status
    last_frames: int | None = None
    target_frames: int | None = None


@dataclass(frozen=True)
class CompletenessRow:
    """Runs of one task and variant: a cell for each seed that any run has."""

    task: str
    variant: str
    cells: tuple[Cell, ...]


def completeness_matrix(run_set: RunSet, refused: Iterable[Pool] = ()) -> tuple[CompletenessRow, ...]:
    """Every task with every variant and every seed, ordered by these.

    Args:
        run_set: all that was found, refused pools included.
        refused: pools that are left out because they are mixed.
    """
    refused = set(refused)
    curves = {(curve.task, curve.variant, curve.seed): curve for curve in run_set.curves}
    absent = {each[:3]: each.has_crashed for each in run_set.absent}
    known = {*curves, *absent}
    longest: dict[Pool, int] = defaultdict(int)
    for curve in run_set.curves:
        pool = curve.task, curve.variant
        longest[pool] = max(longest[pool], curve.last_frames)
    seeds = sorted({seed for _, _, seed in known})
    pools = {run[:2] for run in known}
    of_variant = {run[1:] for run in known}

    def cell(task: str, variant: str, seed: int) -> Cell:
        if curve := curves.get((task, variant, seed)):
            found = _cell(curve, longest[task, variant])
            return replace(found, status="refused") if (task, variant) in refused else found
        if (task, variant, seed) in absent:
            return Cell(seed, "crashed" if absent[task, variant, seed] else "missing")
        if (variant, seed) not in of_variant:
            return Cell(seed, "")
        return Cell(seed, "missing" if (task, variant) in pools else "unplanned")

    return tuple(
        CompletenessRow(task, variant, tuple(cell(task, variant, seed) for seed in seeds))
        for task in sorted({task for task, _, _ in known})
        for variant in run_set.variants
    )


def _cell(curve: Curve, longest: int) -> Cell:
    target = curve.target_frames or longest
    status: Status = "crashed" if curve.has_crashed else "short" if curve.last_frames < target else "complete"
    return Cell(curve.seed, status, curve.last_frames, target)
