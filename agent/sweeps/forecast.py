"""What `nearfar sweep --dry-run` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agent.evaluation.text_tables import aligned, format_duration
from agent.sweeps.estimate import Cost, expected_seconds, total_seconds
from agent.sweeps.ledger import RunRecord

_COLUMNS = ("task", "variant", "runs", "done", "frames", "updates", "time", "memory", "disk")


def forecast(
    records: Sequence[RunRecord], costs: Mapping[str, Cost], *, jobs: int, free_disk_mb: float
) -> str:
    """The plan, and what it will take.

    Args:
        records: the sweep's runs; what has finished already is not counted in the totals.
        costs: estimates by key.
        jobs: runs at a time.
        free_disk_mb: where the sweep's directory is or will be.

    Returns:
        A line for each task and variant, then the totals, and what the estimate rests on.
    """
    expected = expected_seconds(records, costs)
    left = [record.run for record in records if record.state != "finished"]
    cells = [_COLUMNS, *(_cells(group, costs, expected(group[0].run)) for group in _groups(records))]
    seconds = [expected(run) for run in left]
    known = [each for each in seconds if each is not None]
    memory = sum(sorted((costs[run.key].memory_mb for run in left), reverse=True)[:jobs])
    disk = sum(costs[run.key].disk_mb for run in left)
    lines = [
        *aligned(cells, left=2),
        "",
        f"{len(records)} runs, {len(left)} of them to do, {jobs} at a time on {_threads(records)} each",
        "time    "
        + (format_duration(total_seconds(known, jobs)) if len(known) == len(left) else "not known"),
        f"memory  {memory / 1e3:.1f} GB at a time",
        f"disk    {disk / 1e3:.1f} GB, of {free_disk_mb / 1e3:.1f} GB that are free",
        "",
        _basis(records, len(known) == len(left)),
    ]
    return "\n".join(lines)


def _groups(records: Sequence[RunRecord]) -> list[list[RunRecord]]:
    """Runs that differ in their seeds only."""
    groups: dict[tuple[str, str], list[RunRecord]] = {}
    for record in records:
        groups.setdefault((record.run.task, record.run.variant), []).append(record)
    return list(groups.values())


def _cells(group: list[RunRecord], costs: Mapping[str, Cost], seconds: float | None) -> tuple[str, ...]:
    run = group[0].run
    cost = costs[run.key]
    return (
        run.task,
        run.variant,
        str(len(group)),
        str(sum(record.state == "finished" for record in group)),
        f"{run.frames:,}",
        f"{cost.updates:,}",
        "?" if seconds is None else format_duration(seconds),
        f"{cost.memory_mb:,.0f} MB",
        f"{cost.disk_mb:,.0f} MB",
    )


def _threads(records: Sequence[RunRecord]) -> str:
    counts = sorted({record.run.threads for record in records})
    return " or ".join(map(str, counts)) + (" thread" if counts == [1] else " threads")


def _basis(records: Sequence[RunRecord], is_known: bool) -> str:
    if any(record.state == "finished" and record.attempts == 1 for record in records):
        return "The times are those of runs of this sweep that have finished; the rest is rough."
    if not is_known:
        return (
            "Nothing has been measured on a GPU: times are known once a run has finished. The rest is rough."
        )
    return (
        "This is rough, and may be off by half: it rests on what preset cpu took on two cores of one machine "
        "(agent/sweeps/measured.yaml). Once a run has finished, its time stands for the others."
    )
