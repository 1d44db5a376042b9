"""Agents that learnt with and without a moving background, evaluated on clean and on unseen backgrounds.

    python benchmarks/backgrounds.py

A table of the evaluations that the suites `paradigms` (reconstruction) and `backgrounds` made when their runs
had ended. Backgrounds of evaluation come from seeds that training never uses. The table is Markdown.
"""

from __future__ import annotations

import json
import statistics

from figures import header, row
from suite import results_of

SEEDS = (1, 2)
# objective, what it learnt with -> suite and name of its runs
TRAINED = {
    ("contrastive", "clean"): ("backgrounds", "contrastive-clean"),
    ("contrastive", "backgrounds"): ("backgrounds", "contrastive"),
    ("reconstruction", "clean"): ("paradigms", "reconstruction"),
    ("reconstruction", "backgrounds"): ("backgrounds", "reconstruction"),
}


def returns(suite: str, name: str, asked: str) -> list[float]:
    """Mean return of each seed whose evaluation is kept."""
    paths = [results_of(suite, name, seed) / f"{asked}.json" for seed in SEEDS]
    return [float(json.loads(path.read_text())["return_mean"]) for path in paths if path.exists()]


def ratio_table() -> list[str]:
    """Mean over seeds on clean and on unseen backgrounds, and the second over the first."""
    lines = list(header("objective", "trained on", "seeds", "clean", "unseen backgrounds", "ratio"))
    for (objective, trained_on), where in TRAINED.items():
        clean, unseen = (returns(*where, asked) for asked in ("clean", "background"))
        if not (clean and unseen):
            continue
        means = statistics.fmean(clean), statistics.fmean(unseen)
        cells = (f"{means[0]:.0f}", f"{means[1]:.0f}", f"**{means[1] / means[0]:.2f}**")
        lines.append(row(objective, trained_on, str(len(clean)), *cells))
    return lines


if __name__ == "__main__":
    print(*ratio_table(), sep="\n")
