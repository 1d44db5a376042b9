"""Curves of runs, from whatever project, as they are compared: records and the rules for their rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONDITIONS = ("mujoco", "look", "size", "stack", "obs", "distract", "action repeat")
"""What a task was: runs that differ in one of these measure different things and are not pooled."""


@dataclass(frozen=True)
class Note:
    """Something about the input that the user must know.

    Attributes:
        source: file or directory, or pool of runs, that it is about.
        text: what, in one line.
        is_loss: whether something was left out of the comparison.
    """

    source: str
    text: str
    is_loss: bool = True

    def __str__(self) -> str:
        """One line."""
        return f"{self.source}: {self.text}"


@dataclass(frozen=True)
class Trace:
    """What a run recorded, N evaluations.

    Attributes:
        frames: environment frames, strictly increasing, (N,).
        returns: mean episode returns, finite, (N,).
        seconds: training time, (N,); NaN where it is not known.
        updates: gradient steps, (N,); NaN where they are not known.
    """

    frames: NDArray[np.float64]
    returns: NDArray[np.float64]
    seconds: NDArray[np.float64]
    updates: NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """One run.

    Attributes:
        task: canonical name where there is one, for instance `dmc/walker-walk`.
        variant: what the run is a case of; runs of one variant and task differ in their seed only.
        seed: the run's seed.
        trace: its evaluations, at least one.
        source: where it was read, as it is shown.
        target_frames: frames it was meant to reach; None where nobody says.
        has_crashed: whether a ledger says so.
        conditions: values of `CONDITIONS` that are known; several where a run went on under others.
        directory: its run directory, if it has one.
        config: resolved options, as in config.yaml.
        manifest: how and where it ran.
    """

    task: str
    variant: str
    seed: int
    trace: Trace
    source: str
    target_frames: int | None = None
    has_crashed: bool = False
    conditions: Mapping[str, frozenset[str]] = field(default_factory=dict)
    directory: Path | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict)

    @property
    def last_frames(self) -> int:
        """Frames of the last evaluation."""
        return int(self.trace.frames[-1])


@dataclass(frozen=True)
class Row:
    """One line of a table of evaluations, not yet parsed.

    Attributes:
        line: its number in the file, from 1.
        frames: environment frames.
        returns: mean episode return.
        seconds: training time, or nothing.
        updates: gradient steps, or nothing.
        scale: factor from the file's counter to frames.
    """

    line: int
    frames: str
    returns: str
    seconds: str = ""
    updates: str = ""
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
    kept: list[tuple[float, float, float, float]] = []
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


def _trace(rows: list[tuple[float, float, float, float]]) -> Trace:
    return Trace(*np.array(rows, dtype=np.float64).reshape(-1, 4).T)


def _parsed(row: Row) -> tuple[float, float, float, float]:
    """Frames, return, seconds, updates."""
    frames, returns = _number(row.frames, "frames"), _number(row.returns, "return")
    if not math.isfinite(frames) or frames < 0:
        raise ValueError(f"frames are {row.frames}")
    if not math.isfinite(returns):
        raise ValueError(f"the return is {returns}")
    return frames * row.scale, returns, _optional(row.seconds), _optional(row.updates)


def _number(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{name} {text!r} is no number") from None


def _optional(text: str) -> float:
    """A number where there is one, NaN elsewhere: seconds and updates are not needed for a curve."""
    try:
        return float(text)
    except ValueError:
        return math.nan
