"""The evaluations of a run: `eval.csv`, and the rules for rows of any table."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agent.logger import EVAL_COLUMNS


@dataclass(frozen=True)
class Trace:
    """What a run recorded, N evaluations.

    Attributes:
        frames: environment frames, strictly increasing, (N,).
        returns: mean episode returns, finite, (N,).
        seconds: training time, (N,); NaN where it is not known.
        updates: gradient steps, (N,); NaN where they are not known.
        stds: deviation of the episodes' returns, (N,); NaN where it is not known.
        episodes: how many there were, (N,); NaN where it is not known.
    """

    frames: NDArray[np.float64]
    returns: NDArray[np.float64]
    seconds: NDArray[np.float64]
    updates: NDArray[np.float64]
    stds: NDArray[np.float64]
    episodes: NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """One line of a table of evaluations, not yet parsed.

    Attributes:
        line: its number in the file, from 1.
        frames: environment frames.
        returns: mean episode return.
        seconds: training time, or nothing.
        updates: gradient steps, or nothing.
        std: deviation of the episodes' returns, or nothing.
        episodes: how many there were, or nothing.
        scale: factor from the file's counter to frames.
    """

    line: int
    frames: str
    returns: str
    seconds: str = ""
    updates: str = ""
    std: str = ""
    episodes: str = ""
    scale: int = 1


def read_rows(rows: Iterable[Row], *, may_go_back: bool) -> tuple[Trace, list[str]]:
    """Parse rows up to the first that is no evaluation.

    What comes after a damaged row or a return that is no finite number is not used: carrying the return
    before it forward would make a run that broke look as one that went on.

    Args:
        rows: of one run, in the order of the file.
        may_go_back: whether frames that go back mean that the run did, to a checkpoint: rows then replace
            those at their frames and beyond. Otherwise nothing says which rows are right, and none is used.

    Returns:
        The evaluations, none where nothing is usable, and what is wrong with the others, a line each.
    """
    kept: list[tuple[float, ...]] = []
    problems: list[str] = []
    for row in rows:
        try:
            values = _parsed(row)
        except ValueError as error:
            until = f"used up to {kept[-1][0]:,.0f} frames" if kept else "nothing before it"
            problems.append(f"line {row.line}: {error}; {until}")
            break
        if kept and values[0] <= kept[-1][0]:
            at = f"frames go from {kept[-1][0]:,.0f} to {values[0]:,.0f} in line {row.line}"
            if not may_go_back:
                return _trace([]), [f"{at}: expected one row for each evaluation, in order"]
            problems.append(f"{at}: the rows from there on replace those at the same frames and beyond")
            kept = [earlier for earlier in kept if earlier[0] < values[0]]
        kept.append(values)
    return _trace(kept), problems


def read_eval_csv(path: Path) -> tuple[Trace | None, list[str]]:
    """Read the evaluations of one of our runs.

    A last line without its line break is being written, or was torn by a kill, and is left out.

    Args:
        path: the file.

    Returns:
        The evaluations, None where there are none, and what is wrong with the file, a line each.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such file.
        csv.Error: likewise.
    """
    text = path.read_text(encoding="utf-8")
    lines = list(csv.reader(text.splitlines()))
    if not lines or tuple(lines[0]) != EVAL_COLUMNS:
        raise ValueError(f"has not the header {','.join(EVAL_COLUMNS)!r}")
    problems = []
    if not text.endswith("\n"):
        lines.pop()
        problems.append(f"line {len(lines) + 1} is torn: left out")
    trace, more = read_rows(_eval_rows(lines[1:]), may_go_back=True)
    return (trace if len(trace.frames) else None), problems + more


def _eval_rows(lines: list[list[str]]) -> Iterator[Row]:
    """Lines of eval.csv; what a short one lacks is empty, which is no number."""
    for number, cells in enumerate(lines, start=2):
        filled = cells + [""] * (len(EVAL_COLUMNS) - len(cells))
        frames, updates, seconds, returns, std, episodes, *_ = filled
        yield Row(number, frames, returns, seconds, updates, std, episodes)


def _trace(rows: list[tuple[float, ...]]) -> Trace:
    return Trace(*np.array(rows, dtype=np.float64).reshape(-1, len(fields(Trace))).T)


def _parsed(row: Row) -> tuple[float, ...]:
    """The entries of a `Trace`."""
    frames, returns = _number(row.frames, "frames"), _number(row.returns, "return")
    if not math.isfinite(frames) or frames < 0:
        raise ValueError(f"frames are {row.frames}")
    if not math.isfinite(returns):
        raise ValueError(f"the return is {returns}")
    others = row.seconds, row.updates, row.std, row.episodes
    return frames * row.scale, returns, *map(_optional, others)


def _number(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{name} {text!r} is no number") from None


def _optional(text: str) -> float:
    """A number where there is one, NaN elsewhere: what a curve does not need."""
    try:
        return float(text)
    except ValueError:
        return math.nan
