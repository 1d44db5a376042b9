"""All objectives side by side, from the raw results that are committed: a picture, and a table as Markdown.

    python benchmarks/paradigms.py

Returns are those at the stated frames; runs that have not got there are left out. Retrieval (how often what
is imagined three decisions ahead finds its own key among 64) and spread (RankMe of the keys) are means over
the 10,000 frames before. Retrieval looks where the objective does: at projections, or else at latents.
"""

from __future__ import annotations

import csv
import json
import math
import statistics
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from figures import FIGURES, RESULTS, header, read, row, until
from suite import runs_of

from agent.evaluation.comparison.learning_curve import mean_curves
from agent.evaluation.comparison.records import Curve
from agent.evaluation.comparison.sources import Input
from agent.evaluation.figure_style import COLOURS, FAINT, GREY, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FRAMES, SEEDS, COLUMNS = 50_000, (1, 2), 5
REFERENCE = "contrastive"
Groups = dict[str, list[Curve]]


def places() -> dict[str, Path]:
    """Where the runs of each objective are; the default one's are those of the suite `cartpole`."""
    names = [(suite, name) for suite in ("objectives", "paradigms") for name, _, _ in runs_of(suite)]
    return {REFERENCE: RESULTS / "cartpole" / "cpu"} | {name: RESULTS / suite / name for suite, name in names}


def all_runs() -> Groups:
    """Runs of each objective until `FRAMES`, the reference first."""
    groups: Groups = {}
    for name, place in places().items():
        found = [place / f"seed-{seed}" for seed in SEEDS]
        inputs = [Input(path, name) for path in found if (path / "eval.csv").exists()]
        runs = [until(run, FRAMES, name) for run in read(inputs).get(name, ())]
        arrived = [run for run in runs if FRAMES in run.trace.frames]
        if arrived:
            groups[name] = arrived
    return groups


def metric(run: Curve, name: str) -> float:
    """Mean of a metric over the last 10,000 frames before `FRAMES`; NaN where it was not logged."""
    path = places()[run.variant] / f"seed-{run.seed}" / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    late = [line for line in lines if FRAMES - 10_000 < line["frames"] <= FRAMES]
    return statistics.fmean(line.get(name, math.nan) for line in late)


def final(runs: list[Curve]) -> float:
    """Mean return at `FRAMES`."""
    return statistics.fmean(run.trace.returns[-1] for run in runs)


def by_return(groups: Groups) -> list[str]:
    """Names, the best first."""
    return sorted(groups, key=lambda name: -final(groups[name]))


def table(groups: Groups, floor: float) -> Iterator[str]:
    """Objectives by return, with what tells them apart."""
    path = RESULTS / "update_times.json"
    times = json.loads(path.read_text()) if path.exists() else {}
    yield from header("objective", "each seed", "mean", "retrieval", "spread", "ms an update")
    for name in by_return(groups):
        runs = groups[name]
        retrieval, spread = (
            statistics.fmean(metric(run, f"train/{key}") for run in runs)
            for key in ("retrieval_3", "rank_me")
        )
        yield row(
            name,
            ", ".join(f"{run.trace.returns[-1]:.0f}" for run in runs),
            f"**{final(runs):.0f}**",
            "not logged" if math.isnan(retrieval) else f"{retrieval:.2f}",
            f"{spread:.0f}",
            f"{times[name]['update_ms']:.0f}" if name in times else "",
        )
    yield row("*random actions*", "", f"{floor:.0f}", "", "", "")


def draw(groups: Groups, floor: float) -> None:
    """A panel for each objective; the mean of the reference, and random actions, in all of them."""
    lines = -(-len(groups) // COLUMNS)
    with new_figure(FIGURES / "paradigms.png", 2.3 * COLUMNS, 2.3 * lines) as figure:
        panels = figure.subplots(lines, COLUMNS, sharex=True, sharey=True, squeeze=False)
        for axes, name in zip_longest(panels.flat, by_return(groups)):
            if name is None:
                axes.axis("off")
            else:
                _panel(axes, name, groups, floor)
        for axes in panels[-1]:
            axes.set_xlabel("frames")
        figure.tight_layout()


def _panel(axes: Axes, name: str, groups: Groups, floor: float) -> None:
    axes.axhline(floor, color=GREY, linewidth=1, linestyle=":")
    if REFERENCE in groups:
        _, bands = mean_curves(groups[REFERENCE])
        axes.plot(bands[REFERENCE].grid, bands[REFERENCE].value, color=GREY, linewidth=1.4)
    for run in groups[name]:
        axes.plot(run.trace.frames, run.trace.returns, color=COLOURS[0], linewidth=1.8)
    axes.set_title(f"{name} {final(groups[name]):.0f}", fontsize=11, loc="left")
    axes.set_xlim(0, FRAMES)
    axes.set_ylim(0, 900)
    axes.xaxis.set_major_formatter(lambda frames, _: f"{frames / 1000:.0f}k")
    axes.grid(color=FAINT)
    axes.tick_params(length=0)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Draw and print what there is."""
    groups = all_runs()
    with (RESULTS / "random.csv").open(newline="") as file:
        floor = next(
            float(line["return_mean"])
            for line in csv.DictReader(file)
            if line["task"] == "dmc/cartpole-swingup"
        )
    if not groups:
        raise SystemExit(f"no results under {RESULTS} yet: run `python benchmarks/suite.py paradigms` first")
    draw(groups, floor)
    print(*table(groups, floor), sep="\n")


if __name__ == "__main__":
    main()
