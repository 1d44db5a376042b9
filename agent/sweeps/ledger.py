"""What has happened to the runs of a sweep: a file of events to which lines are only ever appended.

A sweep's directory:

    DIR/sweep.yaml                          the sweep that was asked for last, with the names of tasks and
                                            presets resolved; a sweep file itself (`configs.sweep`)
    DIR/ledger.jsonl                        the events below
    DIR/.lock                               held by the one process that carries the sweep out
    DIR/<task>/<variant>/seed-<seed>/       a run directory of `nearfar train`; a task is two folders
    DIR/<task>/<variant>/seed-<seed>.log    what its processes printed, all attempts one after another

An event is a JSON object with `time` (ISO 8601, UTC) and `event`. All but `opened` have `run`, the path of
the run directory inside DIR, for instance `dmc/walker-walk/byol/seed-3`:

    opened     engine, jobs: a process begins to carry the sweep out
    planned    task, variant, seed, frames, threads, arguments: what to do; `nearfar train ARGUMENTS --out
               DIR/run`. Written again where `frames` was raised
    started    attempt (1, 2, ... over all times), place: a process, or a job of a cluster
    finished   attempt, seconds: it reached its frames; wall-clock seconds of this attempt, with those in the
               queue of a cluster; 0 where another process has seen it begin
    stopped    attempt, seconds: it was asked to save and end, and goes on when the sweep is started again
    crashed    attempt, seconds, exit_code, tail: it will be tried once more; the last lines of its log
    failed     attempt, seconds, exit_code, tail: it will not, until the sweep is started again

A run's state is the name of its last event. `started` without an end means that the run is going on, or that
the sweep was killed. A last line without its line break was torn by a kill, and is no event.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

SWEEP_FILE = "sweep.yaml"
LEDGER = "ledger.jsonl"
State = Literal["planned", "started", "finished", "stopped", "crashed", "failed"]
_OPENED = "opened"


class LedgerError(ValueError):
    """A ledger cannot be read; the message names the line and the remedy."""


@dataclass(frozen=True)
class PlannedRun:
    """One cell of tasks x variants x seeds.

    Attributes:
        task: canonical name.
        variant: name of the variant.
        seed: the run's seed.
        frames: how far it goes.
        threads: of the computation on the CPU, where a run goes on bit for bit only with the same number.
        arguments: of `nearfar train`, without `--out`.
    """

    task: str
    variant: str
    seed: int
    frames: int
    threads: int
    arguments: tuple[str, ...]

    @property
    def key(self) -> str:
        """Path of the run directory inside the sweep's."""
        return f"{self.task}/{self.variant}/seed-{self.seed}"


@dataclass(frozen=True)
class RunRecord:
    """A run and what has happened to it.

    Attributes:
        run: what to do.
        state: name of the last event.
        attempts: how often it was started.
        seconds: wall-clock time of the attempts whose end was recorded.
        place: where the last attempt runs or ran.
        exit_code: of the last attempt, where it crashed or failed.
        tail: last lines of its log, likewise.
    """

    run: PlannedRun
    state: State = "planned"
    attempts: int = 0
    seconds: float = 0.0
    place: str = ""
    exit_code: int | None = None
    tail: tuple[str, ...] = ()


@dataclass
class Ledger:
    """The events of a sweep's directory, and a way to append one.

    Attributes:
        directory: the sweep's; held by this process where it writes.
        records: by the path of the run directory, in the order in which they were first planned.
    """

    directory: Path
    records: dict[str, RunRecord] = field(default_factory=dict)

    @classmethod
    def read(cls, directory: Path) -> Ledger:
        """Replay the events; without a file nothing has happened.

        Raises:
            LedgerError: a line is no event.
        """
        ledger, damaged = cls.salvage(directory)
        if damaged:
            raise LedgerError(f"{directory / LEDGER}, {damaged[0]}: remove it")
        return ledger

    @classmethod
    def salvage(cls, directory: Path) -> tuple[Ledger, list[str]]:
        """Replay the events that can be read; of each line that is none, where it is and why."""
        ledger, damaged = cls(directory), []
        for number, line in enumerate(_whole_lines(directory / LEDGER), start=1):
            try:
                ledger._apply(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                damaged.append(f"line {number} is no event ({error!r})")
        return ledger, damaged

    def open(self, *, engine: str, jobs: int) -> None:
        """Note that a process begins to carry the sweep out; a torn last line is cut off."""
        path = self.directory / LEDGER
        if path.exists():
            whole = path.read_bytes().rfind(b"\n") + 1
            os.truncate(path, whole)
        self._append({"event": _OPENED, "engine": engine, "jobs": jobs})

    def plan(self, run: PlannedRun) -> None:
        """Note what is to be done."""
        values = {"task": run.task, "variant": run.variant, "seed": run.seed, "frames": run.frames}
        self._note("planned", run.key, **values, threads=run.threads, arguments=list(run.arguments))

    def start(self, key: str, place: str) -> None:
        """Note that an attempt begins."""
        self._note("started", key, attempt=self.records[key].attempts + 1, place=place)

    def end(
        self,
        key: str,
        state: Literal["finished", "stopped", "crashed", "failed"],
        *,
        seconds: float,
        exit_code: int | None = None,
        tail: Sequence[str] = (),
    ) -> None:
        """Note how the attempt under way ended.

        Args:
            key: the run.
            state: see the module.
            seconds: wall-clock time of the attempt.
            exit_code: of a run that crashed or failed; negative: the signal that ended it.
            tail: last lines of its log.
        """
        why = {"exit_code": exit_code, "tail": list(tail)} if state in ("crashed", "failed") else {}
        self._note(state, key, attempt=self.records[key].attempts, seconds=round(seconds, 1), **why)

    def _note(self, event: State, key: str, **values: Any) -> None:
        self._append({"event": event, "run": key, **values})

    def _append(self, event: dict[str, Any]) -> None:
        """Bring an event to the disk, then take it into account."""
        line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="seconds"), **event})
        with (self.directory / LEDGER).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._apply(event)

    def _apply(self, event: Mapping[str, Any]) -> None:
        name = event["event"]
        if name == _OPENED:
            return
        if name not in get_args(State):
            raise KeyError(name)
        if name == "planned":
            self._take_plan(event)
            return
        record = replace(self.records[event["run"]], state=name, exit_code=None, tail=())
        if name == "started":
            record = replace(record, attempts=event["attempt"], place=event["place"])
        else:
            record = replace(record, seconds=record.seconds + event["seconds"])
        if name in ("crashed", "failed"):
            record = replace(record, exit_code=event["exit_code"], tail=tuple(event["tail"]))
        self.records[event["run"]] = record

    def _take_plan(self, event: Mapping[str, Any]) -> None:
        run = PlannedRun(
            task=str(event["task"]),
            variant=str(event["variant"]),
            seed=int(event["seed"]),
            frames=int(event["frames"]),
            threads=int(event["threads"]),
            arguments=tuple(map(str, event["arguments"])),
        )
        earlier = self.records.get(run.key, RunRecord(run))
        self.records[run.key] = replace(earlier, run=run, state="planned")


def _whole_lines(path: Path) -> list[str]:
    """Lines that end in a line break, without it."""
    try:
        complete, _, _ = path.read_text(encoding="utf-8", errors="replace").rpartition("\n")
    except FileNotFoundError:
        return []
    return complete.split("\n") if complete else []
