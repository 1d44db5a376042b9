"""A comparison of runs, worked out: what there is, its curves, its numbers, and what speaks against them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from agent.evaluation.comparison.aggregation import Scope, make_scopes, scale_of
from agent.evaluation.comparison.completeness import CompletenessRow, completeness_matrix
from agent.evaluation.comparison.curve_intervals import FEW_SEEDS, Band, Estimation, last_place, make_band
from agent.evaluation.comparison.grid import Array, Axis, make_grid, places, smoothed
from agent.evaluation.comparison.pooling import refuse_mixed
from agent.evaluation.comparison.published_means import means_over_tasks
from agent.evaluation.comparison.reading import RunSet
from agent.evaluation.comparison.records import Note
from agent.evaluation.comparison.scores import (
    Comparison,
    Profile,
    Reached,
    Scorecard,
    compare,
    profiles,
    reached,
    scorecard,
)
from agent.evaluation.published import PublishedScore, published_scores

CUSTOMARY_FRAMES = (100_000, 250_000, 500_000, 1_000_000)
CUSTOMARY_THRESHOLDS = (0.5, 0.8)  # of the scale of a suite


_USUAL = Estimation()


@dataclass(frozen=True)
class Question:
    """What is asked of the runs.

    Attributes:
        axis: what curves are drawn over.
        at: places on it at which numbers are taken; None: customary ones that half of the runs reach.
        thresholds: returns whose first time is looked for; None: customary shares of a suite's scale.
        smooth: evaluations that each point of a drawn curve is the mean of; 1 draws them as they are.
        allow_mixed: pool runs of different conditions.
        methods: published methods or benchmarks that are shown; None: all.
        estimation: how intervals are made.
    """

    axis: Axis = "frames"
    at: tuple[float, ...] | None = None
    thresholds: tuple[float, ...] | None = None
    smooth: int = 1
    allow_mixed: bool = False
    methods: tuple[str, ...] | None = None
    estimation: Estimation = _USUAL


@dataclass(frozen=True)
class Findings:
    """What a scope shows.

    Attributes:
        scope: its runs.
        drawn: the same, with curves as smooth as they are drawn.
        bands: curve of each variant on the axis that was asked for.
        timed: curve of each variant over training time; empty where that is the axis, or not known.
        cards: of each place, the variants whose runs go that far.
        reached: of a single task, what each variant needed for each threshold.
        comparisons: of each place.
        profiles: at the last place that any variant reaches.
        published: figures for its task; for an aggregate, means over its tasks on its scale.
    """

    scope: Scope
    drawn: Scope
    bands: dict[str, Band]
    timed: dict[str, Band]
    cards: dict[float, list[Scorecard]]
    reached: list[Reached]
    comparisons: dict[float, list[Comparison]]
    profiles: list[Profile]
    published: list[PublishedScore]


@dataclass(frozen=True)
class Study:
    """Everything that the report shows.

    Attributes:
        question: what was asked, with the places and thresholds that were chosen.
        run_set: the runs that are used.
        completeness: all that could be there.
        notes: what was left out, mended, or speaks against the numbers.
        findings: of the aggregate, if there is one, then of each task.
        grid: of the curves.
    """

    question: Question
    run_set: RunSet
    completeness: tuple[CompletenessRow, ...]
    notes: tuple[Note, ...]
    findings: tuple[Findings, ...]
    grid: Array

    @property
    def main(self) -> list[Findings]:
        """The aggregate alone; without one, every task."""
        aggregate = [each for each in self.findings if each.scope.is_aggregate]
        return aggregate or list(self.findings)


def make_study(
    run_set: RunSet,
    question: Question,
    progress: Callable[[Sequence[Scope]], Iterable[Scope]] = iter,
) -> Study | None:
    """Work out a comparison.

    Args:
        run_set: what was found.
        question: what is asked.
        progress: goes through the scopes and shows how far it is.

    Returns:
        The study; None where no run can be used, in which case nothing could be drawn.
    """
    used, refused = refuse_mixed(run_set, is_allowed=question.allow_mixed)
    completeness = completeness_matrix(run_set, refused)
    used = _on_axis(used, question.axis)
    if not used.curves:
        return None
    grid = make_grid([places(curve.trace, question.axis) for curve in used.curves], question.axis)
    scopes, notes = make_scopes(used)
    question = replace(question, at=question.at or default_places(used, scopes, question.axis))
    drawn, _ = make_scopes(_smooth(used, question.smooth))
    by_name = {scope.name: scope for scope in drawn}
    findings = [_find(scope, by_name[scope.name], grid, question) for scope in progress(scopes)]
    findings = [_with_means(each, findings) for each in findings]
    notes = [*used.notes, *notes, *_few_seeds(scopes), *_unreached(used, question)]
    notes += _unpublished(findings, question)
    return Study(question, used, completeness, tuple(notes), tuple(findings), grid)


def unusable(run_set: RunSet, question: Question) -> list[Note]:
    """Why none of the runs can be used."""
    used, _ = refuse_mixed(run_set, is_allowed=question.allow_mixed)
    return list(_on_axis(used, question.axis).notes)


def default_places(run_set: RunSet, scopes: Sequence[Scope], axis: Axis) -> tuple[float, ...]:
    """Customary frames that half of the runs or more reach, elsewhere the end that half of them reach.

    To these comes the furthest place that an aggregate reaches, if it reaches none of them.
    """
    ends = np.sort([places(curve.trace, axis)[-1] for curve in run_set.curves])
    by_half = float(ends[len(ends) // 2])
    chosen = {float(each) for each in CUSTOMARY_FRAMES if each <= by_half and axis == "frames"} or {by_half}
    for scope in scopes:
        common = [
            min(float(places(run.trace, axis)[-1]) for run in runs)
            for rows in scope.members.values()
            for runs in rows.values()
        ]
        if scope.is_aggregate and max(common) < min(chosen):
            chosen.add(max(common))
    return tuple(sorted(chosen))


def _on_axis(run_set: RunSet, axis: Axis) -> RunSet:
    """Runs that say where they are on an axis; the notes name the others."""
    kept, notes = [], list(run_set.notes)
    for curve in run_set.curves:
        try:
            places(curve.trace, axis)
            kept.append(curve)
        except ValueError as error:
            notes.append(Note(curve.source, f"{error}: left out"))
    return replace(run_set, curves=tuple(kept), notes=tuple(notes))


def _smooth(run_set: RunSet, window: int) -> RunSet:
    curves = (
        replace(curve, trace=replace(curve.trace, returns=smoothed(curve.trace.returns, window)))
        for curve in run_set.curves
    )
    return replace(run_set, curves=tuple(curves))


def _find(scope: Scope, drawn: Scope, grid: Array, question: Question) -> Findings:
    axis, estimation = question.axis, question.estimation
    cards = {}
    for at in question.at or ():
        found = [scorecard(scope, variant, at, grid, axis, estimation) for variant in scope.members]
        if any(found):
            cards[at] = [card for card in found if card]
    bands = {variant: make_band(drawn, variant, grid, axis, estimation) for variant in drawn.members}
    return Findings(
        scope=scope,
        drawn=drawn,
        bands=bands,
        timed={} if axis == "seconds" else _timed(drawn, estimation),
        cards=cards,
        reached=[
            reached(scope, variant, threshold, axis)
            for threshold in _thresholds(scope, question)
            for variant in scope.members
        ],
        comparisons={at: compare(scope, at, axis, estimation) for at in cards},
        profiles=profiles(scope, max(cards), axis, estimation) if cards else [],
        published=_published(scope, last_place(bands), question),
    )


def _timed(scope: Scope, estimation: Estimation) -> dict[str, Band]:
    """Curves over training time, of the variants whose runs all record it."""
    timed, xs = [], []
    for variant, rows in scope.members.items():
        try:
            xs += [places(run.trace, "seconds") for runs in rows.values() for run in runs]
            timed.append(variant)
        except ValueError:
            continue
    if not timed:
        return {}
    grid = make_grid(xs, "seconds")
    return {variant: make_band(scope, variant, grid, "seconds", estimation) for variant in timed}


def _thresholds(scope: Scope, question: Question) -> tuple[float, ...]:
    scale = scale_of(scope.tasks[0])
    if scope.is_aggregate:
        return ()
    if question.thresholds is not None:
        return question.thresholds
    return tuple(share * scale for share in CUSTOMARY_THRESHOLDS) if scale else ()


def _published(scope: Scope, last: float, question: Question) -> list[PublishedScore]:
    """Figures for a task that lie on the axis."""
    if scope.is_aggregate or question.axis != "frames":
        return []
    return [
        score
        for score in published_scores(scope.tasks[0], benchmark=None)
        if score.frames <= last
        and (question.methods is None or {score.method, score.benchmark} & set(question.methods))
    ]


def _with_means(found: Findings, findings: Sequence[Findings]) -> Findings:
    """An aggregate with what is published for all of its tasks; a task as it is."""
    if not found.scope.is_aggregate:
        return found
    figures = [figure for each in findings for figure in each.published]
    last = max([last_place(found.bands), *found.cards])
    return replace(found, published=means_over_tasks(found.scope, figures, last))


def _unpublished(findings: Sequence[Findings], question: Question) -> list[Note]:
    """Methods that were asked for and of which there is no figure on the axis."""
    scores = [score for found in findings for score in found.published]
    shown = {score.method for score in scores} | {score.benchmark for score in scores}
    missing = [method for method in question.methods or () if method not in shown]
    text = "no published figure of these tasks lies on the axis"
    return [Note(method, text, is_loss=False) for method in missing]


def _few_seeds(scopes: Sequence[Scope]) -> list[Note]:
    few = sorted(
        {variant for scope in scopes for variant, rows in scope.members.items() if len(rows) <= FEW_SEEDS}
    )
    if not few:
        return []
    text = (
        f"{FEW_SEEDS} seeds or fewer of {'; '.join(few)}: runs are drawn one by one without a band, and "
        "intervals of so few say little"
    )
    return [Note("few seeds", text, is_loss=False)]


def _unreached(run_set: RunSet, question: Question) -> list[Note]:
    """Places at which some runs have no score, because they ended before or began to be evaluated after."""
    notes = []
    total = len(run_set.curves)
    for at in question.at or ():
        found = [places(curve.trace, question.axis) for curve in run_set.curves]
        for count, what in (
            (sum(x[-1] < at for x in found), "end before"),
            (sum(x[0] > at for x in found), "are evaluated first after it"),
        ):
            if count:
                text = f"{count} of {total} runs {what}, and are in none of its numbers"
                notes.append(Note(f"{question.axis} {at:,.0f}", text, is_loss=False))
    return notes
