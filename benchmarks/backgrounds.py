"""Agents that learnt with and without a moving background, evaluated on clean and on unseen backgrounds.

    python benchmarks/backgrounds.py [--work runs/benchmarks] [--episodes 20] [--out FILE.csv]

Needs the runs of the suites `cartpole` (its checkpoints of 50k frames), `paradigms` (reconstruction) and
`backgrounds`. Backgrounds of evaluation come from seeds that training never uses. The table is Markdown.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
from pathlib import Path

from figures import header, row

from agent.checkpoint import numbered

FRAMES, SEEDS, BACKGROUND = 50_000, (1, 2), "background=medium"
# objective, what it learnt with -> where its runs are
TRAINED = {
    ("contrastive", "none"): "cartpole/cpu",
    ("contrastive", BACKGROUND): "backgrounds/contrastive",
    ("reconstruction", "none"): "paradigms/reconstruction",
    ("reconstruction", BACKGROUND): "backgrounds/reconstruction",
}
COLUMNS = (
    "objective",
    "trained_on",
    "seed",
    "frames",
    "evaluated_on",
    "return_mean",
    "return_std",
    "episodes",
)


def evaluation(run: Path, evaluated_on: str, episodes: int) -> dict[str, float]:
    """What `nearfar evaluate` says of the checkpoint at `FRAMES`."""
    flags = ["--episodes", str(episodes), "--distract", evaluated_on, "--device", "cpu", "--json"]
    command = [
        sys.executable,
        "-m",
        "scripts.cli",
        "evaluate",
        str(numbered(run / "checkpoints", FRAMES)),
        *flags,
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def ratio_table(rows: list[dict[str, str]]) -> list[str]:
    """Mean over seeds on clean and on unseen backgrounds, and the second over the first."""
    lines = list(header("objective", "trained on", "clean", "unseen backgrounds", "ratio"))
    for objective, trained_on in TRAINED:
        chosen = [line for line in rows if (line["objective"], line["trained_on"]) == (objective, trained_on)]
        clean, unseen = (
            statistics.fmean(float(line["return_mean"]) for line in chosen if line["evaluated_on"] == where)
            for where in ("none", BACKGROUND)
        )
        lines.append(row(objective, trained_on, f"{clean:.0f}", f"{unseen:.0f}", f"**{unseen / clean:.2f}**"))
    return lines


def main() -> None:
    """Evaluate and write the CSV."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/backgrounds.csv"))
    options = parser.parse_args()
    runs = {key: [options.work / path / f"seed-{seed}" for seed in SEEDS] for key, path in TRAINED.items()}
    for run in (
        run for group in runs.values() for run in group
    ):  # before results that exist are written over
        if not (path := numbered(run / "checkpoints", FRAMES)).exists():
            parser.error(f"there is no {path}: run its suite first")
    with options.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        for (objective, trained_on), group in runs.items():
            for seed, run in zip(SEEDS, group, strict=True):
                for evaluated_on in ("none", BACKGROUND):
                    found = evaluation(run, evaluated_on, options.episodes)
                    facts = {"objective": objective, "trained_on": trained_on, "seed": seed}
                    writer.writerow(found | facts | {"evaluated_on": evaluated_on})
                    file.flush()
                    print(
                        objective, trained_on, seed, evaluated_on, f"{found['return_mean']:.0f}", flush=True
                    )
    with options.out.open(newline="") as file:
        print("", *ratio_table(list(csv.DictReader(file))), sep="\n")


if __name__ == "__main__":
    main()
