"""Who finds a reward that chance hardly finds, and who gets about without any: Markdown tables.

    python benchmarks/curiosity.py

Of the suite `curiosity`, the first reward lies in the first episode of training that earned any; a run that
never did counts with its last frame, as at least so many. Returns are those of the last evaluation. Of the
suite `exploration`, visited cells and entropy of visits after all training episodes (docs/visits.md).
"""

from __future__ import annotations

import csv
import statistics
from pathlib import Path

from figures import RESULTS, header, row

MORE = 50  # of 1,000: no fleeting reward


def rows_of(path: Path) -> list[dict[str, float]]:
    """Rows of a CSV file of numbers."""
    with path.open(newline="") as file:
        return [
            {name: float(value) for name, value in line.items() if value} for line in csv.DictReader(file)
        ]


def first_reward(run: Path, at_least: float = 0) -> float | None:
    """Frames at the end of the first training episode that returned more than so much."""
    return next((line["frames"] for line in rows_of(run / "training.csv") if line["return"] > at_least), None)


def table(suite: Path) -> list[str]:
    """A line for each entry of the suite."""
    lines = list(
        header("task and bonus", "found", "first reward", "median", f"first above {MORE}", "last returns")
    )
    for entry in sorted(suite.iterdir()):
        runs = sorted(entry.glob("seed-*"))
        ends = [rows_of(run / "eval.csv")[-1] for run in runs]
        firsts = [first_reward(run) for run in runs]
        counted = [end["frames"] if first is None else first for first, end in zip(firsts, ends, strict=True)]
        cells = (
            f"{sum(first is not None for first in firsts)} of {len(runs)}",
            _listed(firsts, ends),
            f"{statistics.median(counted):,.0f}",
            _listed([first_reward(run, MORE) for run in runs], ends),
            ", ".join(f"{end['return_mean']:.0f}" for end in ends),
        )
        lines.append(row(entry.name, *cells))
    return lines


def _listed(firsts: list[float | None], ends: list[dict[str, float]]) -> str:
    return ", ".join(
        f"> {end['frames']:,.0f}" if first is None else f"{first:,.0f}"
        for first, end in zip(firsts, ends, strict=True)
    )


def coverage(suite: Path) -> list[str]:
    """What each run of the suite had covered at its end."""
    lines = list(header("domain and bonus", "frames", "cells", "entropy (nats)", "best training return"))
    for run in sorted(suite.glob("*/seed-*")):
        episodes = rows_of(run / "training.csv")
        end, best = episodes[-1], max(episode["return"] for episode in episodes)
        cells = (f"{end['frames']:,.0f}", f"{end['cells']:,.0f}", f"{end['entropy']:.2f}", f"{best:.0f}")
        lines.append(row(run.parent.name, *cells))
    return lines


if __name__ == "__main__":
    print(*table(RESULTS / "curiosity"), "", *coverage(RESULTS / "exploration"), sep="\n")
