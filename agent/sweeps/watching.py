"""How far the runs of a sweep are, read from the files that they write anyway."""

from __future__ import annotations

import csv
import json
import os
from collections import deque
from dataclasses import dataclass
from pathlib import Path

PACE_WINDOW_S = 300.0
"""Speed is that of the last minutes: random decisions are quick, and later updates imagine."""

_TAIL_BYTES = 65536  # some fifty lines of metrics.jsonl, the end of an episode nearly always among them


@dataclass(frozen=True)
class Reading:
    """Where a run stands by its own records.

    Attributes:
        frames: of its last record.
        episode_return: of the last training episode; None: none in sight.
        evaluation: mean return of the last evaluation; None: none yet.
    """

    frames: int = 0
    episode_return: float | None = None
    evaluation: float | None = None


NOTHING_READ = Reading()


def read_progress(run_dir: Path) -> Reading:
    """Read the ends of `metrics.jsonl` and `eval.csv`; what is missing or damaged is not written yet."""
    from agent.evaluation.evaluations import read_eval_csv  # with NumPy, which `--help` does without

    frames: int = 0
    episode_return: float | None = None
    for record in _last_records(run_dir / "metrics.jsonl"):
        frames = int(record.get("frames", frames))
        episode_return = record.get("train/episode_return", episode_return)
    try:
        evaluations, _ = read_eval_csv(run_dir / "eval.csv")
    except (OSError, ValueError, csv.Error):
        evaluations = None
    return Reading(frames, episode_return, None if evaluations is None else float(evaluations.returns[-1]))


def _last_records(path: Path) -> list[dict[str, float]]:
    """Whole lines at the end of a file of JSON objects, oldest first."""
    try:
        with path.open("rb") as file:
            start = max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES)
            file.seek(start)
            lines = file.read().split(b"\n")[bool(start) : -1]  # the first was cut, the last is being written
    except OSError:
        return []
    records = []
    for line in lines:
        try:
            records.append(json.loads(line))
        except ValueError:  # torn by a kill; cut off when the run goes on
            continue
    return [record for record in records if isinstance(record, dict)]


class Pace:
    """Frames a second over the last minutes."""

    def __init__(self) -> None:
        """Nothing has been seen."""
        self._seen: deque[tuple[float, int]] = deque()

    def see(self, now_s: float, frames: int) -> None:
        """Take a look into account.

        Args:
            now_s: of a clock that never goes back.
            frames: where the run stands; less than before where it has gone back to a checkpoint.
        """
        if self._seen and frames < self._seen[-1][1]:
            self._seen.clear()
        if not self._seen or frames > self._seen[-1][1]:
            self._seen.append((now_s, frames))
        while len(self._seen) > 2 and self._seen[1][0] < now_s - PACE_WINDOW_S:
            self._seen.popleft()

    def frames_per_s(self, now_s: float) -> float | None:
        """None until the run has moved."""
        if len(self._seen) < 2:
            return None
        first_s, first = self._seen[0]
        last_s, last = self._seen[-1]
        # Between two records a run is not slower than it was, unless the next one is overdue.
        overdue_s = max(0.0, now_s - last_s - (last_s - first_s))
        return (last - first) / (last_s - first_s + overdue_s)
