"""What a sweep planned and how its runs ended, from `sweep.yaml` and `ledger.jsonl` of its directory."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

from agent.evaluation.run_files import RunError, read_mapping, read_yaml
from agent.sweeps.ledger import LEDGER, SWEEP_FILE, Ledger

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
    if not (directory / LEDGER).is_file():
        problems.append(f"{LEDGER} is missing: what crashed there is not known")
    ledger, damaged = Ledger.salvage(directory)
    problems += [f"{LEDGER}, {problem}: left out" for problem in damaged]
    for key, record in ledger.records.items():
        run = record.run
        runs[key] = Planned(key, run.task, run.variant, run.seed, run.frames, record.state in _CRASHES)
    return Plan(tuple(runs.values()), tuple(problems))
