"""Results as plain text, for the end of a training run."""

from __future__ import annotations

from collections.abc import Sequence

from agent.evaluation.runs import RunCurve

_COLUMNS = ("task", "seed", "frames", "return", "episodes", "best", "time")


def results_table(runs: Sequence[RunCurve]) -> str:
    """One line a run: its last evaluation, its best mean return and its training time.

    Args:
        runs: what to list; `-` stands for what a run without evaluations does not have.

    Returns:
        Aligned lines with a header, without a line break at the end. `return` is mean ± deviation over
        the episodes of the last evaluation.
    """
    return ruled([_COLUMNS, *(_cells(run) for run in runs)], left=1)


def ruled(cells: Sequence[Sequence[str]], *, left: int) -> str:
    """A table with a rule under its first line; arguments as `aligned`."""
    lines = aligned(cells, left=left)
    lines.insert(1, "  ".join("-" * max(map(len, column)) for column in zip(*cells, strict=True)))
    return "\n".join(lines)


def aligned(cells: Sequence[Sequence[str]], *, left: int) -> list[str]:
    """Lines of a table, its columns as wide as they need.

    Args:
        cells: rows, all of one length.
        left: columns that begin at the left; the others, numbers, end at the right.
    """
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            text.rjust(width) if column >= left else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]


def format_duration(seconds: float) -> str:
    """Seconds as `59s`, `12m 05s` or `3h 07m`."""
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest}s"
    if minutes < 60:
        return f"{minutes}m {rest:02d}s"
    return f"{minutes // 60}h {minutes % 60:02d}m"


def _cells(run: RunCurve) -> tuple[str, ...]:
    if not run.evaluations:
        return run.task, str(run.seed), "-", "-", "-", "-", "-"
    last = run.evaluations[-1]
    best = max(row.return_mean for row in run.evaluations)
    return (
        run.task,
        str(run.seed),
        f"{last.frames:,}",
        f"{last.return_mean:.1f} ± {last.return_std:.1f}",
        str(last.episodes),
        f"{best:.1f}",
        format_duration(last.seconds),
    )
