"""Pictures and tables of the README, from the raw results that are committed.

    python benchmarks/figures.py

Draws `docs/figures/NAME.png` and prints the tables as Markdown. Suites without results yet are left out.
"""

from __future__ import annotations

import csv
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

from agent.evaluation.comparison.learning_curve import draw_learning_curve
from agent.evaluation.comparison.reading import read_runs
from agent.evaluation.comparison.records import Curve
from agent.evaluation.comparison.sources import Input
from agent.evaluation.evaluations import Trace
from agent.evaluation.published import published_scores

RESULTS = Path(__file__).parent / "results"
FIGURES = Path(__file__).parent.parent / "docs" / "figures"
COMPARED = ("CURL", "DrQ")
LOOKS = {"cpu": "fast look, 64 px", "cpu-84": "original look, 84 px"}


def runs_of(suite: str) -> dict[str, list[Curve]]:
    """Runs with evaluations of each entry of a suite, ordered by seed."""
    entries = {path.parent for path in (RESULTS / suite).glob("*/seed-*")}
    return read([Input(path, path.name) for path in entries])


def read(inputs: list[Input]) -> dict[str, list[Curve]]:
    """Runs by label, ordered by seed; what cannot be used is named."""
    if not inputs:
        return {}
    run_set = read_runs(inputs)
    for note in run_set.notes:
        print(note, file=sys.stderr)
    groups: dict[str, list[Curve]] = defaultdict(list)
    for curve in run_set.curves:
        groups[curve.variant].append(curve)
    return dict(groups)


def until(run: Curve, frames: int, label: str) -> Curve:
    """A run as it stood at some frames, under another label."""
    kept = run.trace.frames <= frames
    trace = Trace(*(getattr(run.trace, each.name)[kept] for each in fields(Trace)))
    return replace(run, variant=label, trace=trace)


def draw(name: str, runs: list[Curve], *, is_compared: bool = True) -> None:
    """One picture of runs of one task, beside what was published at 100k frames if it is to be compared."""
    published = published_scores(runs[0].task, 100_000) if is_compared else []
    draw_learning_curve(runs, published, FIGURES / f"{name}.png")


def row(*cells: object) -> str:
    """A line of a Markdown table."""
    return "| " + " | ".join(map(str, cells)) + " |"


def header(*cells: str) -> Iterator[str]:
    """Head of a Markdown table."""
    yield row(*cells)
    yield row(*("---" for _ in cells))


def score_table(groups: dict[str, list[Curve]], *, is_timed: bool) -> Iterator[str]:
    """Last evaluation of each seed, its mean over seeds, training time, and published figures.

    Runs beside others have no times that say anything.
    """
    yield from header("task", "run", "frames", "each seed", "mean", *is_timed * ["minutes"], *COMPARED)
    for label, runs in groups.items():
        published = {score.method: score.return_mean for score in published_scores(runs[0].task, 100_000)}
        yield row(
            runs[0].task,
            label,
            " ".join(sorted({f"{run.last_frames:,}" for run in runs})),
            ", ".join(f"{run.trace.returns[-1]:.0f}" for run in runs),
            f"**{statistics.fmean(run.trace.returns[-1] for run in runs):.0f}**",
            *is_timed * [", ".join(f"{run.trace.seconds[-1] / 60:.1f}" for run in runs)],
            *(f"{published[method]:.0f}" if method in published else "" for method in COMPARED),
        )


def course_table(groups: dict[str, list[Curve]], every: int) -> Iterator[str]:
    """Mean return over seeds at multiples of `every` frames that all seeds were evaluated at."""
    returns = {
        label: {
            frames: [value for run in runs for value in run.trace.returns[run.trace.frames == frames]]
            for frames in range(every, runs[0].last_frames + 1, every)
        }
        for label, runs in groups.items()
    }
    columns = sorted({frames for courses in returns.values() for frames in courses})
    yield from header("", "seeds", *(f"{frames // 1000}k" for frames in columns))
    for label, courses in returns.items():
        seeds = len(groups[label])
        means = [
            f"{statistics.fmean(courses[frames]):.0f}" if len(courses.get(frames, ())) == seeds else ""
            for frames in columns
        ]
        yield row(label, seeds, *means)


def control_table(path: Path) -> Iterator[str]:
    """Planner and policy of the same checkpoints: mean over runs, and what a decision costs."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    yield from header("frames", "control", "each seed", "mean", "ms a decision")
    for frames, control in dict.fromkeys((line["frames"], line["control"]) for line in rows):
        found = [line for line in rows if (line["frames"], line["control"]) == (frames, control)]
        returns = [float(line["return_mean"]) for line in found]
        cost = statistics.median(float(line["ms_a_decision"]) for line in found)
        each = ", ".join(f"{value:.0f}" for value in returns)
        yield row(f"{int(frames):,}", control, each, f"{statistics.fmean(returns):.0f}", f"{cost:.1f}")


def main() -> None:
    """Draw what there is, print what there is."""
    own, original = runs_of("cartpole"), runs_of("original")
    if not any(runs_of(suite) for suite in ("cartpole", "original", "tasks", "terminations", "objectives")):
        raise SystemExit(f"no results under {RESULTS} yet: run `python benchmarks/suite.py cartpole` first")
    if looks := own | original:
        drawn = [replace(run, variant=LOOKS[label]) for label, runs in looks.items() for run in runs]
        draw("cartpole-swingup", drawn)
    for cartpole, is_timed in ((own, True), (original, False)):
        if cartpole:
            print(*score_table(cartpole, is_timed=is_timed), sep="\n", end="\n\n")
    if tasks := runs_of("tasks") | runs_of("terminations"):
        for name, runs in tasks.items():
            draw(name, runs)
        print(*score_table(tasks, is_timed=False), sep="\n", end="\n\n")
    if objectives := runs_of("objectives"):
        objectives |= {"contrastive": [until(run, 60_000, "contrastive") for run in own.get("cpu", [])]}
        drawn = [run for runs in objectives.values() for run in runs]
        draw("objectives", drawn, is_compared=False)
        print(*course_table(objectives, 10_000), sep="\n", end="\n\n")
    if (RESULTS / "control.csv").exists():
        print(*control_table(RESULTS / "control.csv"), sep="\n")


if __name__ == "__main__":
    main()
