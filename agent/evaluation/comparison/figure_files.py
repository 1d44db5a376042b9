"""The pictures of a comparison, drawn into files, and what they show in words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.evaluation.comparison import curve_plots, score_plots
from agent.evaluation.comparison.as_text import place, score
from agent.evaluation.comparison.study import Findings, Study
from agent.evaluation.figure_style import looks_of


@dataclass(frozen=True)
class Chart:
    """A picture of a study.

    Attributes:
        path: PNG and SVG, without suffix.
        kind: `curves`, `time`, `bars`, `profile`, `improvement` or `visits`.
        scope: name of the scope that it shows.
        description: what it shows, in words.
    """

    path: Path
    kind: str
    scope: str
    description: str


def draw_charts(
    study: Study, directory: Path, progress: Callable[[Sequence[Findings]], Iterable[Findings]] = iter
) -> list[Chart]:
    """Draw all pictures.

    Args:
        study: what to draw.
        directory: where they go; made where it does not exist.
        progress: goes through the scopes and shows how far it is.
    """
    names = file_names([found.scope.name for found in study.findings])
    drawn = []
    for found in progress(study.findings):
        base = directory / names[found.scope.name]
        drawn += _draw_curves(study, found, base)
        if found in study.main:
            drawn += _draw_numbers(study, found, base)
    return drawn


def file_names(scopes: Sequence[str]) -> dict[str, str]:
    """A file's name for each scope, whatever the scope is called."""
    names: dict[str, str] = {}
    for scope in scopes:
        stem = re.sub(r"[^A-Za-z0-9_]+", "-", scope).strip("-")[:60] or "task"
        taken = sum(name == stem or name.startswith(f"{stem}.") for name in names.values())
        names[scope] = f"{stem}.{taken + 1}" if taken else stem
    return names


def _draw_curves(study: Study, found: Findings, base: Path) -> list[Chart]:
    looks, axis, scope = looks_of(study.run_set.variants), study.question.axis, found.scope
    drawn = []
    if any(band.runs.any() for band in found.bands.values()):
        path = base.with_name(f"{base.name}-{axis}")
        curve_plots.draw_curves(path, found.drawn, found.bands, axis, looks, found.published)
        drawn.append(Chart(path, "curves", scope.name, _curve_text(study, found)))
    if any(band.runs.any() for band in found.timed.values()):
        path = base.with_name(f"{base.name}-seconds")
        curve_plots.draw_curves(path, found.drawn, found.timed, "seconds", looks)
        text = f"Curves of {scope.title} over training time."
        drawn.append(Chart(path, "time", scope.name, text))
    return drawn


def _curve_text(study: Study, found: Findings) -> str:
    """Curves in words: what each variant has come to at the last place."""
    start = f"Curves of {found.scope.title} over {study.question.axis}."
    if not found.cards:
        return start
    at, cards = max(found.cards.items())
    parts = [f"{card.variant} {score(card.numbers['mean'].value, found)}" for card in cards]
    return f"{start} Mean at {place(at, study)}: {', '.join(parts)}."


def _draw_numbers(study: Study, found: Findings, base: Path) -> list[Chart]:
    looks, axis, scope = looks_of(study.run_set.variants), study.question.axis, found.scope
    drawn = []
    for at, cards in found.cards.items():
        path = base.with_name(f"{base.name}-bars-{at:.0f}")
        published = _published_at(found, at)
        score_plots.draw_bars(path, scope, at, axis, cards, published, looks)
        text = f"Mean at {place(at, study)} of {scope.title}: " + ", ".join(
            [f"{card.variant} {score(card.numbers['mean'].value, found)}" for card in cards]
            + [f"{method} {score(value, found)}" for method, value in published.items()]
        )
        drawn.append(Chart(path, "bars", scope.name, text))
        if pairs := found.comparisons[at]:
            path = base.with_name(f"{base.name}-improvement-{at:.0f}")
            score_plots.draw_improvement(path, scope, at, axis, pairs)
            text = f"Probability of improvement at {place(at, study)}: " + ", ".join(
                f"{pair.first} over {pair.second} {pair.improvement.value:.2f}" for pair in pairs
            )
            drawn.append(Chart(path, "improvement", scope.name, text))
    if found.profiles:
        path, at = base.with_name(f"{base.name}-profile"), max(found.cards)
        score_plots.draw_profiles(path, scope, at, axis, found.profiles, looks)
        text = f"Share of the runs of {scope.title} above each score, at {place(at, study)}."
        drawn.append(Chart(path, "profile", scope.name, text))
    return drawn


def _published_at(found: Findings, at: float) -> dict[str, float]:
    """Published figures of a scope at these frames, lowest first."""
    figures = [figure for figure in found.published if figure.frames == at]
    methods = [figure.method for figure in figures]
    means = {
        figure.method
        if methods.count(figure.method) == 1
        else f"{figure.method}, {figure.benchmark}": figure.return_mean
        for figure in figures
    }
    return dict(sorted(means.items(), key=lambda item: (item[1], item[0])))
