"""What a sweep planned and how its runs ended, from `sweep.yaml` and `ledger.jsonl` of its directory."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agent.evaluation.runs import RunError, read_mapping, read_yaml

SWEEP_FILE = "sweep.yaml"
LEDGER = "ledger.jsonl"
_CRASHES = ("crashed", "failed")


@dataclass(frozen=True)
class Planned:
    """A run of a sweep.

    Attributes:
        key: its directory inside the sweep's.
        task: canonical name.
        variant: name in the sweep file.
        seed: the run's seed.
        frames: frames to train for; None where only the sweep file is known.
        has_crashed: whether its last process failed.
    """

    key: str
    task: str
    variant: str
    seed: int
    frames: int | None = None
    has_crashed: bool = False


@dataclass(frozen=True)
class Plan:
    """A sweep.

    Attributes:
        runs: what it asks for, in the order of the sweep file, then what it has asked for before.
        problems: what of its files cannot be read, a line each.
    """

    runs: tuple[Planned, ...] = ()
    problems: tuple[str, ...] = ()


def read_plan(directory: Path) -> Plan:
    """Read a sweep's directory; what is damaged there is named in the plan."""
    problems: list[str] = []
    try:
        sweep = read_mapping(directory / SWEEP_FILE, read_yaml)
        variants = map(str, sweep["variants"])
        cells = list(itertools.product(map(str, sweep["tasks"]), variants, map(int, sweep["seeds"])))
    except (RunError, KeyError, TypeError, ValueError):
        problems.append(f"{SWEEP_FILE} names no tasks, variants and seeds: only its ledger counts")
        cells = []
    runs = {}
    for task, variant, seed in cells:
        key = f"{task}/{variant}/seed-{seed}"
        runs[key] = Planned(key, task, variant, seed)
    problems += _follow(directory / LEDGER, runs)
    return Plan(tuple(runs.values()), tuple(problems))


def _follow(path: Path, runs: dict[str, Planned]) -> list[str]:
    """Bring runs up to what a ledger says; lines of it that are no events."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return [f"{LEDGER} cannot be read: what crashed there is not known"]
    problems = []
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        try:
            event = json.loads(line) if line.endswith("\n") else None
            if event is None:
                problems.append(f"{LEDGER}, line {number} is torn: left out")
            else:
                _apply(event, runs)
        except (ValueError, KeyError, TypeError):
            problems.append(f"{LEDGER}, line {number} is no event: left out")
    return problems


def _apply(event: dict[str, Any], runs: dict[str, Planned]) -> None:
    if event["event"] == "opened":
        return
    kind, key = event["event"], str(event["run"])
    if kind == "planned":
        runs[key] = Planned(key, event["task"], event["variant"], int(event["seed"]), int(event["frames"]))
    elif key in runs:
        runs[key] = replace(runs[key], has_crashed=kind in _CRASHES)
