"""Point estimates of rliable on fixed scores, which tests/agent/test_rliable.py holds ours against.

    python -m venv /tmp/rliable && /tmp/rliable/bin/pip install rliable==1.2.0 "pandas<3"
    /tmp/rliable/bin/python benchmarks/rliable_reference.py

It needs an environment of its own: rliable does not import beside pandas 3. Scores and numbers go to
tests/agent/data/rliable.json.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rliable import library, metrics  # type: ignore[import-not-found, unused-ignore]

OUT = Path(__file__).parents[1] / "tests" / "agent" / "data" / "rliable.json"
PACKAGES = ("rliable", "numpy", "scipy", "pandas", "arch")
THRESHOLDS = np.linspace(0, 1.25, 11)


def cases() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Scores of two algorithms, (R1, T) and (R2, T)."""
    draw = np.random.default_rng(0)
    spread = draw.uniform(0, 1.2, (5, 6))
    coarse = np.round(4 * draw.uniform(0, 1.2, (5, 6))) / 4
    other = np.round(4 * draw.uniform(0, 1.2, (5, 6))) / 4
    other[:, 2] = coarse[:, 2]  # rliable has a rule of its own for tasks with equal scores
    return {
        "five runs": (spread, draw.uniform(0, 1.0, (5, 6))),
        "ties": (coarse, other),
        "ties and unequal numbers of runs": (
            np.round(4 * draw.uniform(0, 1.2, (4, 6))) / 4,
            np.round(4 * draw.uniform(0, 1.0, (7, 6))) / 4,
        ),
        "one task": (draw.normal(0.5, 0.2, (3, 1)), draw.normal(0.4, 0.2, (10, 1))),
    }


def estimates(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """What rliable makes of them: aggregates and profile of x, and X against Y."""
    return {
        "iqm": float(metrics.aggregate_iqm(x)),
        "mean": float(metrics.aggregate_mean(x)),
        "median": float(metrics.aggregate_median(x)),
        "optimality_gap": float(metrics.aggregate_optimality_gap(x)),
        "performance_profile": library.score_distributions(x, THRESHOLDS).tolist(),
        "probability_of_improvement": float(metrics.probability_of_improvement(x, y)),
    }


def main() -> None:
    """Write the file."""
    content = {
        "versions": {"python": sys.version.split()[0], **{name: version(name) for name in PACKAGES}},
        "thresholds": THRESHOLDS.tolist(),
        "cases": {
            name: {"x": x.tolist(), "y": y.tolist(), "rliable": estimates(x, y)}
            for name, (x, y) in cases().items()
        },
    }
    OUT.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
