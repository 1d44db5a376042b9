"""Runs, from whatever project, as they are compared, and what is remarked of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.evaluation.evaluations import Trace

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
