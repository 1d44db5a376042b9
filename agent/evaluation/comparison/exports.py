"""A comparison as files for other programs: every drawn point as CSV, every number as JSON."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from agent.evaluation.comparison.curve_intervals import Band, seed_curves
from agent.evaluation.comparison.grid import Axis, places
from agent.evaluation.comparison.records import CONDITIONS, Curve
from agent.evaluation.comparison.scores import FAILURE, PROFILE_LEVELS
from agent.evaluation.comparison.study import Findings, Study

POINT_COLUMNS = ("scope", "variant", "seed", "axis", "at", "value", "low", "high", "runs")
CROSSING_COLUMNS = ("task", "variant", "threshold", "seed", "axis", "reached", "end")


def points_csv(study: Study) -> str:
    """What the curves are made of: rows with a seed are evaluations of runs, the others points of a variant.

    Values of the scope `aggregate` are the IQM of return over scale, of a seed over its tasks or of all runs,
    those of a task returns.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(POINT_COLUMNS)
    for found in study.findings:
        writer.writerows(_rows(found, study.question.axis))
    return file.getvalue()


def _rows(found: Findings, axis: Axis) -> Iterator[tuple[Any, ...]]:
    name = found.scope.name
    for variant, rows in found.scope.members.items():
        if found.scope.is_aggregate:
            continue
        for seed, (run,) in rows.items():
            for at, value in zip(places(run.trace, axis), run.trace.returns, strict=True):
                yield name, variant, seed, axis, _short(at), _short(value), "", "", ""
    drawn: tuple[tuple[Axis, dict[str, Band]], ...] = ((axis, found.bands), ("seconds", found.timed))
    for drawn_over, bands in drawn:
        for variant, band in bands.items():
            if found.scope.is_aggregate:
                yield from _seed_rows(found, variant, drawn_over, band)
            yield from _band_rows(name, variant, drawn_over, band)


def _seed_rows(found: Findings, variant: str, axis: Axis, band: Band) -> Iterator[tuple[Any, ...]]:
    """Thin lines of an aggregate."""
    curves = seed_curves(found.drawn, variant, band.grid, axis)
    for seed, values in zip(found.drawn.members[variant], curves, strict=True):
        for at, value in zip(band.grid, values, strict=True):
            if not math.isnan(value):
                yield found.scope.name, variant, seed, axis, _short(at), _short(value), "", "", ""


def _band_rows(name: str, variant: str, axis: str, band: Band) -> Iterator[tuple[Any, ...]]:
    for at, value, low, high, runs in zip(band.grid, band.value, band.low, band.high, band.runs, strict=True):
        if runs:
            yield name, variant, "", axis, *map(_short, (at, value, low, high)), int(runs)


def crossings_csv(study: Study) -> str:
    """What each run needed for each return: `reached` is empty where it ended, at `end`, without it."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(CROSSING_COLUMNS)
    for found in study.findings:
        for each in found.reached:
            for run in each.crossings:
                at = "" if math.isinf(run.at) else _short(run.at)
                row = (found.scope.name, each.variant, _short(each.threshold), run.seed, study.question.axis)
                writer.writerow((*row, at, _short(run.end)))
    return file.getvalue()


def _short(value: float) -> str:
    """A number as text; nothing where there is none."""
    return "" if math.isnan(value) else f"{value:.10g}"


def summary(study: Study, extras: Mapping[str, Any]) -> dict[str, Any]:
    """Everything the report shows, except the curves' points, as JSON values; null where there is no number.

    Args:
        study: the comparison.
        extras: what was read beside the curves, for instance shares of time, added as it is.
    """
    question = study.question
    return {
        "axis": question.axis,
        "at": list(question.at or ()),
        "smooth": question.smooth,
        "allow_mixed": question.allow_mixed,
        **dataclasses.asdict(question.estimation),
        "failure_below": FAILURE,
        "variants": list(study.run_set.variants),
        "tasks": study.run_set.tasks,
        "notes": [plain(note) for note in study.notes],
        "coverage": [plain(row) for row in study.completeness],
        "runs": [_run(curve) for curve in study.run_set.curves],
        "scopes": [_scope(found) for found in study.findings],
        **extras,
    }


def _run(curve: Curve) -> dict[str, Any]:
    return {
        "task": curve.task,
        "variant": curve.variant,
        "seed": curve.seed,
        "source": curve.source,
        "last_frames": curve.last_frames,
        "last_return": float(curve.trace.returns[-1]),
        "conditions": {
            name: sorted(curve.conditions[name]) for name in CONDITIONS if name in curve.conditions
        },
    }


def _scope(found: Findings) -> dict[str, Any]:
    scope = found.scope
    return {
        "name": scope.name,
        "tasks": list(scope.tasks),
        "scale": scope.scale,
        "seeds": {variant: list(rows) for variant, rows in scope.members.items()},
        "scores": [
            {"at": at, "variants": [plain(card) for card in cards]} for at, cards in found.cards.items()
        ],
        "reached": [plain(each) for each in found.reached],
        "comparisons": [
            {"at": at, "pairs": [plain(each) for each in pairs]} for at, pairs in found.comparisons.items()
        ],
        "profiles": {
            "at": max(found.cards, default=None),
            "levels": plain(PROFILE_LEVELS),
            "variants": [plain(each) for each in found.profiles],
        },
        "published": [plain(each) for each in found.published],
    }


def plain(value: Any) -> Any:
    """Records and arrays as JSON values; null where a number is not finite."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, float):  # NumPy's float64, too
        return float(value) if math.isfinite(value) else None
    return value
