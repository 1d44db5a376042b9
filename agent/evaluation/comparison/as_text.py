"""Numbers of a comparison as text."""

from __future__ import annotations

import math

from agent.evaluation.comparison.completeness import Cell
from agent.evaluation.comparison.scores import Comparison, Estimate, Reached, Scorecard
from agent.evaluation.comparison.study import Findings, Study
from agent.evaluation.figure_style import short_count, short_time, shortened
from agent.evaluation.text_tables import ruled

NOTHING = "\N{EN DASH}"
_COLUMNS = ("scope", "variant", "runs", "IQM", "95%", "mean", "95%", "area", "worst", "failed")
_OVER_TASKS = ("variant", "median", "95%", "optimality gap", "95%")
_PAIRS = ("first", "second", "P", "95%", "difference", "95%", "pairs")
_NAME = 25  # letters of a name where two stand side by side
_THRESHOLDS = 3  # in a table


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


def comparison_tables(study: Study) -> str:
    """Numbers over tasks, comparisons of pairs, what returns took; empty where there is nothing of these."""
    tables = []
    for found in study.main:
        for at, cards in found.cards.items():
            where = f"{found.scope.title} at {place(at, study)}"
            if found.scope.is_aggregate:
                rows = [_over_tasks(found, card) for card in cards]
                tables.append(f"{where}: over tasks\n{ruled([_OVER_TASKS, *rows], left=1)}")
            if pairs := found.comparisons[at]:
                what = "P, first beats second; differences, of shared seeds"
                rows = [_pair(found, pair) for pair in pairs]
                tables.append(f"{where}: {what}\n{ruled([_PAIRS, *rows], left=2)}")
    return "\n\n".join([*tables, *_threshold_tables(study)])


def _over_tasks(found: Findings, card: Scorecard) -> tuple[str, ...]:
    middle, gap = card.numbers["median"], card.numbers["optimality_gap"]
    return (
        _clipped(card.variant),
        score(middle.value, found),
        interval(middle, found),
        score(gap.value, found),
        interval(gap, found),
    )


def _pair(found: Findings, pair: Comparison) -> tuple[str, ...]:
    chance, difference = pair.improvement, pair.difference
    ends = "" if math.isnan(chance.low) else f"[{chance.low:.2f}, {chance.high:.2f}]"
    if difference is None:
        compared = (NOTHING, "", NOTHING)
    else:
        compared = (
            score(difference.mean, found),
            interval(Estimate(difference.mean, difference.low, difference.high), found),
            str(difference.pairs),
        )
    return _clipped(pair.first), _clipped(pair.second), f"{chance.value:.2f}", ends, *compared


def _threshold_tables(study: Study) -> list[str]:
    """What each task and variant needed for each return, a few returns a table."""
    found = {
        (each.scope.name, reached.variant, reached.threshold): _reached(study, reached)
        for each in study.findings
        for reached in each.reached
    }
    returns = sorted({threshold for _, _, threshold in found})
    pools = list(dict.fromkeys((task, variant) for task, variant, _ in found))
    title = f"{study.question.axis} to a return, median (runs that ended without it)"
    tables = []
    for start in range(0, len(returns), _THRESHOLDS):
        shown = returns[start : start + _THRESHOLDS]
        header = ("task", "variant", *(f"{each:g}" for each in shown))
        rows = [
            (
                _clipped(task),
                _clipped(variant),
                *(found.get((task, variant, each), NOTHING) for each in shown),
            )
            for task, variant in pools
        ]
        tables.append(f"{title}\n{ruled([header, *rows], left=2)}")
    return tables


def _reached(study: Study, reached: Reached) -> str:
    short = short_time if study.question.axis == "seconds" else short_count
    median = "not" if math.isinf(reached.median) else short(reached.median)
    return f"{median} ({reached.censored} of {reached.runs})" if reached.censored else median


def _clipped(name: str) -> str:
    name = shortened(name)
    return name if len(name) <= _NAME else f"{name[: _NAME - 1]}\N{HORIZONTAL ELLIPSIS}"


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
