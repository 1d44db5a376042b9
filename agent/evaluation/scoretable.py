"""Numbers of a comparison as text."""

from __future__ import annotations

import math
from collections.abc import Iterator

from agent.evaluation.canvas import short_time
from agent.evaluation.charts import title_of
from agent.evaluation.scorecards import Estimate, Scorecard
from agent.evaluation.study import Findings, Study
from agent.evaluation.tables import aligned

_COLUMNS = ("scope", "variant", "runs", "IQM", "95%", "mean", "95%", "area", "worst", "failed")


def score_tables(study: Study) -> str:
    """A table for each place of the axis: a line each scope and variant."""
    tables = []
    for at in study.question.at or ():
        rows = [_cells(found, card) for found in study.findings for card in found.cards.get(at, ())]
        if rows:
            tables.append(f"at {place(at, study)}\n{aligned([_COLUMNS, *rows], left=2)}")
        else:
            tables.append(f"at {place(at, study)}: no run goes so far")
    return "\n\n".join(tables)


def coverage_lines(study: Study) -> Iterator[str]:
    """A line each run that is not complete."""
    for row in study.coverage:
        for cell in row.cells:
            if cell.status not in ("complete", ""):
                where = f"{row.task}, {row.variant}, seed {cell.seed}"
                last = "" if cell.last_frames is None else f" at {cell.last_frames:,}"
                target = f" of {cell.target_frames:,} frames" if cell.status == "short" else ""
                yield f"{where}: {cell.status}{last}{target}"


def _cells(found: Findings, card: Scorecard) -> tuple[str, ...]:
    count = len(card.seeds)
    return (
        title_of(found.scope),
        card.variant,
        str(count) if count == card.runs else f"{count} of {card.runs}",
        score(card.numbers["iqm"].value, found),
        interval(card.numbers["iqm"], found),
        score(card.numbers["mean"].value, found),
        interval(card.numbers["mean"], found),
        score(card.area.value, found) if card.area else "–",
        score(card.worst_seed, found),
        "–" if card.failure_rate is None else f"{100 * card.failure_rate:.0f}%",
    )


def score(value: float, found: Findings) -> str:
    """A score as text: a return without decimals, a normalised one with three."""
    if math.isnan(value):
        return "–"
    return f"{value:.3f}" if found.scope.is_aggregate else f"{value:.0f}"


def interval(estimate: Estimate, found: Findings) -> str:
    """The ends of an interval; nothing where there is none."""
    if math.isnan(estimate.low):
        return ""
    return f"[{score(estimate.low, found)}, {score(estimate.high, found)}]"


def place(at: float, study: Study) -> str:
    """A place of the axis as text."""
    if study.question.axis == "seconds":
        return short_time(at)
    return f"{at:,.0f} {study.question.axis}"
