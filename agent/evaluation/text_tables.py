"""Tables and durations as plain text."""

from __future__ import annotations

from collections.abc import Sequence


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
