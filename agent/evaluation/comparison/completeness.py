"""What there is of every run that could be there, and which runs must not be pooled."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from agent.evaluation.comparison.reading import Collection
from agent.evaluation.comparison.records import CONDITIONS, Curve, Note

Status = Literal["complete", "short", "crashed", "missing", "refused", "unplanned", ""]
Pool = tuple[str, str]  # task and variant


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
class CoverageRow:
    """Runs of one task and variant: a cell for each seed that any run has."""

    task: str
    variant: str
    cells: tuple[Cell, ...]


def coverage_matrix(collection: Collection, refused: Iterable[Pool] = ()) -> tuple[CoverageRow, ...]:
    """Every task with every variant and every seed, ordered by these.

    Args:
        collection: all that was found, refused pools included.
        refused: pools that are left out because they are mixed.
    """
    refused = set(refused)
    curves = {(curve.task, curve.variant, curve.seed): curve for curve in collection.curves}
    absent = {each[:3]: each.has_crashed for each in collection.absent}
    known = {*curves, *absent}
    longest: dict[Pool, int] = defaultdict(int)
    for curve in collection.curves:
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
        CoverageRow(task, variant, tuple(cell(task, variant, seed) for seed in seeds))
        for task in sorted({task for task, _, _ in known})
        for variant in collection.variants
    )


def _cell(curve: Curve, longest: int) -> Cell:
    target = curve.target_frames or longest
    status: Status = "crashed" if curve.has_crashed else "short" if curve.last_frames < target else "complete"
    return Cell(curve.seed, status, curve.last_frames, target)


def mixed_pools(curves: Sequence[Curve]) -> dict[Pool, str]:
    """Pools whose runs measure different things, and what differs: `look (fast: seeds 1, 2; original: 3)`."""
    found = {}
    for pool, members in sorted(_pools(curves).items()):
        texts = [_difference(name, members, lambda curve: f"seed {curve.seed}") for name in CONDITIONS]
        if any(texts):
            found[pool] = ", ".join(filter(None, texts))
    return found


def refuse_mixed(collection: Collection, *, is_allowed: bool) -> tuple[Collection, set[Pool]]:
    """Leave mixed pools out, or pool them all the same if the user says so; the notes tell which.

    Args:
        collection: all that was found.
        is_allowed: whether mixed runs are pooled.

    Returns:
        The collection without refused pools, and these.
    """
    mixed = mixed_pools(collection.curves)
    notes = list(collection.notes)
    for (task, variant), what in mixed.items():
        if is_allowed:
            text = f"mixed {what}: pooled all the same, as --allow-mixed says"
        else:
            text = (
                f"refused, mixed {what}: such runs measure different things; tell them apart with "
                "LABEL=PATH, or pool them with --allow-mixed"
            )
        notes.append(Note(f"{task}, {variant}", text, is_loss=not is_allowed))
    refused = set() if is_allowed else set(mixed)
    kept = tuple(each for each in collection.curves if (each.task, each.variant) not in refused)
    notes += _unlike_variants(kept)
    return replace(collection, curves=kept, notes=tuple(notes)), refused


def _unlike_variants(curves: Sequence[Curve]) -> list[Note]:
    """Conditions that differ between variants of a task: comparable only if that is what is compared."""
    tasks = defaultdict(list)
    for curve in curves:
        tasks[curve.task].append(curve)
    notes = []
    for task, members in sorted(tasks.items()):
        texts = [_difference(name, members, lambda curve: curve.variant) for name in CONDITIONS]
        pools = {text for text in texts if text}
        if pools and len({curve.variant for curve in members}) > 1:
            notes.append(Note(task, f"variants differ in {', '.join(sorted(pools))}", is_loss=False))
    return notes


def _difference(name: str, curves: Sequence[Curve], called: Callable[[Curve], str]) -> str:
    """Which of some runs have which value of a condition; nothing where those that are known agree."""
    who: dict[str, list[str]] = defaultdict(list)
    for curve in curves:
        for value in curve.conditions.get(name, ()):
            text = called(curve)
            if text not in who[value]:
                who[value].append(text)
    if len(who) < 2:
        return ""
    parts = (f"{value}: {', '.join(found)}" for value, found in sorted(who.items()))
    return f"{name} ({'; '.join(parts)})"


def _pools(curves: Sequence[Curve]) -> dict[Pool, list[Curve]]:
    pools: dict[Pool, list[Curve]] = defaultdict(list)
    for curve in curves:
        pools[curve.task, curve.variant].append(curve)
    return pools
