"""Where all runs of a sweep stand, and how long they will still take."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from agent.sweeps.estimate import Cost, expected_seconds, total_seconds
from agent.sweeps.ledger import Ledger, PlannedRun, RunRecord
from agent.sweeps.table import RunStatus
from agent.sweeps.watching import Pace, Reading, read_progress
from configs.schema import Config


class Board:
    """Follows the runs by their own files."""

    def __init__(
        self,
        ledger: Ledger,
        keys: Sequence[str],
        configs: Mapping[str, Config],
        costs: Mapping[str, Cost],
        *,
        jobs: int,
    ) -> None:
        """Read how far each run is.

        Args:
            ledger: of the sweep; its records may change.
            keys: the sweep's runs.
            configs: by variant.
            costs: estimates by key.
            jobs: runs at a time.
        """
        self._ledger, self._keys, self._configs, self._costs = ledger, keys, configs, costs
        self._jobs = jobs
        self._readings = {key: self._read(key) for key in keys}
        self._paces: dict[str, Pace] = {}
        self._now_s = 0.0

    def look(self, going: Collection[str], now_s: float) -> None:
        """Read how far the runs that go on are; those that no longer do are read for the last time.

        Args:
            going: keys of the runs that go on.
            now_s: of a clock that never goes back.
        """
        self._now_s = now_s
        for key in {*going, *self._paces}:
            self._readings[key] = self._read(key)
        self._paces = {key: self._paces.get(key, Pace()) for key in going}
        for key, pace in self._paces.items():
            frames = self._readings[key].frames
            # Random decisions cost next to nothing, and say nothing about what follows.
            if frames >= self._configs[self._run(key).variant].training.random_frames:
                pace.see(now_s, frames)

    def look_at_all(self) -> None:
        """Read how far every run is, once none goes on."""
        self._paces = {}
        self._readings = {key: self._read(key) for key in self._keys}

    def rows(self) -> list[RunStatus]:
        """A status each run."""
        expected = self._expected()
        return [self._row(self._ledger.records[key], expected) for key in self._keys]

    def left_s(self) -> float | None:
        """Expected time until the last run ends; None where that cannot be known."""
        expected = self._expected()
        going = [self._going_left_s(key, expected) for key in self._paces]
        waiting = [
            expected(record.run)
            for record in map(self._ledger.records.__getitem__, self._keys)
            if record.run.key not in self._paces and record.state not in ("finished", "failed")
        ]
        known = [seconds for seconds in (*going, *waiting) if seconds is not None]
        return total_seconds(known, self._jobs) if len(known) == len(going) + len(waiting) else None

    def _row(self, record: RunRecord, expected: Callable[[PlannedRun], float | None]) -> RunStatus:
        key = record.run.key
        if key not in self._paces:
            return RunStatus(record, self._readings[key])
        pace = self._paces[key].frames_per_s(self._now_s)
        return RunStatus(record, self._readings[key], pace, self._going_left_s(key, expected))

    def _going_left_s(self, key: str, expected: Callable[[PlannedRun], float | None]) -> float | None:
        run, frames = self._run(key), self._readings[key].frames
        if pace := self._paces[key].frames_per_s(self._now_s):
            return max(0, run.frames - frames) / pace
        whole = expected(run)
        return None if whole is None else whole * max(0.0, 1 - frames / run.frames)

    def _expected(self) -> Callable[[PlannedRun], float | None]:
        return expected_seconds((self._ledger.records[key] for key in self._keys), self._costs)

    def _run(self, key: str) -> PlannedRun:
        return self._ledger.records[key].run

    def _read(self, key: str) -> Reading:
        return read_progress(self._ledger.directory / key)
