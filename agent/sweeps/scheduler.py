"""Carries a sweep out: starts its runs, as many at a time as may be, and notes in the ledger how they end."""

from __future__ import annotations

import math
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Literal, Protocol

from agent.stopping import StopRequest
from agent.sweeps.ledger import Ledger, PlannedRun, RunRecord

POLL_S = 0.5
STOP_GRACE_S = 120.0
"""A run that was asked to save and end is killed when it has not after this time."""

TAIL_LINES = 10
_TAIL_BYTES = 8192
USER_MISTAKE = 2
"""Exit code of `nearfar train` for a mistake in its options, which trying again does not mend."""


class Attempt(Protocol):
    """A run that an engine has started."""

    place: str

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None as long as it goes on."""

    def stop(self) -> None:
        """Ask it to save and end."""

    def kill(self) -> None:
        """End it at once."""


class Engine(Protocol):
    """Something that can run `nearfar train`."""

    name: str

    def start(self, run: PlannedRun) -> Attempt:
        """Start a run, or let it go on, with its output appended to its log.

        Raises:
            OSError: it cannot be started.
        """

    def adopt(self, record: RunRecord) -> Attempt | None:
        """The attempt that an earlier process of the sweep started, if it can still be followed."""


class View(Protocol):
    """Shows people what goes on."""

    def event(self, text: str) -> None:
        """Something has happened."""

    def refresh(self, going: Collection[str]) -> None:
        """Some time has gone by; these runs go on."""


class Scheduler:
    """Runs everything that the ledger does not call finished; one that crashes is tried once more."""

    def __init__(
        self,
        ledger: Ledger,
        keys: Iterable[str],
        engine: Engine,
        *,
        jobs: int,
        is_held: Callable[[Path], bool],
        view: View,
        poll_s: float = POLL_S,
    ) -> None:
        """Nothing is started yet.

        Args:
            ledger: of a directory that this process holds; its runs are planned.
            keys: the runs of this sweep, in the order in which to start them.
            engine: what runs them.
            jobs: runs at a time.
            is_held: whether a process holds a run directory. One that outlived an earlier process of the
                sweep is waited for, and counts as one of the jobs meanwhile.
            view: told of every event, and after every look at the runs.
            poll_s: seconds between such looks.
        """
        self._ledger, self._engine, self._view = ledger, engine, view
        self._jobs, self._is_held, self._poll_s = jobs, is_held, poll_s
        self._keys = tuple(keys)
        unfinished = [key for key in self._keys if ledger.records[key].state != "finished"]
        # What was begun comes first: some of it may still be going on.
        self._waiting = sorted(unfinished, key=lambda key: ledger.records[key].state != "started")
        self._going: dict[str, Attempt] = {}
        self._since: dict[str, float] = {}
        self._crashes: Counter[str] = Counter()
        self._announced: set[str] = set()

    def carry_out(self, stop: StopRequest) -> list[RunRecord]:
        """Run until everything has ended or until asked to stop, which the runs are then, too.

        Returns:
            The records of the sweep's runs.
        """
        self._adopt()
        try:
            while (self._waiting or self._going) and not stop.requested:
                self._look()
                self._start_what_fits()
                self._view.refresh(self._going)
                time.sleep(self._poll_s)
        finally:
            for attempt in self._going.values():
                attempt.stop()
        self._wind_down()
        return [self._ledger.records[key] for key in self._keys]

    def _adopt(self) -> None:
        """Follow the attempts that outlived an earlier process of the sweep, where the engine can."""
        for key in tuple(self._waiting):
            record = self._ledger.records[key]
            if record.state == "started" and (attempt := self._engine.adopt(record)):
                self._waiting.remove(key)
                self._going[key] = attempt
                self._view.event(f"{key} goes on, {attempt.place}")

    def _start_what_fits(self) -> None:
        held = 0
        for key in tuple(self._waiting):
            if len(self._going) + held >= self._jobs:
                return
            if self._is_held(self._ledger.directory / key):
                held += 1
                if key not in self._announced:
                    self._announced.add(key)
                    self._view.event(f"{key} is in use by another process, which is waited for")
                continue
            self._waiting.remove(key)
            self._start(key)

    def _start(self, key: str) -> None:
        try:
            attempt = self._engine.start(self._ledger.records[key].run)
        except OSError as error:
            self._ledger.start(key, self._engine.name)
            self._since[key] = time.monotonic()
            self._note_failure(key, 1, [f"it could not be started: {error}"])
            return
        self._ledger.start(key, attempt.place)
        self._going[key], self._since[key] = attempt, time.monotonic()
        self._view.event(f"{key} started, {attempt.place}")

    def _look(self) -> None:
        """Note which runs have ended."""
        for key, code in self._ended().items():
            if code:
                self._note_failure(key, code, tail_of(self._log(key)))
            else:
                self._ledger.end(key, "finished", seconds=self._seconds(key))
                self._view.event(f"{key} finished")

    def _ended(self) -> dict[str, int]:
        """Exit codes of the runs that have ended, which then no longer go on."""
        codes = {key: attempt.poll() for key, attempt in self._going.items()}
        ended = {key: code for key, code in codes.items() if code is not None}
        for key in ended:
            del self._going[key]
        return ended

    def _note_failure(self, key: str, code: int, tail: Sequence[str]) -> None:
        """Let a run that crashed for the first time wait for its second attempt, after all others."""
        self._crashes[key] += 1
        is_final = code == USER_MISTAKE or self._crashes[key] > 1
        state: Literal["failed", "crashed"] = "failed" if is_final else "crashed"
        self._ledger.end(key, state, seconds=self._seconds(key), exit_code=code, tail=tail)
        if not is_final:
            self._waiting.append(key)
        what_next = "it is left" if is_final else "it will be tried once more"
        self._view.event(f"{key} {describe_exit(code)}; {what_next} (see {self._log(key)})")

    def _wind_down(self) -> None:
        """Wait for the runs that were asked to end, and kill those that do not."""
        deadline = time.monotonic() + STOP_GRACE_S
        while self._going:
            for key, code in self._ended().items():
                self._ledger.end(key, "stopped" if code else "finished", seconds=self._seconds(key))
                self._view.event(f"{key} {'saved and stopped' if code else 'finished'}")
            if time.monotonic() > deadline:
                deadline = math.inf
                for attempt in self._going.values():
                    attempt.kill()
            time.sleep(min(self._poll_s, 0.1))

    def _seconds(self, key: str) -> float:
        """Since the attempt began; 0 where an earlier process of the sweep has seen that."""
        return time.monotonic() - self._since[key] if key in self._since else 0.0

    def _log(self, key: str) -> Path:
        return log_of(self._ledger.directory, key)


def log_of(directory: Path, key: str) -> Path:
    """The file that takes what a run's processes print."""
    return directory / f"{key}.log"


def tail_of(log: Path) -> list[str]:
    """The last lines of a log that are not empty; none where there is no log."""
    try:
        with log.open("rb") as file:
            file.seek(-min(_TAIL_BYTES, file.seek(0, os.SEEK_END)), os.SEEK_END)
            lines = file.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [line for line in lines if line.strip()][-TAIL_LINES:]


def describe_exit(code: int) -> str:
    """How a process ended, for people."""
    if code < 0:
        return f"was killed by signal {-code} ({signal.strsignal(-code)})"
    return f"ended with exit code {code}"
