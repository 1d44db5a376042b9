"""All objectives side by side, from the raw results that are committed: a picture, and a table as Markdown.

    python benchmarks/paradigms.py

Returns are those at the stated frames. Retrieval (a latent imagined three decisions ahead finds its own key
among those of the batch) and spread (RankMe of the keys) are means over the 10,000 frames before.
"""

from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Iterator
from itertools import zip_longest
from typing import TYPE_CHECKING

from figures import FIGURES, RESULTS, header, row, runs_of, until

from agent.evaluation.curves import mean_curve
from agent.evaluation.runs import RunCurve
from agent.evaluation.style import COLOURS, FAINT, GREY, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FRAMES, SEEDS, COLUMNS = 50_000, (1, 2), 5
REFERENCE = "contrastive"


def all_runs() -> dict[str, list[RunCurve]]:
    """Runs of each objective until `FRAMES`, the reference first."""
    groups = {REFERENCE: runs_of("cartpole").get("cpu", [])} | runs_of("objectives") | runs_of("paradigms")
    kept = {
        name: [until(run, FRAMES, name) for run in runs if run.seed in SEEDS] for name, runs in groups.items()
    }
    return {name: runs for name, runs in kept.items() if runs}


def metric(run: RunCurve, name: str) -> float | None:
    """Mean of a metric over the last 10,000 frames before `FRAMES`."""
    suite, label = ("cartpole", "cpu") if run.label == REFERENCE else ("*", run.label)
    (path,) = RESULTS.glob(f"{suite}/{label}/seed-{run.seed}/metrics.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    values = [line[name] for line in lines if name in line and FRAMES - 10_000 < line["frames"] <= FRAMES]
    return statistics.fmean(values) if values else None


def table(groups: dict[str, list[RunCurve]]) -> Iterator[str]:
    """Objectives by return, with what tells them apart."""
    times = json.loads((RESULTS / "update_times.json").read_text())
    yield from header("objective", "each seed", "mean", "retrieval", "spread", "ms an update")
    ordered = sorted(groups.items(), key=lambda item: -final(item[1]))
    for name, runs in ordered:
        measured = [[metric(run, f"train/{key}") for run in runs] for key in ("retrieval_3", "rank_me")]
        retrieval, spread = ([value for value in values if value is not None] for values in measured)
        yield row(
            name,
            ", ".join(f"{run.evaluations[-1].return_mean:.0f}" for run in runs),
            f"**{final(runs):.0f}**",
            f"{statistics.fmean(retrieval):.2f}" if retrieval else "",
            f"{statistics.fmean(spread):.0f}" if spread else "",
            f"{times[name]['update_ms']:.0f}" if name in times else "",
        )


def final(runs: list[RunCurve]) -> float:
    """Mean of the last evaluations."""
    return statistics.fmean(run.evaluations[-1].return_mean for run in runs)


def draw(groups: dict[str, list[RunCurve]], floor: float) -> None:
    """A panel for each objective; the mean of the reference, and random actions, in all of them."""
    ordered = sorted(groups, key=lambda name: -final(groups[name]))
    lines = -(-len(ordered) // COLUMNS)
    with new_figure(FIGURES / "paradigms.png", 2.3 * COLUMNS, 2.3 * lines) as figure:
        panels = figure.subplots(lines, COLUMNS, sharex=True, sharey=True, squeeze=False)
        for axes, name in zip_longest(panels.flat, ordered):
            if name is None:
                axes.axis("off")
                continue
            _panel(axes, name, groups, floor)
        for axes in panels[-1]:
            axes.set_xlabel("frames")
        figure.tight_layout()


def _panel(axes: Axes, name: str, groups: dict[str, list[RunCurve]], floor: float) -> None:
    axes.axhline(floor, color=GREY, linewidth=1, linestyle=":")
    axes.plot(*mean_curve(groups[REFERENCE]), color=GREY, linewidth=1.4)
    for run in groups[name]:
        frames, returns = zip(*((each.frames, each.return_mean) for each in run.evaluations), strict=True)
        axes.plot(frames, returns, color=COLOURS[0], linewidth=1.8)
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
            float(line["return_mean"]) for line in csv.DictReader(file) if "cartpole" in line["task"]
        )
    draw(groups, floor)
    print(*table(groups), sep="\n")


if __name__ == "__main__":
    main()
