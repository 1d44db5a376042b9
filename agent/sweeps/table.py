"""The live table of a sweep as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from agent.evaluation.text_tables import aligned, format_duration
from agent.sweeps.ledger import RunRecord, State
from agent.sweeps.watching import NOTHING_READ, Reading

# State in the ledger -> how people are told; `started` without a process that goes on has no place here.
_WORDS: dict[State, str] = {
    "planned": "waiting",
    "started": "running",
    "stopped": "stopped",
    "crashed": "crashed, waiting",
    "finished": "done",
    "failed": "failed",
}
_COLUMNS = ("run", "state", "progress", "frames/s", "return", "evaluation", "left")
# What there may be no room for goes first from the end.
_ORDER = ("started", "failed", "crashed", "stopped", "planned", "finished")


@dataclass(frozen=True)
class RunStatus:
    """A row of the table.

    Attributes:
        record: what the ledger says.
        reading: what the run's own files say.
        frames_per_s: of a run that goes on, once it is known.
        left_s: expected time left; None: not known.
    """

    record: RunRecord
    reading: Reading = NOTHING_READ
    frames_per_s: float | None = None
    left_s: float | None = None


def render(
    rows: Sequence[RunStatus], *, left_s: float | None, width: int | None = None, height: int | None = None
) -> list[str]:
    """Lines that fit a terminal.

    Args:
        rows: all runs of the sweep.
        left_s: expected time until the last one ends.
        width: columns of the terminal; longer lines are cut. None: as many as it takes.
        height: lines of the terminal, likewise. Runs that go on come first, those done give way first.

    Returns:
        A header, a line a run, where some have no room a line that counts them, and a line on the whole.
    """
    ordered = sorted(rows, key=lambda row: _ORDER.index(row.record.state))
    room = len(ordered) if height is None else max(2, height - 3)  # header, summary, and the cursor's line
    shown = ordered if len(ordered) <= room else ordered[: room - 1]
    lines = aligned([_COLUMNS, *(_cells(row) for row in shown)], left=2)
    if hidden := ordered[len(shown) :]:
        lines.append(f"... and {len(hidden)} more ({_count(hidden)})")
    return [line[:width] for line in [*lines, summary(rows, left_s)]]


def summary(rows: Sequence[RunStatus], left_s: float | None) -> str:
    """One line: how many runs are in which state, and when all of it will be over."""
    when = f"; about {format_duration(left_s)} left" if left_s else ""
    return f"{len(rows)} runs: {_count(rows)}{when}"


def failure_report(records: Sequence[RunRecord]) -> list[str]:
    """What to tell about runs that failed: exit code and the last lines of the log."""
    lines = []
    for record in records:
        if record.state == "failed":
            lines += ["", f"{record.run.key}: exit code {record.exit_code}, log {record.run.key}.log"]
            lines += [f"    {line}" for line in record.tail]
    return lines


def _count(rows: Sequence[RunStatus]) -> str:
    counts = Counter(row.record.state for row in rows)
    return ", ".join(f"{counts[state]} {_WORDS[state]}" for state in _WORDS if counts[state])


def _cells(row: RunStatus) -> tuple[str, ...]:
    record, reading = row.record, row.reading
    frames = record.run.frames if record.state == "finished" else min(reading.frames, record.run.frames)
    return (
        record.run.key,
        _WORDS[record.state],
        f"{100 * frames // record.run.frames}% of {record.run.frames:,}",
        _number(row.frames_per_s),
        _number(reading.episode_return),
        _number(reading.evaluation),
        "-" if row.left_s is None else format_duration(row.left_s),
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
