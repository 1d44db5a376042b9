"""Which runs of a task and variant measure the same thing, and may be pooled."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

from agent.evaluation.comparison.reading import RunSet
from agent.evaluation.comparison.records import CONDITIONS, Curve, Note

Pool = tuple[str, str]  # task and variant


def mixed_pools(curves: Sequence[Curve]) -> dict[Pool, str]:
    """Pools whose runs measure different things, and what differs: `look (fast: seeds 1, 2; original: 3)`."""
    found = {}
    for pool, members in sorted(_pools(curves).items()):
        texts = [_difference(name, members, lambda curve: f"seed {curve.seed}") for name in CONDITIONS]
        if any(texts):
            found[pool] = ", ".join(filter(None, texts))
    return found


def refuse_mixed(run_set: RunSet, *, is_allowed: bool) -> tuple[RunSet, set[Pool]]:
    """Leave mixed pools out, or pool them all the same if the user says so; the notes tell which.

    Args:
        run_set: all that was found.
        is_allowed: whether mixed runs are pooled.

    Returns:
        The run_set without refused pools, and these.
    """
    mixed = mixed_pools(run_set.curves)
    notes = list(run_set.notes)
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
    kept = tuple(each for each in run_set.curves if (each.task, each.variant) not in refused)
    notes += _unlike_variants(kept)
    return replace(run_set, curves=kept, notes=tuple(notes)), refused


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
