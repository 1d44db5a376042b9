"""Pictures and tables of the README, from the raw results that are committed.

    python benchmarks/figures.py

Draws `docs/figures/NAME.png` and prints the tables as Markdown. Suites without results yet are left out.
"""

from __future__ import annotations

import csv
import statistics
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from agent.evaluation.curves import draw_learning_curve
from agent.evaluation.published import published_scores
from agent.evaluation.runs import RunCurve, read_run

RESULTS = Path(__file__).parent / "results"
FIGURES = Path(__file__).parent.parent / "docs" / "figures"
COMPARED = ("CURL", "DrQ")
LOOKS = {"cpu": "fast look, 64 px", "cpu-84": "original look, 84 px"}


def runs_of(suite: str) -> dict[str, list[RunCurve]]:
    """Runs with evaluations of each entry of a suite, ordered by seed."""
    runs: dict[str, list[RunCurve]] = defaultdict(list)
    for path in sorted((RESULTS / suite).glob("*/seed-*")):
        run = read_run(path, label=path.parent.name)
        if run.evaluations:
            runs[run.label].append(run)
    return dict(runs)


def until(run: RunCurve, frames: int, label: str) -> RunCurve:
    """A run as it stood at some frames, under another label."""
    kept = tuple(evaluation for evaluation in run.evaluations if evaluation.frames <= frames)
    return replace(run, label=label, evaluations=kept)


def draw(name: str, runs: list[RunCurve], *, is_timed: bool, is_compared: bool = True) -> None:
    """One picture of runs of one task, beside what was published at 100k frames if it is to be compared."""
    published = published_scores(runs[0].task, 100_000) if is_compared else []
    draw_learning_curve(runs, published, FIGURES / f"{name}.png", is_timed=is_timed)


def row(*cells: object) -> str:
    """A line of a Markdown table."""
    return "| " + " | ".join(map(str, cells)) + " |"


def header(*cells: str) -> Iterator[str]:
    """Head of a Markdown table."""
    yield row(*cells)
    yield row(*("---" for _ in cells))


def score_table(groups: dict[str, list[RunCurve]], *, is_timed: bool) -> Iterator[str]:
    """Last evaluation of each seed, its mean over seeds, training time, and published figures.

    Runs beside others have no times that say anything.
    """
    yield from header("task", "run", "frames", "each seed", "mean", *is_timed * ["minutes"], *COMPARED)
    for label, runs in groups.items():
        last = [run.evaluations[-1] for run in runs]
        published = {score.method: score.return_mean for score in published_scores(runs[0].task, 100_000)}
        yield row(
            runs[0].task,
            label,
            " ".join(sorted({f"{evaluation.frames:,}" for evaluation in last})),
            ", ".join(f"{evaluation.return_mean:.0f}" for evaluation in last),
            f"**{statistics.fmean(evaluation.return_mean for evaluation in last):.0f}**",
            *is_timed * [", ".join(f"{evaluation.seconds / 60:.1f}" for evaluation in last)],
            *(f"{published[method]:.0f}" if method in published else "" for method in COMPARED),
        )


def course_table(groups: dict[str, list[RunCurve]], every: int) -> Iterator[str]:
    """Mean return over seeds at multiples of `every` frames that all seeds were evaluated at."""
    returns = {
        label: {
            frames: [evaluation.return_mean for run in runs for evaluation in run.evaluations
                     if evaluation.frames == frames]
            for frames in range(every, runs[0].evaluations[-1].frames + 1, every)
        }
        for label, runs in groups.items()
    }  # fmt: skip
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
        drawn = [replace(run, label=LOOKS[label]) for label, runs in looks.items() for run in runs]
        draw("cartpole-swingup", drawn, is_timed=True)
    for cartpole, is_timed in ((own, True), (original, False)):
        if cartpole:
            print(*score_table(cartpole, is_timed=is_timed), sep="\n", end="\n\n")
    if tasks := runs_of("tasks") | runs_of("terminations"):
        for name, runs in tasks.items():
            draw(name, runs, is_timed=False)
        print(*score_table(tasks, is_timed=False), sep="\n", end="\n\n")
    if objectives := runs_of("objectives"):
        objectives |= {"contrastive": [until(run, 60_000, "contrastive") for run in own.get("cpu", [])]}
        drawn = [run for runs in objectives.values() for run in runs]
        draw("objectives", drawn, is_timed=False, is_compared=False)
        print(*course_table(objectives, 10_000), sep="\n", end="\n\n")
    if (RESULTS / "control.csv").exists():
        print(*control_table(RESULTS / "control.csv"), sep="\n")


if __name__ == "__main__":
    main()
