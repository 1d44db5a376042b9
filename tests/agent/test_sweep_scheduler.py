"""The scheduler with engines whose runs are shell commands, and what it writes into the ledger."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

import pytest

from agent.sweeps import scheduler as scheduling
from agent.sweeps.ledger import LEDGER, Ledger, PlannedRun, RunRecord
from agent.sweeps.scheduler import Scheduler, describe_exit, log_of, tail_of
from scripts.engines import process
from scripts.engines.local import LocalEngine
from scripts.run_directory import is_held, lock

ROOT = Path(__file__).parents[2]
LIMIT_S = 60.0  # for what takes a fraction of a second, on a machine that is busy

FINE = "exit 0"
CRASHES = "echo before; echo it broke >&2; exit 1"
CRASHES_ONCE = "mkdir {out} 2>/dev/null && {{ echo it broke; exit 1; }}; exit 0"
MISTAKE = "echo no such option >&2; exit 2"
# Saves when asked to, as `nearfar train` does.
SAVES = "trap 'echo saved; exit 143' TERM; touch {out}.ready; while :; do sleep 0.02; done"
DEAF = "trap '' TERM; touch {out}.ready; while :; do sleep 0.02; done"


class Stop:
    requested = False


class Notes:
    """A view that remembers, and may ask for the end once it has seen enough."""

    def __init__(self, stop: Stop | None = None, until: Callable[[], bool] = lambda: False) -> None:
        self.events: list[str] = []
        self.most = 0
        self._stop, self._until = stop, until

    def event(self, text: str) -> None:
        self.events.append(text)

    def refresh(self, going: Collection[str]) -> None:
        self.most = max(self.most, len(going))
        if self._stop and self._until():
            self._stop.requested = True


def planned(name: str, *arguments: str, threads: int = 1) -> PlannedRun:
    return PlannedRun("dmc/walker-walk", name, 1, 100, threads, arguments)


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs' first argument is a command of the shell, with their directory as {out}."""

    def command_of(run: PlannedRun, directory: Path) -> list[str]:
        return ["sh", "-c", run.arguments[0].format(out=directory / run.key)]

    monkeypatch.setattr(process, "command_of", command_of)


def scheduled(
    directory: Path, commands: dict[str, str], *, jobs: int = 2, view: Notes | None = None
) -> tuple[Scheduler, list[str], Ledger]:
    ledger = Ledger.read(directory)
    ledger.open(engine="local", jobs=jobs)
    runs = [planned(name, command) for name, command in commands.items()]
    for run in runs:
        if run.key not in ledger.records:
            ledger.plan(run)
    keys = [run.key for run in runs]
    engine, shown = LocalEngine(directory), view or Notes()
    scheduler = Scheduler(ledger, keys, engine, jobs=jobs, is_held=is_held, view=shown, poll_s=0.01)
    return scheduler, keys, ledger


def states(records: list[RunRecord]) -> dict[str, str]:
    return {record.run.variant: record.state for record in records}


def test_one_failing_run_stops_no_other_and_is_tried_twice(tmp_path: Path, shell: None) -> None:
    commands = {"crashes": CRASHES, "mistake": MISTAKE, "once": CRASHES_ONCE, "fine": FINE, "late": FINE}
    scheduler, keys, _ = scheduled(tmp_path, commands)
    records = scheduler.carry_out(Stop())
    assert states(records) == {
        "crashes": "failed",
        "mistake": "failed",
        "once": "finished",
        "fine": "finished",
        "late": "finished",
    }
    attempts = {record.run.variant: record.attempts for record in records}
    assert attempts == {"crashes": 2, "mistake": 1, "once": 2, "fine": 1, "late": 1}
    crashed = records[0]
    assert (crashed.exit_code, crashed.tail[-2:]) == (1, ("before", "it broke"))
    assert Ledger.read(tmp_path).records == {key: record for key, record in zip(keys, records, strict=True)}


def test_never_more_runs_than_jobs(tmp_path: Path, shell: None) -> None:
    view = Notes()
    scheduler, _, _ = scheduled(tmp_path, {str(i): "sleep 0.05" for i in range(7)}, jobs=3, view=view)
    assert set(states(scheduler.carry_out(Stop())).values()) == {"finished"}
    assert view.most == 3


def test_finished_runs_are_not_started_again_and_failed_ones_are(tmp_path: Path, shell: None) -> None:
    scheduler, *_ = scheduled(tmp_path, {"fine": FINE, "fails": MISTAKE})
    scheduler.carry_out(Stop())
    scheduler, *_ = scheduled(tmp_path, {"fine": FINE, "fails": MISTAKE})
    records = scheduler.carry_out(Stop())
    assert [record.attempts for record in records] == [1, 2]


def test_a_stop_lets_runs_save_and_starts_no_others(tmp_path: Path, shell: None) -> None:
    stop = Stop()
    commands = {"a": SAVES, "b": SAVES, "c": SAVES}
    ready = [tmp_path / f"{planned(name).key}.ready" for name in "ab"]
    view = Notes(stop, lambda: all(path.exists() for path in ready))
    scheduler, keys, _ = scheduled(tmp_path, commands, view=view)
    records = scheduler.carry_out(stop)
    assert states(records) == {"a": "stopped", "b": "stopped", "c": "planned"}
    assert tail_of(log_of(tmp_path, keys[0]))[-1] == "saved"


def test_a_run_that_does_not_stop_is_killed(
    tmp_path: Path, shell: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduling, "STOP_GRACE_S", 0.2)
    stop = Stop()
    ready = tmp_path / f"{planned('deaf').key}.ready"
    scheduler, _, _ = scheduled(tmp_path, {"deaf": DEAF}, view=Notes(stop, ready.exists))
    assert states(scheduler.carry_out(stop)) == {"deaf": "stopped"}


def test_a_run_that_cannot_be_started_counts_as_crashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def command_of(run: PlannedRun, directory: Path) -> list[str]:
        return [str(tmp_path / "absent") if run.variant == "none" else "true"]

    monkeypatch.setattr(process, "command_of", command_of)
    scheduler, _, _ = scheduled(tmp_path, {"none": "", "fine": ""})
    first, second = scheduler.carry_out(Stop())
    assert (first.state, first.attempts, second.state) == ("failed", 2, "finished")
    assert "could not be started" in first.tail[0]


def test_a_directory_in_use_is_waited_for_and_counts_as_a_job(tmp_path: Path, shell: None) -> None:
    held = tmp_path / planned("held").key
    held.mkdir(parents=True)
    context = lock(held)
    context.__enter__()
    done = tmp_path / f"{planned('other').key}.done"

    class Releases(Notes):
        def refresh(self, going: Collection[str]) -> None:
            super().refresh(going)
            if done.exists() and not going:
                context.__exit__(None, None, None)

    view = Releases()
    commands = {"held": FINE, "other": "sleep 0.05; touch {out}.done", "third": FINE}
    scheduler, _, _ = scheduled(tmp_path, commands, jobs=2, view=view)
    assert set(states(scheduler.carry_out(Stop())).values()) == {"finished"}
    assert view.most == 1, "the other process took one of the two places"
    assert sum("in use by another process" in event for event in view.events) == 1
    started = [event.split()[0] for event in view.events if " started" in event]
    assert started[-1] == planned("held").key


SWEEP = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.agent.test_sweep_scheduler import *
patch = pytest.MonkeyPatch()
patch.setattr(process, "command_of", lambda run, directory: [
    "sh", "-c", run.arguments[0].format(out=directory / run.key)])
directory = Path(sys.argv[1])
scheduler, _, _ = scheduled(directory, {commands!r}, jobs=3)
scheduler.carry_out(Stop())
"""


def test_killed_and_started_again_it_goes_on_with_what_is_unfinished(tmp_path: Path, shell: None) -> None:
    """Its runs are told by the kernel, and save."""
    commands = {"fine": FINE, "one": SAVES, "two": SAVES}
    program = SWEEP.format(root=str(ROOT), commands=commands)
    keys = [planned(name).key for name in commands]
    sweep = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)])
    try:
        wait_until(lambda: all((tmp_path / f"{key}.ready").exists() for key in keys[1:]))
        wait_until(lambda: Ledger.read(tmp_path).records[keys[0]].state == "finished")
    finally:
        sweep.send_signal(signal.SIGKILL)
        sweep.wait()
    for key in keys[1:]:
        wait_until(partial(has_saved, log_of(tmp_path, key)))
    with (tmp_path / LEDGER).open("a") as ledger:
        ledger.write('{"event": "fin')  # torn
    scheduler, _, _ = scheduled(tmp_path, dict.fromkeys(commands, FINE))
    for key in keys[1:]:  # what it does from here on is another matter
        scheduler._ledger.plan(planned(key.split("/")[2], FINE))
    records = scheduler.carry_out(Stop())
    assert [(record.state, record.attempts) for record in records] == [
        ("finished", 1),
        ("finished", 2),
        ("finished", 2),
    ]
    lines = (tmp_path / LEDGER).read_text().splitlines()
    assert Counter(json.loads(line)["event"] for line in lines)["finished"] == 3


def has_saved(log: Path) -> bool:
    return tail_of(log)[-1] == "saved"


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while True:
        try:
            if condition():
                return
        except (IndexError, KeyError):
            pass
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_threads_and_the_gpu_reach_the_run(tmp_path: Path, shell: None) -> None:
    engine = LocalEngine(tmp_path, ["3", "5"])
    show = "echo $OMP_NUM_THREADS $CUDA_VISIBLE_DEVICES; sleep 0.3"
    attempts = [engine.start(planned(name, show, threads=4)) for name in "abc"]
    for attempt in attempts:
        while attempt.poll() is None:
            time.sleep(0.01)
    assert [attempt.gpu for attempt in attempts] == ["3", "5", "3"]
    shown = [tail_of(log_of(tmp_path, planned(name).key))[-1] for name in "abc"]
    assert shown == ["4 3", "4 5", "4 3"]


def test_log_keeps_all_attempts_apart(tmp_path: Path, shell: None) -> None:
    scheduler, (key,), _ = scheduled(tmp_path, {"crashes": CRASHES})
    scheduler.carry_out(Stop())
    lines = log_of(tmp_path, key).read_text().splitlines()
    assert [line == "it broke" for line in lines] == [False, False, True] * 2
    assert all(line.startswith("--- 20") for line in lines[::3])


def test_tail_is_short_and_bears_any_bytes(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * 20_000 + b"\xff\n\n" + b"".join(b"%d\n" % i for i in range(30)))
    assert tail_of(log) == [str(i) for i in range(20, 30)]
    assert tail_of(tmp_path / "absent") == []


def test_exit_codes_for_people() -> None:
    assert describe_exit(1) == "ended with exit code 1"
    assert describe_exit(-signal.SIGKILL) == "was killed by signal 9 (Killed)"
    assert os.name == "posix"
