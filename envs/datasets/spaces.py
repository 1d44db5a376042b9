"""Gymnasium's spaces as Minari writes them: JSON, nested as the observations are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from envs.datasets.conversion import as_numbers


@dataclass(frozen=True)
class Leaf:
    """An entry of an observation.

    Attributes:
        path: below the group of an episode, for instance `observations/pixels`.
        kind: of space, for instance `Box`.
        dtype: its name; empty where the space has none.
        shape: of one observation.
    """

    path: str
    kind: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def is_image(self) -> bool:
        """Whether it is a picture."""
        return self.kind == "Box" and self.dtype == "uint8" and len(self.shape) in (2, 3)

    @property
    def is_vector(self) -> bool:
        """Whether it is a number or some."""
        return self.kind == "Box" and self.dtype.startswith(("float", "int")) and len(self.shape) < 2


def leaves(space: Any, path: str) -> Iterator[Leaf]:
    """The entries of a space, in the order of their names; nothing for what is no space."""
    kind = space.get("type") if isinstance(space, dict) else None
    inner = space.get("subspaces") if kind in ("Dict", "Tuple") else None
    if isinstance(inner, dict):
        for name in sorted(inner):
            yield from leaves(inner[name], f"{path}/{name}")
    elif isinstance(inner, list):
        for number, each in enumerate(inner):
            yield from leaves(each, f"{path}/_index_{number}")
    elif isinstance(kind, str):
        shape = space.get("shape", [])
        is_shape = isinstance(shape, list) and all(
            isinstance(length, int) and length >= 0 for length in shape
        )
        yield Leaf(path, kind, str(space.get("dtype", "")), tuple(shape) if is_shape else ())


def box(rows: np.ndarray, low: float = -np.inf, high: float = np.inf) -> str:
    """The space of rows of an array, all entries in one range."""
    shape = rows.shape[1:]
    bounds = {
        name: np.full(shape, value, rows.dtype).tolist() for name, value in (("low", low), ("high", high))
    }
    return json.dumps({"type": "Box", "dtype": str(rows.dtype), "shape": list(shape), **bounds})


def scaled_actions(space: Any, actions: np.ndarray, steps: int) -> tuple[np.ndarray, bool]:
    """Actions of a space, scaled to [-1, 1]; those of a space of n choices as n entries that are 0 or 1.

    Args:
        space: the space, as JSON.
        actions: (steps, ...) of it.
        steps: how many there must be.

    Returns:
        float32 (steps, A), and whether any had to be clipped.

    Raises:
        ValueError: they are of another kind, or unbounded.
    """
    kind = space.get("type") if isinstance(space, dict) else None
    if kind == "Discrete":
        return _one_hot(space, actions, steps), False
    if kind != "Box":
        raise ValueError(f"actions of a space of type {kind} cannot be read: only Box and Discrete can")
    flat = actions.reshape(len(actions), -1) if actions.size else actions
    numbers = as_numbers("actions", flat, (steps, -1), np.float64)
    low, high = (_bound(space, name, numbers.shape[1]) for name in ("low", "high"))
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (high > low).all()):
        raise ValueError("actions are not bounded, so that they cannot be scaled to [-1, 1]")
    if (low == -1).all() and (high == 1).all():
        scaled = numbers
    else:
        scaled = (2 * numbers - low - high) / (high - low)
    is_clipped = bool(np.abs(scaled).max(initial=0) > 1 + 1e-6)
    return np.clip(scaled, -1, 1).astype(np.float32), is_clipped


def _bound(space: Any, name: str, count: int) -> np.ndarray:
    try:
        bound = np.asarray(space[name], np.float64).reshape(-1)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the space of actions has no {name}") from error
    if len(bound) not in (1, count):
        raise ValueError(f"the space of actions has {len(bound)} entries, actions have {count}")
    return bound


def _one_hot(space: Any, actions: np.ndarray, steps: int) -> np.ndarray:
    count, start = space.get("n"), space.get("start", 0)
    if not isinstance(count, int) or not isinstance(start, int) or not 0 < count <= 10_000:
        raise ValueError("the space of actions has no number of choices")
    chosen = as_numbers("actions", actions, (steps,), np.float64) - start
    if not np.isin(chosen, np.arange(count)).all():
        raise ValueError(f"actions are none of the {count} choices")
    return (chosen[:, None] == np.arange(count)).astype(np.float32)
