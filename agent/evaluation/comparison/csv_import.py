"""CSV files of other projects: one row an evaluation, columns by the names that are customary."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.evaluation.comparison.records import Curve, Note
from agent.evaluation.evaluations import Row, read_rows

# What a column holds -> names under which projects write it, the first of which a file has counts.
COLUMNS = {
    "frames": ("frames", "frame", "env_frames", "environment_frames"),
    "step": ("step", "steps", "env_step", "env_steps", "timestep", "timesteps", "global_step"),
    "return": ("return_mean", "reward", "return", "episode_reward", "episode_return", "score"),
    "seed": ("seed",),
    "task": ("task", "env", "env_id", "environment"),
    "method": ("method", "variant", "algorithm", "algo", "agent", "label"),
    "seconds": ("seconds", "total_time", "wall_time"),
    "updates": ("updates", "gradient_steps"),
    "action repeat": ("action_repeat", "frame_skip"),
}
_SEED_IN_NAME = re.compile(r"(?:^|[_\-. ])seed[_\-. ]?(\d+)(?=$|[_\-. ])", re.IGNORECASE)
_ALL_TASKS = ""


@dataclass(frozen=True)
class CsvOptions:
    """What the user says about CSV files.

    Attributes:
        canonical: the canonical name of a task, None for one that nobody knows.
        task: of files without a column for it.
        action_repeat: frames a step lasts, by task; the empty name stands for all others.
    """

    canonical: Callable[[str], str | None]
    task: str | None = None
    action_repeat: Mapping[str, int] = field(default_factory=dict)

    def repeat_of(self, task: str) -> int | None:
        """Frames that a step of a task lasts, where the user says so."""
        return self.action_repeat.get(task, self.action_repeat.get(_ALL_TASKS))


class TableError(ValueError):
    """A file cannot be used at all; the message says why."""


@dataclass(frozen=True)
class _Table:
    """Rows of a file by column, with the file's own names of the columns that are used."""

    columns: Mapping[str, str]
    rows: list[tuple[int, dict[str, str]]]
    notes: list[str]


def read_csv(
    path: Path, source: str, options: CsvOptions, label: str | None = None
) -> tuple[list[Curve], list[Note]]:
    """Read the runs of a CSV file.

    Args:
        path: the file.
        source: how it is shown.
        options: what the user says about such files.
        label: variant of all its rows, before its methods where it holds several; unset: its column for
            methods, or else its name.

    Returns:
        Its runs, and what could not be used.
    """
    try:
        table = _read_table(path)
        groups = _groups(table, *_from_name(path, options.canonical), options, label)
    except (TableError, csv.Error) as error:
        return [], [Note(source, str(error))]
    notes = [Note(source, text, is_loss=False) for text in table.notes]
    curves = []
    for (task, variant, seed), rows in groups.items():
        try:
            curves.append(_curve(task, variant, seed, rows, table, options, source, notes))
        except TableError as error:
            notes.append(Note(f"{source}, {task}, {variant}, seed {seed}", str(error)))
    return curves, list(dict.fromkeys(notes))


def _read_table(path: Path) -> _Table:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise TableError(f"cannot be read ({getattr(error, 'strerror', None) or 'no UTF-8 text'})") from error
    header = text.partition("\n")[0].rstrip("\r")
    if not header.strip():
        raise TableError("is empty: expected a header and a row for each evaluation")
    reader = csv.reader(text.splitlines(), delimiter=max(",;\t", key=header.count))
    names = [name.strip() for name in next(reader)]
    columns = _known_columns(names)
    rows, notes = [], []
    for cells in reader:
        if len(cells) == len(names):
            rows.append((reader.line_num, dict(zip(names, (cell.strip() for cell in cells), strict=True))))
        elif cells:
            notes.append(f"line {reader.line_num} has {len(cells)} of {len(names)} columns: left out")
    if not text.endswith("\n") and rows and rows[-1][0] == reader.line_num:
        notes.append("the last line has no line break: it may be torn, and is used as it stands")
    if unread := [name for name in names if name not in columns.values()]:
        notes.append(f"columns that are not read: {', '.join(unread)}")
    if not rows:
        raise TableError("has a header and no complete row")
    return _Table(columns, rows, notes)


def _known_columns(names: list[str]) -> dict[str, str]:
    """What is read -> the file's name for it."""
    by_key = {re.sub(r"[\s\-]+", "_", name.lower()): name for name in reversed(names)}
    found = {
        meaning: next(by_key[name] for name in known if name in by_key)
        for meaning, known in COLUMNS.items()
        if any(name in by_key for name in known)
    }
    if "frames" not in found and "step" not in found:
        raise TableError(f"has no column frames or step; found {', '.join(names)}")
    if "return" not in found:
        raise TableError(f"has no column reward or return_mean; found {', '.join(names)}")
    return found


def _from_name(path: Path, canonical: Callable[[str], str | None]) -> tuple[str | None, str, int | None]:
    """Task, label and seed that a file's name holds: `drqv2-walker_walk-seed3.csv`."""
    stem = path.stem
    seed = _SEED_IN_NAME.search(stem)
    if seed:
        stem = stem[: seed.start()] + stem[seed.end() :]
    words = [word for word in re.split(r"[_\-. ]+", stem) if word]
    spans = [(i, j) for i in range(len(words)) for j in range(len(words), i + 1, -1)]
    task = None
    for start, end in sorted(spans, key=lambda span: span[0] - span[1]):
        if task := canonical("_".join(words[start:end])):
            words[start:end] = []
            break
    return task, "-".join(words) or path.parent.name or path.stem, int(seed.group(1)) if seed else None


def _groups(
    table: _Table, task: str | None, name: str, seed: int | None, options: CsvOptions, label: str | None
) -> dict[tuple[str, str, str], list[tuple[int, dict[str, str]]]]:
    """Rows by task, variant and seed, each in the order of the file."""
    columns = table.columns
    task = (options.task and (options.canonical(options.task) or options.task)) or task
    if "task" not in columns and task is None:
        raise TableError("names no task, neither in a column nor in its name: give --task TASK")
    if "seed" not in columns and seed is None:
        table.notes.append("has no column seed and none in its name: counted as one run, seed 0")
    several = "method" in columns and len({cells[columns["method"]] for _, cells in table.rows}) > 1
    groups: dict[tuple[str, str, str], list[tuple[int, dict[str, str]]]] = {}
    for line, cells in table.rows:
        own = cells[columns["task"]] if "task" in columns else ""
        method = cells[columns["method"]] if "method" in columns else ""
        variant = f"{label}, {method}" if label and several else label or method or name
        key = (
            (options.canonical(own) or own) if own else str(task),
            variant,
            cells[columns["seed"]] if "seed" in columns else str(seed or 0),
        )
        groups.setdefault(key, []).append((line, cells))
    return groups


def _curve(
    task: str,
    variant: str,
    seed: str,
    rows: list[tuple[int, dict[str, str]]],
    table: _Table,
    options: CsvOptions,
    source: str,
    notes: list[Note],
) -> Curve:
    """One run; notes about it are added.

    Raises:
        TableError: nothing of it can be used.
    """
    if not re.fullmatch(r"\d+(\.0*)?", seed):
        raise TableError(f"seed {seed!r} is no whole number")
    repeat = _repeat(task, rows, table.columns, options)
    counter = table.columns.get("frames") or table.columns["step"]
    scale = 1 if "frames" in table.columns else repeat
    if scale is None:
        raise TableError(
            f"its column {counter!r} counts frames or decisions? Say so: --action-repeat N where a step is a "
            "decision that lasts N frames (also TASK=N), --action-repeat 1 where a step is a frame"
        )
    trace, problems = read_rows(_rows(rows, table.columns, counter, scale), may_go_back=False)
    if not len(trace.frames):
        raise TableError(f"left out: {problems[0]}")
    where = f"{source}, {task}, {variant}, seed {seed}"
    notes += [Note(where, problem) for problem in problems]
    conditions = {"action repeat": frozenset({str(repeat)})} if repeat else {}
    return Curve(task, variant, int(float(seed)), trace, source, conditions=conditions)


def _repeat(
    task: str, rows: list[tuple[int, dict[str, str]]], columns: Mapping[str, str], options: CsvOptions
) -> int | None:
    """Frames a decision lasts: of the file's column, or else as the user says; None where nobody does."""
    if "action repeat" not in columns:
        return options.repeat_of(task)
    found = sorted({cells[columns["action repeat"]] for _, cells in rows})
    if len(found) != 1 or not re.fullmatch(r"[1-9]\d*", found[0]):
        raise TableError(f"expected one whole number as action repeat, found {', '.join(found)}")
    return int(found[0])


def _rows(
    rows: list[tuple[int, dict[str, str]]], columns: Mapping[str, str], counter: str, scale: int
) -> Iterator[Row]:
    for line, cells in rows:
        yield Row(
            line=line,
            frames=cells[counter],
            returns=cells[columns["return"]],
            seconds=cells[columns["seconds"]] if "seconds" in columns else "",
            updates=cells[columns["updates"]] if "updates" in columns else "",
            scale=scale,
        )
