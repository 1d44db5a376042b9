"""Reads what is to be compared into curves; whatever cannot be used is named."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from agent.evaluation.comparison.csv_import import CsvOptions, read_csv
from agent.evaluation.comparison.records import Curve, Note
from agent.evaluation.comparison.sources import Input, Source, find_sources
from agent.evaluation.comparison.sweep_plan import Planned
from agent.evaluation.comparison.variant_labels import automatic_labels
from agent.evaluation.evaluations import Trace, read_eval_csv
from agent.evaluation.run_files import RunError, read_mapping, read_yaml
from configs.schema import Config

_CONFIG_CONDITIONS = ("look", "size", "stack", "obs", "distract")
_NO_TABLES = CsvOptions(canonical=lambda name: None)


class Absent(NamedTuple):
    """A run that was planned or begun, and of which there is nothing to draw."""

    task: str
    variant: str
    seed: int
    has_crashed: bool


@dataclass(frozen=True)
class RunSet:
    """What was found.

    Attributes:
        curves: runs, one for each task, variant and seed, ordered by these.
        absent: runs that are known and have no evaluation.
        notes: what could not be used, and what was mended.
        variants: names in the order in which they are shown.
    """

    curves: tuple[Curve, ...]
    absent: tuple[Absent, ...]
    notes: tuple[Note, ...]
    variants: tuple[str, ...]

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks that have curves, sorted."""
        return sorted({curve.task for curve in self.curves})


@dataclass
class _Run:
    """A run directory whose config could be read."""

    source: Source
    task: str
    seed: int
    config: dict[str, Any]
    manifest: dict[str, Any] = field(default_factory=dict)
    trace: Trace | None = None
    label: str = ""

    @property
    def has_crashed(self) -> bool:
        return self.source.planned is not None and self.source.planned.has_crashed


def read_runs(
    inputs: Sequence[Input],
    csv_options: CsvOptions = _NO_TABLES,
    *,
    skipped: Path | None = None,
    progress: Callable[[Sequence[Source]], Iterable[Source]] = iter,
) -> RunSet:
    """Read everything under some paths.

    Args:
        inputs: what to read; their order makes no difference.
        csv_options: what the user says about CSV files; not needed where there are none.
        skipped: a directory not to look into.
        progress: goes through the sources and shows how far it is.

    Returns:
        What was found.
    """
    sources = find_sources(inputs, skipped)
    notes = list(sources.notes)
    runs: list[_Run] = []
    curves: list[Curve] = []
    for source in progress([*sources.runs.values(), *sources.tables.values()]):
        if source.shown in sources.tables:
            found, problems = read_csv(source.path, source.shown, csv_options, source.label)
            curves += found
            notes += problems
        elif run := _read_run(source, notes):
            runs.append(run)
    several = len({run.variant for run, _ in sources.plans}) > 1
    _name(runs, several)
    curves += [_curve(run, run.trace) for run in runs if run.trace]
    planned = [(run, _variant(run, label, several)) for run, label in sources.plans]
    kept = _without_duplicates(curves, notes)
    absent = _absent(kept, runs, planned)
    names = {curve.variant for curve in kept} | {each.variant for each in absent}
    variants = _ordered(names, [variant for _, variant in planned])
    return RunSet(tuple(kept), absent, tuple(notes), tuple(variants))


def _absent(
    kept: Sequence[Curve], runs: Sequence[_Run], planned: Sequence[tuple[Planned, str]]
) -> tuple[Absent, ...]:
    """Runs that were begun, or planned, and are not among the curves."""
    found = {Absent(run.task, run.label, run.seed, run.has_crashed) for run in runs}
    found |= {Absent(run.task, variant, run.seed, run.has_crashed) for run, variant in planned}
    there = {(curve.task, curve.variant, curve.seed) for curve in kept}
    return tuple(sorted(each for each in found if each[:3] not in there))


def _read_run(source: Source, notes: list[Note]) -> _Run | None:
    """Read a run directory; what is wrong there is added to the notes."""
    directory, shown = source.path, source.shown
    try:
        config = read_mapping(directory / "config.yaml", read_yaml)
        run = _Run(source, str(config["task"]), int(config["seed"]), config)
    except (RunError, KeyError, TypeError, ValueError) as error:
        notes.append(Note(f"{shown}/config.yaml", f"{_reason(error, directory)}: the run is left out"))
        return None
    try:
        run.manifest = read_mapping(directory / "manifest.json", json.loads)
    except RunError as error:
        text = f"{_reason(error, directory)}: versions and action repeat of this run are not known"
        notes.append(Note(f"{shown}/manifest.json", text, is_loss=False))
    try:
        run.trace, problems = read_eval_csv(directory / "eval.csv")
    except (OSError, ValueError, csv.Error) as error:
        notes.append(Note(f"{shown}/eval.csv", f"{_reason(error, directory)}: the run is left out"))
        return run
    notes += [Note(f"{shown}/eval.csv", problem) for problem in problems]
    if run.trace is None and not problems:
        notes.append(Note(f"{shown}/eval.csv", "has no evaluation yet: the run is left out"))
    return run


def _reason(error: Exception, directory: Path) -> str:
    """Why a file cannot be read, without the place where it is."""
    if isinstance(error, FileNotFoundError) or isinstance(error.__cause__, FileNotFoundError):
        return "is missing"
    if isinstance(error, KeyError):
        return f"has no entry {error}"
    if isinstance(error, UnicodeDecodeError) or isinstance(error.__cause__, UnicodeDecodeError):
        return "is no text"
    if isinstance(error, RunError) and error.__cause__ is not None:
        return f"is damaged ({' '.join(str(error.__cause__).split())})"
    return " ".join(str(error).replace(f"{directory}/", "").split())


def _name(runs: list[_Run], several: bool) -> None:
    """Give each run its variant: as the user says, as its sweep does, or by what distinguishes it."""
    unnamed = [run for run in runs if not run.source.label and not run.source.planned]
    for run, label in zip(unnamed, automatic_labels([run.config for run in unnamed]), strict=True):
        run.label = label
    for run in runs:
        if run.source.planned:
            run.label = _variant(run.source.planned, run.source.label, several)
        else:
            run.label = run.source.label or run.label


def _variant(planned: Planned, label: str | None, several: bool) -> str:
    """Variant of a run of a sweep; a label stands before it where there are several."""
    return f"{label}, {planned.variant}" if label and several else label or planned.variant


def _curve(run: _Run, trace: Trace) -> Curve:
    planned = run.source.planned
    return Curve(
        task=run.task,
        variant=run.label,
        seed=run.seed,
        trace=trace,
        source=run.source.shown,
        target_frames=(planned and planned.frames) or _whole(run.config.get("frames")),
        has_crashed=run.has_crashed,
        conditions=_conditions(run.config, run.manifest),
        directory=run.source.path,
        config=run.config,
        manifest=run.manifest,
    )


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _conditions(config: Mapping[str, Any], manifest: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    """Conditions of a run over all processes that worked on it, those that are known."""
    defaults = Config.model_fields
    found = {name: {str(config.get(name, defaults[name].default))} for name in _CONFIG_CONDITIONS}
    earlier = manifest.get("earlier")
    processes = [manifest, *(earlier if isinstance(earlier, list) else [])]
    versions = [
        each["versions"]
        for each in processes
        if isinstance(each, dict) and isinstance(each.get("versions"), dict)
    ]
    found["mujoco"] = {str(each["mujoco"]) for each in versions if each.get("mujoco")}
    repeat = manifest.get("action_repeat") or config.get("action_repeat")
    found["action repeat"] = {str(repeat)} if repeat else set()
    return {name: frozenset(values) for name, values in found.items() if values}


def _without_duplicates(curves: list[Curve], notes: list[Note]) -> list[Curve]:
    """One curve for each task, variant and seed: the one that goes furthest; the others are named."""
    kept: dict[tuple[str, str, int], Curve] = {}
    for curve in sorted(
        curves, key=lambda each: (each.task, each.variant, each.seed, -each.last_frames, each.source)
    ):
        first = kept.setdefault((curve.task, curve.variant, curve.seed), curve)
        if first is not curve:
            text = (
                f"seed {curve.seed} of {curve.task}, {curve.variant} is also in {first.source}, which "
                "is used: left out; tell them apart with LABEL=PATH"
            )
            notes.append(Note(curve.source, text))
    return list(kept.values())


def _ordered(names: set[str], first: Sequence[str]) -> list[str]:
    """Names of a sweep in its order, then the others by the alphabet."""
    return [*(name for name in dict.fromkeys(first) if name in names), *sorted(names - set(first))]
