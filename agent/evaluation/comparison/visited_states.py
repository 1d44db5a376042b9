"""What the runs of a comparison visited, where they recorded physics states: numbers, maps and growth."""

from __future__ import annotations

import csv
import io
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.evaluation.comparison.figure_files import Chart, file_names
from agent.evaluation.comparison.records import Curve, Note
from agent.evaluation.comparison.run_media import Picture, small_png
from agent.evaluation.comparison.study import Study
from agent.evaluation.figure_style import looks_of
from configs.load import ConfigError

if TYPE_CHECKING:
    from agent.evaluation.visits.state_coverage import Survey
    from envs.episodes import EpisodeStore

MOST_MAPS = 12  # heat maps of a task
_MAPS_BYTES = 1_000_000  # of the page, for the maps of all tasks


@dataclass(frozen=True)
class Visitor:
    """A run that recorded physics states, and what it visited."""

    run: Curve
    survey: Survey


@dataclass(frozen=True)
class VisitRow:
    """The runs of a task and variant, each at its own end.

    Attributes:
        task: their task.
        variant: their variant.
        seeds: of the runs.
        frames: environment frames of each.
        cells: visited cells of each.
        entropies: of each, in nats.
        possible_cells: cells that there are.
    """

    task: str
    variant: str
    seeds: tuple[int, ...]
    frames: tuple[int, ...]
    cells: tuple[int, ...]
    entropies: tuple[float, ...]
    possible_cells: int

    @property
    def mean_cells(self) -> float:
        """Over the runs."""
        return math.fsum(self.cells) / len(self.cells)

    @property
    def mean_entropy(self) -> float:
        """Over the runs."""
        return math.fsum(self.entropies) / len(self.entropies)


@dataclass(frozen=True)
class Exploration:
    """What the runs visited; empty where none has episodes with physics states.

    Attributes:
        visitors: runs, by task, variant and seed.
        rows: by task and variant.
        charts: growth of the visited cells, by task.
        maps: heat maps side by side, by task, small enough for the page.
        notes: what could not be read or shown.
    """

    visitors: tuple[Visitor, ...] = ()
    rows: tuple[VisitRow, ...] = ()
    charts: tuple[Chart, ...] = ()
    maps: tuple[Picture, ...] = ()
    notes: tuple[Note, ...] = ()


def explore(
    study: Study,
    directory: Path,
    progress: Callable[[Sequence[Curve]], Iterable[Curve]] = iter,
    variables: Sequence[str] | None = None,
) -> Exploration:
    """Read the episodes of a study's runs, and draw what they visited.

    Args:
        study: whose runs are meant.
        directory: where the pictures go; made where there is one.
        progress: goes through the runs and shows how far it is.
        variables: names of the two of the heat maps; None, and for tasks without them: the task's first two.

    Raises:
        ConfigError: no task has these variables, or one is named twice.
    """
    found, notes = _visitors(study, progress, variables)
    tasks: dict[str, list[Visitor]] = defaultdict(list)
    for visitor in found:
        tasks[visitor.run.task].append(visitor)
    charts, maps, room = [], [], _MAPS_BYTES
    names = file_names(list(tasks))
    for task, visitors in tasks.items():
        charts.append(_draw_growth(study, task, visitors, directory / f"{names[task]}-visits-growth"))
        picture = _draw_maps(visitors, directory / f"{names[task]}-visits.png")
        if len(picture.content) > room:
            text = f"left out to keep the page small: it is in {directory.name}/{names[task]}-visits.png"
            notes.append(Note(f"map of visits, {task}", text, is_loss=False))
            continue
        room -= len(picture.content)
        maps.append(picture)
    return Exploration(tuple(found), _rows(study, found), tuple(charts), tuple(maps), tuple(notes))


def _visitors(
    study: Study,
    progress: Callable[[Sequence[Curve]], Iterable[Curve]],
    variables: Sequence[str] | None,
) -> tuple[list[Visitor], list[Note]]:
    """Runs with physics states, and what is wrong with their episodes."""
    runs = [run for run in study.run_set.curves if run.directory and _store_of(run).is_file()]
    if not runs:
        return [], []
    from envs.episodes import EpisodeError, EpisodeStore  # which imports torch

    visitors, notes, lacking = [], [], dict[str, str]()
    for run in progress(runs):
        problems: Iterable[str] = ()
        try:
            store = EpisodeStore(_store_of(run).parent)
            found = _survey(run, store, variables, lacking) if len(store) else None
        except (EpisodeError, OSError) as error:
            found, problems = None, [f"{error}; its visits are left out"]
        if found:
            problems = found.problems
            visitors.append(Visitor(run, found))
        notes += [Note(run.source, " ".join(problem.split()), is_loss=False) for problem in problems]
    if lacking and lacking.keys() == {each.run.task for each in visitors}:
        raise ConfigError("--variables: " + "; ".join(f"{task}: {why}" for task, why in lacking.items()))
    notes += [
        Note(f"map of visits, {task}", f"--variables: {why}; its first two are shown", is_loss=False)
        for task, why in lacking.items()
    ]
    order = {variant: place for place, variant in enumerate(study.run_set.variants)}
    visitors.sort(key=lambda each: (each.run.task, order[each.run.variant], each.run.seed))
    return visitors, notes


def _survey(
    run: Curve, store: EpisodeStore, variables: Sequence[str] | None, lacking: dict[str, str]
) -> Survey | None:
    """What a run visited, with a map of some variables; where they are not its task's, `lacking` says so."""
    from agent.evaluation.visits.state_coverage import VariableError, survey

    source = f"{run.variant}, seed {run.seed}"
    try:
        return survey(store, source, variables)
    except VariableError as error:
        lacking[run.task] = str(error)
        return survey(store, source)


def _store_of(run: Curve) -> Path:
    assert run.directory is not None
    return run.directory / "episodes" / "store.json"


def _rows(study: Study, visitors: Sequence[Visitor]) -> tuple[VisitRow, ...]:
    pools: dict[tuple[str, str], list[Visitor]] = defaultdict(list)
    for visitor in visitors:
        pools[visitor.run.task, visitor.run.variant].append(visitor)
    return tuple(_row(task, variant, members) for (task, variant), members in pools.items())


def _row(task: str, variant: str, members: Sequence[Visitor]) -> VisitRow:
    ends = [member.survey.coverage.stages[-1] for member in members]
    visits = members[0].survey.coverage.visits
    assert visits is not None, "a survey has visited something"
    return VisitRow(
        task=task,
        variant=variant,
        seeds=tuple(member.run.seed for member in members),
        frames=tuple(end.frames for end in ends),
        cells=tuple(end.cells for end in ends),
        entropies=tuple(end.entropy for end in ends),
        possible_cells=visits.possible_cells,
    )


def _draw_growth(study: Study, task: str, visitors: Sequence[Visitor], path: Path) -> Chart:
    """A line each run, in the colour of its variant."""
    from agent.evaluation.visits.pictures import draw_growth

    looks, named, lines = looks_of(study.run_set.variants), set[str](), []
    for visitor in visitors:
        variant = visitor.run.variant
        stages = visitor.survey.coverage.stages
        lines.append(("" if variant in named else variant, looks[variant], stages))
        named.add(variant)
    draw_growth(path, task, lines)
    ends = [f"{each.survey.source} {each.survey.coverage.stages[-1].cells:,}" for each in visitors]
    return Chart(path, "visits", task, f"Visited cells of {task} over frames. At the end: {', '.join(ends)}.")


def _draw_maps(visitors: Sequence[Visitor], path: Path) -> Picture:
    """Maps of the runs side by side: the first seeds of every variant where they are many."""
    from agent.evaluation.visits.pictures import draw_surveys

    shown = [each for each in visitors if each.survey.map.axes == visitors[0].survey.map.axes]
    seen: dict[str, int] = defaultdict(int)
    place: dict[int, int] = {}
    for number, visitor in enumerate(shown):
        place[number] = seen[visitor.run.variant]
        seen[visitor.run.variant] += 1
    chosen = sorted(sorted(place, key=lambda number: (place[number], number))[:MOST_MAPS])
    draw_surveys([shown[number].survey for number in chosen], path)
    caption = f"{shown[0].run.task}: " + "; ".join(shown[number].survey.source for number in chosen)
    return Picture(caption, "png", small_png(path))


def growth_csv(exploration: Exploration) -> str:
    """How coverage grew: a row for each run and episode."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("task", "variant", "seed", "episodes", "frames", "cells", "entropy"))
    for visitor in exploration.visitors:
        run = (visitor.run.task, visitor.run.variant, visitor.run.seed)
        for stage in visitor.survey.coverage.stages:
            numbers = (stage.episodes, stage.frames, stage.cells, f"{stage.entropy:.10g}")
            writer.writerow((*run, *numbers))
    return file.getvalue()


def as_json(exploration: Exploration) -> dict[str, Any]:
    """`visits`, a record for each task and variant; nothing at all where no run has any."""
    if not exploration.rows:
        return {}
    records = [
        vars(row) | {"mean_cells": row.mean_cells, "mean_entropy": row.mean_entropy}
        for row in exploration.rows
    ]
    return {"visits": records}
