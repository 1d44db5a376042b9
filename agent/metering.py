"""Where the time of a training process goes."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Meter:
    """Wall-clock time by activity."""

    def __init__(self) -> None:
        """Start the clock."""
        self._last = time.perf_counter()
        self._spent: dict[str, float] = defaultdict(float)

    @contextmanager
    def measure(self, activity: str) -> Iterator[None]:
        """Add the time of the block to an activity; kernels of a GPU may still run when it ends."""
        start = time.perf_counter()
        yield
        self._spent[activity] += time.perf_counter() - start

    def shares(self) -> dict[str, float]:
        """Share of each activity in all measured time since the start, as `time/<activity>_share`."""
        total = sum(self._spent.values())
        return {f"time/{name}_share": spent / total for name, spent in self._spent.items()}

    def lap(self) -> float:
        """Seconds since the last call (at first: since the start)."""
        now = time.perf_counter()
        elapsed, self._last = now - self._last, now
        return elapsed
