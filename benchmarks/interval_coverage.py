"""How often nominal 95% intervals hold the truth, over simulated scores.

    python benchmarks/interval_coverage.py

Draws experiments of R runs x T tasks from distributions whose IQM, mean and probability of improvement are
known from 100,000 runs, and counts. A minute on one core; one line each to results/interval_coverage.csv.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.stats import mannwhitneyu

from agent.evaluation.intervals import improvement_interval, t_interval
from agent.evaluation.score_checks import Array
from agent.evaluation.statistics import bootstrap_interval, iqm, mean

OUT = Path(__file__).parent / "results" / "interval_coverage.csv"
COLUMNS = ("scores", "tasks", "runs", "interval", "coverage", "width", "experiments")
SIZES = ((1, 3), (1, 5), (1, 10), (6, 3), (6, 5), (20, 5))  # tasks, runs
POPULATION = 100_000


def normal(draw: np.random.Generator, runs: int, tasks: int) -> Array:
    """Tasks of different height and spread, (R, T)."""
    height, spread = np.linspace(0.9, 0.2, tasks), np.linspace(0.05, 0.15, tasks)
    return draw.normal(height, spread, (runs, tasks))


def failing(draw: np.random.Generator, runs: int, tasks: int) -> Array:
    """The same, but one run in seven fails to learn and keeps a fifth of its score, (R, T)."""
    scores = normal(draw, runs, tasks)
    return np.where(draw.random(scores.shape) < 1 / 7, scores / 5, scores)


Interval = Callable[[Array, Array], tuple[float, float]]


def intervals(tasks: int) -> dict[str, tuple[str, Interval]]:
    """What each is an interval of, and how it is made of two samples, of which most need the first alone."""
    found: dict[str, tuple[str, Interval]] = {
        "IQM, percentiles": ("iqm", lambda x, _: bootstrap_interval(x, iqm, inflate=False)),
        "IQM, inflated": ("iqm", lambda x, _: bootstrap_interval(x, iqm)),
        "mean, inflated": ("mean", lambda x, _: bootstrap_interval(x, mean)),
        "improvement, inflated": ("improvement", improvement_interval),
    }
    if tasks == 1:
        found["mean, t"] = ("mean", lambda x, _: t_interval(x[:, 0]))
    return found


def main() -> None:
    """Count, and write one line an interval."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--experiments", type=int, default=400)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    with options.out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for simulate in (normal, failing):
            for tasks, runs in SIZES:
                draw = np.random.default_rng(0)
                population = simulate(draw, POPULATION, tasks)
                other = simulate(draw, POPULATION, tasks) - 0.05  # the other side: a little worse
                wins = mannwhitneyu(population, other, method="asymptotic").statistic / POPULATION**2
                truth = {
                    "iqm": iqm(population),
                    "mean": mean(population),
                    "improvement": wins.mean(),
                }
                pairs = [
                    (simulate(draw, runs, tasks), simulate(draw, runs, tasks) - 0.05)
                    for _ in range(options.experiments)
                ]
                for name, (quantity, interval) in intervals(tasks).items():
                    low, high = np.array([interval(x, y) for x, y in pairs]).T
                    held = ((low <= truth[quantity]) & (truth[quantity] <= high)).mean()
                    width = f"{(high - low).mean():.4f}"
                    writer.writerow(
                        (simulate.__name__, tasks, runs, name, f"{held:.3f}", width, options.experiments)
                    )
                    file.flush()


if __name__ == "__main__":
    main()
