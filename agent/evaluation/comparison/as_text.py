"""Numbers of a comparison as text."""

from __future__ import annotations

import math

from agent.evaluation.comparison.completeness import Cell
from agent.evaluation.comparison.scores import Estimate, Scorecard
from agent.evaluation.comparison.study import Findings, Study
from agent.evaluation.figure_style import short_count, short_time, shortened
from agent.evaluation.text_tables import ruled

NOTHING = "\N{EN DASH}"
_COLUMNS = ("scope", "variant", "runs", "IQM", "95%", "mean", "95%", "area", "worst", "failed")


def score_tables(study: Study) -> str:
    """A table for each place of the axis: a line each scope and variant."""
    tables = []
    for at in study.question.at or ():
        rows = [_cells(found, card) for found in study.findings for card in found.cards.get(at, ())]
        if rows:
            tables.append(f"at {place(at, study)}\n{ruled([_COLUMNS, *rows], left=2)}")
        else:
            tables.append(f"at {place(at, study)}: no run goes so far")
    return "\n\n".join(tables)


def completeness_table(study: Study) -> str:
    """Frames of each run's last evaluation, by task, variant and seed."""
    seeds = [f"seed {cell.seed}" for cell in study.completeness[0].cells]
    rows = [
        (row.task, shortened(row.variant), *(_cell_text(cell) for cell in row.cells))
        for row in study.completeness
    ]
    return ruled([("task", "variant", *seeds), *rows], left=2)


def _cell_text(cell: Cell) -> str:
    if cell.last_frames is None:
        return {"unplanned": "no run"}.get(cell.status, cell.status)
    last = short_count(cell.last_frames)
    return last if cell.status == "complete" else f"{last} {cell.status}"


def _cells(found: Findings, card: Scorecard) -> tuple[str, ...]:
    count = len(card.seeds)
    return (
        found.scope.title,
        shortened(card.variant),
        str(count) if count == card.runs else f"{count} of {card.runs}",
        score(card.numbers["iqm"].value, found),
        interval(card.numbers["iqm"], found),
        score(card.numbers["mean"].value, found),
        interval(card.numbers["mean"], found),
        score(card.area.value, found) if card.area else NOTHING,
        score(card.worst_seed, found),
        NOTHING if card.failure_rate is None else f"{100 * card.failure_rate:.0f}%",
    )


def score(value: float, found: Findings) -> str:
    """A score as text: a return without decimals, a normalised one with three."""
    if math.isnan(value):
        return NOTHING
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
