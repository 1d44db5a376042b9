"""The variables of physics states over which visits are counted, and how each is cut into cells."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.evaluation.run_files import read_yaml

MOST_UNNAMED = 16
"""Entries that are counted over where the table says nothing of a task: its positions, as a rule."""


@dataclass(frozen=True)
class StateAxis:
    """A variable of the physics state with a range that is the same for all runs.

    Attributes:
        name: as in `envs.state.StateVariable`.
        index: where it stands in the state.
        unit: empty where it has none.
        low: lower end of its range; what lies below counts for the first cell.
        high: upper end, likewise.
        is_periodic: an angle that goes round: taken modulo a full turn, from -pi to pi.
        is_squashed: nobody knows its range: x / (1 + |x|) is cut into cells, from -1 to 1.
    """

    name: str
    index: int
    unit: str = ""
    low: float = -1.0
    high: float = 1.0
    is_periodic: bool = False
    is_squashed: bool = False

    @property
    def label(self) -> str:
        """Name and unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    def places(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where finite values lie within the range, in [0, 1]."""
        if self.is_squashed:
            values = values / (1 + np.abs(values))
        share = (values - self.low) / (self.high - self.low)
        return share % 1.0 if self.is_periodic else share.clip(0.0, 1.0)

    def cells(self, values: NDArray[np.float64], count: int) -> NDArray[np.int64]:
        """Numbers of the cells that finite values lie in, of so many of equal width."""
        return np.minimum((self.places(values) * count).astype(np.int64), count - 1)


def axes_of(task: str, entries: int) -> tuple[StateAxis, ...]:
    """The variables that visits of a task are counted over; none where it has no physics state.

    Args:
        task: canonical name.
        entries: length of its physics states. Those of another length than the table says are none of its
            tasks, whatever they are called.
    """
    for name in (task, task.partition("-")[0]):
        if found := _table().get((name, entries)):
            return found
    count = min(entries, MOST_UNNAMED)
    return tuple(StateAxis(f"state_{i}", i, is_squashed=True) for i in range(count))


def described() -> dict[str, tuple[int, tuple[StateAxis, ...]]]:
    """Everything that the table says: task or domain -> length of its states, and its variables."""
    return {name: (entries, axes) for (name, entries), axes in _table().items()}


@cache
def _table() -> dict[tuple[str, int], tuple[StateAxis, ...]]:
    text = resources.files("agent.evaluation.visits").joinpath("state_axes.yaml").read_text(encoding="utf-8")
    return {
        (task, int(entry["entries"])): tuple(_axis(name, *row) for name, row in entry["variables"].items())
        for task, entry in read_yaml(text).items()
    }


def _axis(name: str, index: int, unit: str, low: Any, high: Any = None) -> StateAxis:
    if low == "turn":
        return StateAxis(name, index, unit, -np.pi, np.pi, is_periodic=True)
    return StateAxis(name, index, unit, float(low), float(high))
