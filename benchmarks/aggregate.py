"""How long 600 runs of 200 evaluations each take to be compared, with 2,000 resamples.

    python benchmarks/aggregate.py

Curves are made up: 20 tasks, 5 variants, 6 seeds, as one CSV for each variant. Times of reading, of the
statistics, and of pictures with the page go to `benchmarks/results/aggregate.json`.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import numpy as np

from agent.evaluation.comparison import figure_files, report
from agent.evaluation.comparison.csv_import import CsvOptions
from agent.evaluation.comparison.curve_intervals import Estimation
from agent.evaluation.comparison.reading import read_runs
from agent.evaluation.comparison.sources import Input
from agent.evaluation.comparison.study import Question, make_study
from scripts.machine import hardware, versions

TASKS, VARIANTS, SEEDS, EVALUATIONS = 20, 5, 6, 200
RESULT = Path(__file__).parent / "results" / "aggregate.json"


def write_curves(directory: Path) -> list[Input]:
    """One CSV for each variant; returns climb to a level of their own, with noise."""
    rng = np.random.default_rng(0)
    frames = 5_000 * np.arange(1, EVALUATIONS + 1)
    inputs = []
    for variant in range(VARIANTS):
        lines = ["task,seed,frames,return_mean"]
        for task in range(TASKS):
            for seed in range(SEEDS):
                level, pace = rng.uniform(300, 950), rng.uniform(1e5, 4e5)
                returns = level * (1 - np.exp(-frames / pace)) + rng.normal(0, 25, EVALUATIONS)
                rows = zip(frames, returns.clip(0, 1000), strict=True)
                lines += [f"dmc/made-up{task},{seed},{at},{value:.3f}" for at, value in rows]
        path = directory / f"variant-{variant}.csv"
        path.write_text("\n".join(lines) + "\n")
        inputs.append(Input(path, f"variant {variant}"))
    return inputs


def main() -> None:
    """Read, aggregate, draw; each timed."""
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        inputs = write_curves(Path(folder))
        start = time.perf_counter()
        run_set = read_runs(inputs, CsvOptions(lambda name: name, None, {}), skipped=Path(folder) / "out")
        seconds["reading"] = time.perf_counter() - start
        start = time.perf_counter()
        study = make_study(run_set, Question(methods=(), estimation=Estimation(resamples=2000)))
        seconds["statistics"] = time.perf_counter() - start
        assert study is not None
        start = time.perf_counter()
        page = report.make_page(study, figure_files.draw_charts(study, Path(folder) / "figures"))
        seconds["pictures and page"] = time.perf_counter() - start
    result = {
        "runs": len(run_set.curves),
        "evaluations": EVALUATIONS,
        "resamples": 2000,
        "page_bytes": len(page.html.encode()),
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "hardware": hardware(),
        "versions": versions(),
    }
    print(json.dumps(result, indent=1))
    RESULT.write_text(f"{json.dumps(result, indent=1)}\n")


if __name__ == "__main__":
    main()
