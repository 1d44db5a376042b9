"""Where the time of training went, from the `metrics.jsonl` of runs."""

from __future__ import annotations

import io
import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.evaluation.comparison.records import Curve, Note

_TAIL_BYTES = 200_000  # of metrics.jsonl: the last 200 records or so


@dataclass(frozen=True)
class TimeShares:
    """Where the time of training went, mean over the last records of the runs of a task and variant.

    Attributes:
        task: their task.
        variant: their variant.
        runs: how many record it.
        shares: what the time went into -> its share in [0, 1], largest first.
        devices: what their manifests name, sorted.
    """

    task: str
    variant: str
    runs: int
    shares: dict[str, float]
    devices: tuple[str, ...]

    @property
    def is_on_gpu(self) -> bool:
        """Whether kernels of a GPU went on after the activity that their time would belong to."""
        return any(device.startswith("cuda") for device in self.devices)


def time_shares(curves: Sequence[Curve]) -> tuple[list[TimeShares], list[Note]]:
    """Shares of time from each run's metrics.jsonl, and which of these files are damaged."""
    found: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
    devices: dict[tuple[str, str], set[str]] = defaultdict(set)
    notes = []
    for curve in curves:
        if curve.directory is None or not (curve.directory / "metrics.jsonl").exists():
            continue
        shares, damaged = _read_shares(curve.directory / "metrics.jsonl")
        if damaged:
            text = f"{damaged} damaged {'line' if damaged == 1 else 'lines'} left out"
            notes.append(Note(f"{curve.source}/metrics.jsonl", text, is_loss=False))
        if shares:
            found[curve.task, curve.variant].append(shares)
            devices[curve.task, curve.variant] |= _devices(curve)
    means = []
    for (task, variant), runs in found.items():
        names = sorted(set().union(*runs))
        mean = {name: math.fsum(run.get(name, 0.0) for run in runs) / len(runs) for name in names}
        ordered = dict(sorted(mean.items(), key=lambda item: (-item[1], item[0])))
        means.append(TimeShares(task, variant, len(runs), ordered, tuple(sorted(devices[task, variant]))))
    return means, notes


def _devices(curve: Curve) -> set[str]:
    """Where the networks of a run were, in all processes that worked on it; nothing where nobody says."""
    earlier = curve.manifest.get("earlier")
    processes = [curve.manifest, *(earlier if isinstance(earlier, list) else [])]
    named = [each.get("device") for each in processes if isinstance(each, Mapping)]
    return {device for device in named if isinstance(device, str)}


def _read_shares(path: Path) -> tuple[dict[str, float], int]:
    """Mean of `time/*_share` over the last records, and how many of these are damaged."""
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - _TAIL_BYTES))
        lines = file.read().split(b"\n")
    if size > _TAIL_BYTES:
        lines = lines[1:]  # it began before
    damaged, sums, count = 0, defaultdict[str, float](float), 0
    for line in lines:
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            shares = {name: record[name] for name in record if re.fullmatch(r"time/.+_share", name)}
            shares = {name: float(value) for name, value in shares.items() if value is not None}
        except (ValueError, TypeError):
            damaged += 1
            continue
        count += bool(shares)
        for name, value in shares.items():
            sums[name.removeprefix("time/").removesuffix("_share")] += value
    return {name: total / count for name, total in sums.items()}, damaged
