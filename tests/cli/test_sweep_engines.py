"""Slurm, through submitit's executor for one machine, and Ray, on a cluster of this machine."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.sweeps.ledger import Ledger, PlannedRun, RunRecord
from agent.sweeps.scheduler import Engine, Scheduler, log_of, tail_of
from configs.load import ConfigError
from scripts.engines import process
from scripts.engines.process import RemoteRun
from scripts.run_directory import is_held

LIMIT_S = 120.0  # for what takes seconds, on a machine that is busy
SAVES = "trap 'echo saved; exit 143' TERM; touch {out}.ready; while :; do sleep 0.02; done"


def planned(name: str, command: str) -> PlannedRun:
    return PlannedRun("dmc/walker-walk", name, 1, 100, 1, (command,))


@pytest.fixture(autouse=True)
def shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs' argument is a command of the shell, with their directory as {out}."""

    def command_of(run: PlannedRun, directory: Path) -> list[str]:
        return ["sh", "-c", run.arguments[0].format(out=directory / run.key)]

    monkeypatch.setattr(process, "command_of", command_of)


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Jobs hear SIGINT, as below `nearfar sweep`; what a shell has put in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    pytest.importorskip("submitit", reason="the engine slurm is an extra")
    from scripts.engines import slurm

    monkeypatch.setattr(slurm, "CLUSTER", "local")
    return slurm.SlurmEngine(tmp_path, {"timeout_min": 5}, on_gpu=False)


@pytest.fixture
def ray_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    ray = pytest.importorskip("ray", reason="the engine ray is an extra")
    from scripts.engines.ray_cluster import RayEngine

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if not ray.is_initialized():
        # It measures the cores itself, and does not let in what they are too few for.
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield RayEngine(tmp_path, gpus_per_run=0)


@pytest.fixture(params=["slurm", "ray_cluster"])
def engine(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


class Stop:
    requested = False


class Until:
    """A view that asks for the end once a condition holds."""

    def __init__(self, stop: Stop, condition: Callable[[], bool]) -> None:
        self._stop, self._condition = stop, condition
        self._deadline = time.monotonic() + LIMIT_S

    def event(self, text: str) -> None:
        pass

    def refresh(self, going: Collection[str]) -> None:
        self._stop.requested = self._condition() or time.monotonic() > self._deadline


def carried_out(directory: Path, engine: Engine, commands: dict[str, str], until: Any) -> list[RunRecord]:
    ledger = Ledger.read(directory)
    runs = [planned(name, command) for name, command in commands.items()]
    for run in runs:
        if run.key not in ledger.records:
            ledger.plan(run)
    stop = Stop()
    view = Until(stop, until)
    scheduler = Scheduler(
        ledger, [run.key for run in runs], engine, jobs=2, is_held=is_held, view=view, poll_s=0.05
    )
    return scheduler.carry_out(stop)


def test_runs_end_as_they_do_here(tmp_path: Path, engine: Engine) -> None:
    once = "mkdir {out} 2>/dev/null && {{ echo it broke; exit 1; }}; exit 0"
    commands = {"fine": "echo $OMP_NUM_THREADS", "once": once, "mistake": "echo what; exit 2"}
    records = carried_out(tmp_path, engine, commands, lambda: False)
    assert [(record.state, record.attempts) for record in records] == [
        ("finished", 1),
        ("finished", 2),
        ("failed", 1),
    ]
    assert tail_of(log_of(tmp_path, records[0].run.key))[-1] == "1"
    assert records[2].tail[-1] == "what"


def test_a_stop_lets_runs_save(tmp_path: Path, engine: Engine) -> None:
    ready = tmp_path / f"{planned('saves', SAVES).key}.ready"
    (record,) = carried_out(tmp_path, engine, {"saves": SAVES}, ready.exists)
    assert record.state == "stopped"
    deadline = time.monotonic() + LIMIT_S
    while tail_of(log_of(tmp_path, record.run.key))[-1] != "saved":
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_job_of_an_earlier_sweep_is_followed(tmp_path: Path, slurm: Any) -> None:
    ledger = Ledger(tmp_path)
    run = planned("fine", "exit 0")
    ledger.plan(run)
    attempt = slurm.start(run)
    ledger.start(run.key, attempt.place)
    deadline = time.monotonic() + LIMIT_S
    while attempt.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (record,) = carried_out(tmp_path, slurm, {"fine": "exit 1"}, lambda: False)
    assert (record.state, record.attempts) == ("finished", 1), "it was not started again"
    assert record.seconds == 0


def test_place_of_another_engine_is_not_followed(slurm: Any) -> None:
    assert slurm.adopt(RunRecord(planned("a", ""), "started", place="pid 12")) is None


def test_parameters_of_slurm_are_checked(tmp_path: Path, slurm: Any) -> None:
    from scripts.engines.slurm import SlurmEngine

    SlurmEngine(tmp_path, {"partition": "long", "mem_gb": 8}, on_gpu=True)
    with pytest.raises(ConfigError, match=r"--slurm partitio: .* perhaps you meant partition"):
        SlurmEngine(tmp_path, {"partitio": "long"}, on_gpu=False)


def test_without_slurm_the_remedy_is_named(tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="the engine slurm is an extra")
    from scripts.engines.slurm import SlurmEngine

    with pytest.raises(ConfigError, match=r"no Slurm here .* --engine local"):
        SlurmEngine(tmp_path, {}, on_gpu=False)


def test_a_job_saves_and_is_submitted_again_where_its_time_is_up(tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="the engine slurm is an extra")
    run = planned("saves", SAVES)
    remote = RemoteRun(run, tmp_path)
    ready = tmp_path / f"{run.key}.ready"

    class TimeIsUp(Exception):
        pass

    def checkpoint(number: int, frame: object) -> None:
        if not ready.exists():
            return
        again = remote.checkpoint()
        assert again.function is remote
        raise TimeIsUp

    before = signal.signal(signal.SIGALRM, checkpoint)
    signal.setitimer(signal.ITIMER_REAL, 0.2, 0.2)
    try:
        with pytest.raises(TimeIsUp):
            remote()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert tail_of(log_of(tmp_path, run.key))[-1] == "saved"
