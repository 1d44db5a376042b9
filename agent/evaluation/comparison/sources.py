"""Finds runs, sweeps and CSV files under the paths that a comparison is given."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from agent.evaluation.comparison.records import Note
from agent.evaluation.comparison.sweep_plan import Planned, read_plan
from agent.sweeps.ledger import SWEEP_FILE

_RUN_FILES = {"config.yaml", "eval.csv", "manifest.json"}


class Input(NamedTuple):
    """Something to compare.

    Attributes:
        path: a run directory, a folder of such, a sweep, or a CSV file.
        label: variant of all that is found there; None: its own.
    """

    path: Path
    label: str | None = None


class Source(NamedTuple):
    """A run directory or a CSV file.

    Attributes:
        path: where it is.
        shown: how it is named to the user: without what lies above all inputs.
        label: as of the input that led to it.
        planned: what a sweep says about it.
    """

    path: Path
    shown: str
    label: str | None = None
    planned: Planned | None = None


@dataclass
class Sources:
    """All that was found.

    Attributes:
        runs: directories by the names that are shown.
        tables: CSV files, likewise.
        plans: runs of sweeps in their order, with a label where their sweep has been given one.
        notes: what is nothing of these.
    """

    runs: dict[str, Source] = field(default_factory=dict)
    tables: dict[str, Source] = field(default_factory=dict)
    plans: list[tuple[Planned, str | None]] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)


def find_sources(inputs: Sequence[Input], skipped: Path | None = None) -> Sources:
    """Look for everything that can be compared.

    Args:
        inputs: their order makes no difference.
        skipped: a directory not to look into: that of the report, which may lie beside the runs.
    """
    inputs = [Input(_directory_of(path), label) for path, label in inputs]
    finder = _Finder([each.path for each in inputs], skipped)
    for path, label in sorted(inputs, key=lambda each: (os.path.abspath(each.path), each.label or "")):
        finder.look_at(path, label)
    return finder.found


def _directory_of(path: Path) -> Path:
    """The run directory, where a path is that of a run's own file."""
    is_part = path.name in _RUN_FILES and (path.parent / "config.yaml").exists()
    return Path(os.path.abspath(path)).parent if is_part else path


class _Finder:
    def __init__(self, tops: Sequence[Path], skipped: Path | None) -> None:
        self.found = Sources()
        self._bases = _bases([Path(os.path.abspath(path)) for path in tops])
        self._skipped = skipped and skipped.resolve()
        self._seen: set[Path] = set()

    def look_at(self, path: Path, label: str | None) -> None:
        """Add what one input holds."""
        if not path.exists():
            self._note(path, "does not exist")
        elif path.is_file():
            if path.suffix.lower() == ".csv":
                self._add_table(path, label)
            else:
                self._note(path, "is neither a CSV file nor a directory of runs")
        elif not self._walk(path, label):
            self._note(path, "holds no run, no sweep and no CSV file")

    def _walk(self, top: Path, label: str | None) -> bool:
        """Add what lies under a directory; whether there is anything."""
        planned: dict[Path, Planned] = {}
        tables = []
        has_runs = False
        for name, folders, files in os.walk(top, onerror=self._unreadable):
            directory = Path(name)
            folders[:] = sorted(
                each
                for each in folders
                if not each.startswith(".") and (directory / each).resolve() != self._skipped
            )
            if SWEEP_FILE in files:
                planned |= self._add_sweep(directory, label)
                has_runs = True
            elif _RUN_FILES & set(files):
                folders.clear()  # its episodes, checkpoints and videos
                self._add_run(directory, label, planned)
                has_runs = True
            else:
                tables += [directory / each for each in sorted(files) if each.lower().endswith(".csv")]
        if not has_runs:
            for table in tables:
                self._add_table(table, label)
        elif tables:
            text = f"CSV files beside runs are not read unless they are named ({len(tables)} of them)"
            self._note(top, text, is_loss=False)
        return has_runs or bool(tables)

    def _add_sweep(self, directory: Path, label: str | None) -> dict[Path, Planned]:
        """Its runs by their directories; they are found there later, those that have begun."""
        plan = read_plan(directory)
        for problem in plan.problems:
            self._note(directory, problem, is_loss=False)
        if directory.resolve() not in self._seen:
            self._seen.add(directory.resolve())
            self.found.plans += [(run, label) for run in plan.runs]
        return {(directory / run.key).resolve(): run for run in plan.runs}

    def _add_run(self, path: Path, label: str | None, planned: dict[Path, Planned]) -> None:
        """Add a run, or tell one that is there already what a second input knows about it."""
        shown, plan = self._shown(path), planned.get(path.resolve())
        if old := self.found.runs.get(shown):
            label, plan = label or old.label, plan or old.planned
        self.found.runs[shown] = Source(path, shown, label, plan)

    def _add_table(self, path: Path, label: str | None) -> None:
        shown = self._shown(path)
        old = self.found.tables.get(shown)
        self.found.tables[shown] = Source(path, shown, label or (old and old.label))

    def _unreadable(self, error: OSError) -> None:
        self._note(Path(error.filename), f"cannot be read ({error.strerror})")

    def _note(self, path: Path, text: str, *, is_loss: bool = True) -> None:
        self.found.notes.append(Note(self._shown(path), text, is_loss))

    def _shown(self, path: Path) -> str:
        whole = Path(os.path.abspath(path))
        base = next((base for top, base in self._bases.items() if whole.is_relative_to(top)), Path("/"))
        return whole.relative_to(base).as_posix()


def _bases(tops: Sequence[Path]) -> dict[Path, Path]:
    """What is left out of the names of paths below each input: what lies above all of them.

    Where nothing but the root does, the names of the inputs alone are shown, if they tell them apart.
    """
    common = Path(os.path.commonpath([top.parent for top in tops]))
    if common == Path(common.anchor) and len({top.name for top in tops}) == len(set(tops)):
        return {top: top.parent for top in tops}
    return dict.fromkeys(tops, common)
