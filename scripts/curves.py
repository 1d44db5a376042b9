"""`nearfar curves`: sample-efficiency curves with honest statistics, as tables, pictures and one page."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import tyro

from configs.load import ConfigError
from configs.options import NonNegative, Options, Positive
from scripts.options import parse_flags

if TYPE_CHECKING:
    from agent.evaluation.comparison.csv_import import CsvOptions
    from agent.evaluation.comparison.records import Note
    from agent.evaluation.comparison.sources import Input
    from agent.evaluation.comparison.study import Question, Study

Item = TypeVar("Item")


class CurvesOptions(Options):
    """Sample-efficiency curves of runs, sweeps and CSV files, with statistics and a report."""

    inputs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[LABEL=]PATH")]
    """Run directories or folders of them, sweeps, CSV files; LABEL= names the variant of what lies there."""
    out: Path
    """Where report.html, summary.json, curves.csv, reached.csv and figures/ go."""
    axis: Literal["frames", "seconds", "updates"] = "frames"
    """What curves are drawn over."""
    at: str | None = None
    """Places of the axis for numbers, as 100000,500000; unset: customary ones that half of the runs reach."""
    threshold: str | None = None
    """Returns whose first time is looked for, as 500,800; unset: these, where 1,000 is the most."""
    smooth: Positive = 1
    """Evaluations that each point of a drawn curve is the mean of; 1: no smoothing."""
    task: str | None = None
    """Task of CSV files that name none, neither in a column nor in their name."""
    action_repeat: str | None = None
    """Frames a step lasts in CSV files with a column step: N, or TASK=N,TASK=N; 1 where steps are frames."""
    variables: tuple[str, str] | None = None
    """Two variables of the physics state for heat maps of visits; unset: the first two of each task."""
    allow_mixed: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Pool runs of different MuJoCo versions, looks, sizes, observations, distractors or action repeats."""
    published: str = "all"
    """Published figures to show: all, none, or names of methods or benchmarks, as CURL,DrQ."""
    resamples: Positive = 2000
    """Resamples of the bootstrap."""
    seed: NonNegative = 0
    """Seed of the bootstrap."""
    inspect: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Draw what `nearfar inspect` draws for one run of each task and variant that has no such pictures."""


def main(arguments: Sequence[str]) -> int:
    """Compare; see `nearfar curves --help`."""
    options = parse_flags(CurvesOptions, "nearfar curves", arguments)
    question, inputs, csv_options = _question(options), _inputs(options), _csv_options(options)

    from agent.evaluation.comparison.reading import read_runs
    from agent.evaluation.comparison.study import make_study, unusable

    run_set = read_runs(inputs, csv_options, skipped=options.out, progress=_bar("reading"))
    study = make_study(run_set, question, _bar("statistics"))
    if study is None:
        raise ConfigError(_nothing(unusable(run_set, question)))
    _make_directory(options.out)
    if options.inspect:
        study = replace(study, notes=(*study.notes, *_inspect(study)))
    _write(study, options.out, options.variables)
    return 0


def _question(options: CurvesOptions) -> Question:
    from agent.evaluation.comparison.curve_intervals import Estimation
    from agent.evaluation.comparison.study import Question

    methods = tuple(name.strip() for name in options.published.split(",") if name.strip())
    return Question(
        axis=options.axis,
        at=_numbers("--at", options.at),
        thresholds=_numbers("--threshold", options.threshold),
        smooth=options.smooth,
        allow_mixed=options.allow_mixed,
        methods={"all": None, "none": ()}.get(options.published, methods),
        estimation=Estimation(resamples=options.resamples, seed=options.seed),
    )


def _numbers(flag: str, text: str | None) -> tuple[float, ...] | None:
    """Positive numbers of a list, ascending."""
    if text is None:
        return None
    try:
        found = sorted({float(part.replace("_", "")) for part in text.split(",")})
    except ValueError:
        found = []
    if not found or not all(0 < value < float("inf") for value in found):
        raise ConfigError(f"{flag} {text}: expected positive numbers, as in {flag} 100000,500000")
    return tuple(found)


def _inputs(options: CurvesOptions) -> list[Input]:
    """Paths with their labels; a path that exists is one, whatever signs of equality it holds."""
    from agent.evaluation.comparison.sources import Input

    if not options.inputs:
        raise ConfigError("nothing to compare: name run directories, sweeps or CSV files")
    inputs = []
    for text in options.inputs:
        label, is_labelled, path = text.partition("=")
        if Path(text).exists() or not is_labelled:
            inputs.append(Input(Path(text)))
        elif label.strip() and path:
            inputs.append(Input(Path(path), label.strip()))
        else:
            raise ConfigError(f"{text}: expected LABEL=PATH, or a path that exists")
    return inputs


def _csv_options(options: CurvesOptions) -> CsvOptions:
    from agent.evaluation.comparison.csv_import import CsvOptions

    repeats: dict[str, int] = {}
    for part in options.action_repeat.split(",") if options.action_repeat else ():
        task, _, number = part.rpartition("=")
        if not number.strip().isdigit() or int(number) == 0:
            raise ConfigError(f"--action-repeat {options.action_repeat}: expected N or TASK=N,TASK=N")
        repeats[_canonical(task) or task.strip()] = int(number)
    return CsvOptions(_canonical, options.task, repeats)


def _canonical(name: str) -> str | None:
    """The canonical name of a task; None for one that this project does not know."""
    from envs.registry import TaskError, canonical_task

    try:
        return canonical_task(name) if name.strip() else None
    except TaskError:
        return None


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"--out {path} cannot be made ({error.strerror}): give another directory"
        ) from error


def _nothing(notes: Sequence[Note]) -> str:
    """Why there is nothing to draw; several reasons are printed one by one."""
    if len(notes) < 2:
        return str(notes[0]) if notes else "nothing can be drawn: no run has an evaluation yet"
    for note in notes:
        print(f"nearfar: {note}", file=sys.stderr)
    return f"nothing can be drawn, for {len(notes)} reasons above"


def _bar(name: str) -> Callable[[Sequence[Item]], Iterable[Item]]:
    """Goes through items; on a terminal, a bar shows how far."""
    from tqdm import tqdm

    return lambda items: tqdm(items, desc=name, disable=None, leave=False)


def _inspect(study: Study) -> list[Note]:
    """Draw pictures of agents where the page lacks them, into their runs; what could not be drawn."""
    from agent.evaluation.comparison.records import Note
    from agent.evaluation.comparison.run_media import uninspected

    chosen = uninspected(study.run_set.curves)
    if not chosen:
        return []
    from agent import load_agent  # which imports torch
    from agent.checkpoint import CheckpointError
    from envs.episodes import EpisodeError
    from scripts.inspect_run import InspectOptions, chosen_episodes, draw_pictures

    notes = []
    for curve in _bar("inspecting")(chosen):
        assert curve.directory is not None
        options = InspectOptions(run=curve.directory)
        try:
            loaded, episodes = load_agent(options.run), chosen_episodes(options)
            draw_pictures(loaded, episodes, options.horizon, options.run / "inspect")
        except (CheckpointError, ConfigError, EpisodeError, OSError) as error:
            text = " ".join(str(error).replace(f"{curve.directory}", curve.source).split())
            notes.append(Note(curve.source, f"{text}; it is not inspected", is_loss=False))
    return notes


def _write(study: Study, out: Path, variables: Sequence[str] | None) -> None:
    """Write everything, and print the numbers."""
    from agent.evaluation.comparison import as_text, exports, figure_files, report, visited_states

    explored = visited_states.explore(study, out / "figures", _bar("visits"), variables)
    charts = figure_files.draw_charts(study, out / "figures", _bar("pictures"))
    page = report.make_page(study, charts, explored)
    study = replace(study, notes=(*study.notes, *page.notes))
    visits = exports.plain(visited_states.as_json(explored))
    extras = {"time_shares": exports.plain(page.shares), **page.captions, **visits}
    if explored.rows:
        (out / "visits.csv").write_text(visited_states.growth_csv(explored), encoding="utf-8")
    summary = json.dumps(exports.summary(study, extras), indent=1, allow_nan=False)
    for name, text in (
        ("curves.csv", exports.points_csv(study)),
        ("reached.csv", exports.crossings_csv(study)),
        ("summary.json", f"{summary}\n"),
        ("report.html", page.html),
    ):
        (out / name).write_text(text, encoding="utf-8")
    for note in study.notes:
        print(f"nearfar: {note}", file=sys.stderr)
    print(as_text.completeness_table(study), end="\n\n")
    print(as_text.score_tables(study))
    if compared := as_text.comparison_tables(study):
        print(f"\n{compared}")
    print(f"\nreport    {out / 'report.html'}")
    print(f"numbers   {out / 'summary.json'}, {out / 'curves.csv'}, {out / 'reached.csv'}")
    print(f"pictures  {out / 'figures'}")
