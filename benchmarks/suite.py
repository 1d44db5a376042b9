"""Run the measurements of `benchmarks/suites.yaml`, resume them where they were cut, keep their raw results.

    python benchmarks/suite.py SUITE [--only NAME ...] [--missing] [--jobs 1] [--threads 0] [--work DIR]

Each entry of a suite is a `nearfar train` command line. Runs live under `--work` (large, not committed);
their `eval.csv`, `config.yaml`, `manifest.json`, `metrics.jsonl`, and what training episodes returned and had
covered, are copied to `benchmarks/results/SUITE/NAME/seed-S/` after every run, and whenever a run ends early.
With `--missing`, runs whose results are there to the last frame are left out: so a suite can be measured in
parts, on several machines.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

HERE = Path(__file__).parent
KEPT = ("eval.csv", "config.yaml", "manifest.json")
EPISODE = {  # what is kept of every training episode, and its column
    "frames": "frames",
    "train/episode_return": "return",
    "explore/cells": "cells",
    "explore/entropy": "entropy",
}


def runs_of(suite: str, only: list[str] | None = None) -> list[tuple[str, int, list[str]]]:
    """Name, seed and flags of each run of a suite, or of some of its names, in the order to run them."""
    suites = yaml.safe_load((HERE / "suites.yaml").read_text())
    if suite not in suites:
        raise SystemExit(f"no suite {suite!r} in suites.yaml; there are {', '.join(suites)}")
    entries = suites[suite]
    if unknown := set(only or ()) - set(entries):
        raise SystemExit(f"suite {suite!r} has no {', '.join(sorted(unknown))}; it has {', '.join(entries)}")
    entries = {name: entry for name, entry in entries.items() if only is None or name in only}
    seeds = sorted({seed for entry in entries.values() for seed in entry["seeds"]})
    return [
        (name, seed, str(entry["flags"]).split())
        for seed in seeds
        for name, entry in entries.items()
        if seed in entry["seeds"]
    ]


def evaluations_of(suite: str, name: str) -> dict[str, list[str]]:
    """Flags of `nearfar evaluate` for what is asked of a run that has ended, by name."""
    entry = yaml.safe_load((HERE / "suites.yaml").read_text())[suite][name]
    return {asked: str(flags).split() for asked, flags in entry.get("evaluate", {}).items()}


def results_of(suite: str, name: str, seed: int) -> Path:
    """Where the results of a run are kept."""
    return HERE / "results" / suite / name / f"seed-{seed}"


def is_measured(suite: str, name: str, seed: int, flags: list[str]) -> bool:
    """Whether the results of this run are kept up to its last frame, and its evaluations."""
    kept = results_of(suite, name, seed)
    if not (kept / "eval.csv").exists():
        return False
    with (kept / "eval.csv").open(newline="") as file:
        frames = [int(row["frames"]) for row in csv.DictReader(file)]
    is_evaluated = all((kept / f"{asked}.json").exists() for asked in evaluations_of(suite, name))
    return is_evaluated and max(frames, default=0) >= int(flags[flags.index("--frames") + 1])


def command_flags(flags: list[str], seed: int, run_dir: Path, threads: int) -> list[str]:
    """Flags of `nearfar train` for one run; 0 threads leave their number to torch."""
    fixed = ["--seed", str(seed), "--out", str(run_dir), "--logging.no-progress"]
    return [*flags, *fixed, *(["--training.threads", str(threads)] if threads else [])]


def train(suite: str, name: str, seed: int, flags: list[str], *, work: Path, threads: int) -> int:
    """Start or resume one run, then copy its small results."""
    run_dir = work / suite / name / f"seed-{seed}"
    command = [sys.executable, "-m", "scripts.cli", "train", *command_flags(flags, seed, run_dir, threads)]
    environment = os.environ | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
    run_dir.parent.mkdir(parents=True, exist_ok=True)
    with (run_dir.parent / f"seed-{seed}.log").open("a") as log:
        code = subprocess.run(command, env=environment, stdout=log, stderr=log, check=False).returncode
    kept = results_of(suite, name, seed)
    keep(run_dir, kept)
    for asked, wanted in evaluations_of(suite, name).items() if code == 0 else ():
        code = code or evaluate(run_dir, wanted, kept / f"{asked}.json", environment)
    print(f"{suite}/{name} seed {seed}: exit {code}", flush=True)
    return code


def evaluate(run_dir: Path, flags: list[str], target: Path, environment: dict[str, str]) -> int:
    """Write what `nearfar evaluate` says of a run's newest checkpoint."""
    fixed = ["--episodes", "20", "--device", "cpu", "--json"]
    command = [sys.executable, "-m", "scripts.cli", "evaluate", str(run_dir), *flags, *fixed]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == 0:
        target.write_text(f"{json.dumps(json.loads(done.stdout), indent=1)}\n")
    return done.returncode


def keep(run_dir: Path, target: Path) -> None:
    """Copy what is worth committing."""
    target.mkdir(parents=True, exist_ok=True)
    for name in KEPT:
        if (run_dir / name).exists():
            (target / name).write_bytes((run_dir / name).read_bytes())
    if (run_dir / "metrics.jsonl").exists():
        complete, _, _ = (run_dir / "metrics.jsonl").read_text().rpartition("\n")  # a kill may tear a line
        lines = [(line, json.loads(line)) for line in complete.splitlines()]
        full = [line for line, found in lines if "loss/value" in found]
        (target / "metrics.jsonl").write_text("\n".join(full) + "\n")
        ends = [found for _, found in lines if "train/episode_return" in found]
        with (target / "training.csv").open("w", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(EPISODE.values())
            rows.writerows([f"{end[name]:.8g}" if name in end else "" for name in EPISODE] for end in ends)


def main() -> None:
    """Run a suite."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("suite")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these entries of the suite alone")
    parser.add_argument("--missing", action="store_true", help="only runs that have no whole results yet")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    parser.add_argument("--threads", type=int, default=0, help="threads a run; 0 leaves it to torch")
    parser.add_argument("--work", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    runs = runs_of(options.suite, options.only)
    left = [run for run in runs if not (options.missing and is_measured(options.suite, *run))]
    print(f"{len(left)} of {len(runs)} runs are to be done", flush=True)
    with ThreadPoolExecutor(options.jobs) as executor:
        codes = list(
            executor.map(
                lambda run: train(options.suite, *run, work=options.work, threads=options.threads),
                left,
            )
        )
    sys.exit(max(codes, default=0))


if __name__ == "__main__":
    main()
