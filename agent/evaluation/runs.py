"""Finished and unfinished runs, read from their directories into typed records."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

try:
    from yaml import CSafeLoader as _Loader  # ten times faster: comparisons read hundreds of files
except ImportError:
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]

EVAL_HEADER = "frames,updates,seconds,return_mean,return_std,episodes"


class RunError(ValueError):
    """A run directory cannot be read; the message names the file and the remedy."""


@dataclass(frozen=True)
class Evaluation:
    """One row of eval.csv.

    Attributes:
        frames: environment frames trained for.
        updates: gradient steps so far.
        seconds: training time so far.
        return_mean: mean episode return.
        return_std: deviation of the episodes' returns.
        episodes: episodes evaluated.
    """

    frames: int
    updates: int
    seconds: float
    return_mean: float
    return_std: float
    episodes: int


@dataclass(frozen=True)
class RunCurve:
    """What a run recorded.

    Attributes:
        task: canonical name, for instance `dmc/walker-walk`.
        label: what the run is a case of; runs of one label differ in their seed only.
        seed: the run's seed.
        evaluations: rows of eval.csv, frames strictly increasing.
        config: the resolved options.
        manifest: how and where it ran.
    """

    task: str
    label: str
    seed: int
    evaluations: tuple[Evaluation, ...]
    config: dict[str, Any] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)


def read_run(directory: Path | str, label: str | None = None) -> RunCurve:
    """Read eval.csv, config.yaml and manifest.json of a run directory.

    Args:
        directory: the run directory, of a run that may still be going on.
        label: name of the variant; the run's preset where None.

    Returns:
        The record; without evaluations if none has finished yet.

    Raises:
        RunError: a file is missing, damaged, or lacks an entry.
    """
    directory = Path(directory)
    config = read_mapping(directory / "config.yaml", read_yaml)
    for name in ("task", "preset", "seed"):
        if name not in config:
            raise RunError(f"{directory / 'config.yaml'} has no entry {name!r}: is it the config of a run?")
    return RunCurve(
        task=str(config["task"]),
        label=str(config["preset"]) if label is None else label,
        seed=int(config["seed"]),
        evaluations=read_evaluations(directory / "eval.csv"),
        config=config,
        manifest=read_mapping(directory / "manifest.json", json.loads),
    )


def read_evaluations(path: Path) -> tuple[Evaluation, ...]:
    """Read an eval.csv.

    A last line without its line break is being written, or was torn by a kill, and is left out. A row
    replaces earlier ones at its frames and beyond: the run had gone back to a checkpoint.

    Args:
        path: the file.

    Returns:
        Its rows, frames strictly increasing.

    Raises:
        RunError: the file is missing, has another header, or a row that is no evaluation.
    """
    complete, _, _ = _read_text(path).rpartition("\n")
    lines = complete.splitlines()
    if not lines or lines[0] != EVAL_HEADER:
        raise RunError(f"{path}: expected the header {EVAL_HEADER!r}, found {lines[0] if lines else ''!r}")
    rows: list[Evaluation] = []
    for number, line in enumerate(lines[1:], start=2):
        row = _parse_row(line, f"{path}, line {number}")
        rows = [earlier for earlier in rows if earlier.frames < row.frames]
        rows.append(row)
    return tuple(rows)


def _parse_row(line: str, where: str) -> Evaluation:
    try:
        frames, updates, seconds, mean, std, episodes = line.split(",")
        return Evaluation(int(frames), int(updates), float(seconds), float(mean), float(std), int(episodes))
    except ValueError as error:
        raise RunError(f"{where}: expected six numbers {EVAL_HEADER!r}, found {line!r}") from error


def read_mapping(path: Path, parse: Callable[[str], Any]) -> dict[str, Any]:
    """Read a file that holds one mapping.

    Args:
        path: the file.
        parse: turns its text into a value.

    Raises:
        RunError: the file is missing, damaged, or holds something else.
    """
    text = _read_text(path)
    try:
        content = parse(text)
    except (ValueError, yaml.YAMLError) as error:
        raise RunError(f"{path} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise RunError(f"{path} is damaged: expected a mapping, found {type(content).__name__}")
    return content


def read_yaml(text: str) -> Any:
    """The value of a YAML text, without anything that YAML could construct beyond plain values."""
    return yaml.load(text, _Loader)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise RunError(
            f"{path} is missing: {path.parent} is not a run directory, or its run has not begun"
        ) from error
    except UnicodeDecodeError as error:
        raise RunError(f"{path} is damaged: {error}") from error
