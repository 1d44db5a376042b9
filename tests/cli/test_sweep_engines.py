"""Slurm, through submitit's executor for one machine, and Ray, on a cluster of this machine."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest

from agent.sweeps.ledger import Ledger, PlannedRun, RunRecord
from agent.sweeps.scheduler import Engine, Scheduler, log_of, tail_of
from configs.load import ConfigError, load_config
from configs.schema import Config
from scripts import cli
from scripts.engines import process
from scripts.engines.process import RemoteRun
from scripts.run_directory import is_held
from scripts.sweep_engines import Resources, fitted_to_ray

LIMIT_S = 120.0  # for what takes seconds, on a machine that is busy
STARTS = 3  # of Ray, which gives its own processes 15 s to come up
SAVES = "trap 'echo saved; exit 143' TERM; touch {out}.ready; while :; do sleep 0.02; done"


def planned(name: str, command: str) -> PlannedRun:
    return PlannedRun("dmc/walker-walk", name, 1, 100, 1, (command,))


@pytest.fixture
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
def one_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs of Slurm are carried out here."""
    from scripts.engines import slurm

    monkeypatch.setattr(slurm, "CLUSTER", "local")


@pytest.fixture(scope="module")
def started_ray() -> Iterator[None]:
    """A cluster of this machine, with room for one run, and with as few processes as there can be."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")  # or it writes a token into the home directory
        import ray

        for number in range(STARTS):
            try:
                ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
                break
            except Exception:
                ray.shutdown()
                if number == STARTS - 1:
                    raise
        yield
        ray.shutdown()


@pytest.fixture
def slurm(tmp_path: Path, shell: None, one_machine: None) -> Engine:
    from scripts.engines.slurm import SlurmEngine

    return SlurmEngine(tmp_path, {"timeout_min": 5}, on_gpu=False)


@pytest.fixture
def ray_cluster(tmp_path: Path, shell: None, started_ray: None) -> Engine:
    from scripts.engines.ray_cluster import RayEngine

    return RayEngine(tmp_path, gpus_per_run=0)


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


def test_what_each_run_has_of_its_own_is_refused(tmp_path: Path, one_machine: None) -> None:
    from scripts.engines.slurm import SlurmEngine

    with pytest.raises(ConfigError, match=r"--slurm cpus_per_task .* --options training.threads=N"):
        SlurmEngine(tmp_path, {"cpus_per_task": 8}, on_gpu=False)


def test_without_slurm_the_remedy_is_named(tmp_path: Path) -> None:
    from scripts.engines.slurm import SlurmEngine

    with pytest.raises(ConfigError, match=r"no Slurm here .* --engine local"):
        SlurmEngine(tmp_path, {}, on_gpu=False)


def test_a_run_that_does_not_end_in_time_is_killed_while_slurm_still_listens(
    tmp_path: Path, shell: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scripts.engines.process._PREEMPTED_GRACE_S", 0.3)
    run = planned("deaf", "trap '' TERM; touch {out}.ready; while :; do sleep 0.02; done")
    remote = RemoteRun(run, tmp_path)
    waiting = threading.Thread(target=remote)  # until it is killed
    waiting.start()
    while not (tmp_path / f"{run.key}.ready").exists():
        time.sleep(0.02)
    started = time.monotonic()
    remote.checkpoint()
    assert time.monotonic() - started < 20
    waiting.join(timeout=20)
    assert not waiting.is_alive()


def test_a_job_saves_and_is_submitted_again_where_its_time_is_up(tmp_path: Path, shell: None) -> None:
    """Slurm signals every process of the job; the run outlives that, and saves when submitit's has asked."""
    run = planned("saves", SAVES)
    remote = RemoteRun(run, tmp_path)
    ready = tmp_path / f"{run.key}.ready"

    class TimeIsUp(Exception):
        pass

    def checkpoint(number: int, frame: object) -> None:
        time.sleep(0.5)  # time for the others to die of it
        again = remote.checkpoint()
        assert again.function is remote
        raise TimeIsUp

    def slurm_signals(number: int, frame: object) -> None:
        if ready.exists():
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert remote._process is not None
            os.killpg(remote._process.pid, signal.SIGUSR2)
            os.kill(os.getpid(), signal.SIGUSR2)

    before = {
        signal.SIGALRM: signal.signal(signal.SIGALRM, slurm_signals),
        signal.SIGUSR2: signal.signal(signal.SIGUSR2, checkpoint),
    }
    signal.setitimer(signal.ITIMER_REAL, 0.2, 0.2)
    try:
        with pytest.raises(TimeIsUp):
            remote()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
    assert tail_of(log_of(tmp_path, run.key))[-1] == "saved"


class Nodes:
    """A Ray that is connected to machines with these resources."""

    def __init__(self, *resources: dict[str, float]) -> None:
        self._resources = resources

    def is_initialized(self) -> bool:
        return True

    def nodes(self) -> list[dict[str, Any]]:
        gone = {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}}
        return [gone, *({"Alive": True, "Resources": each} for each in self._resources)]


SMALL, LARGE, GPU = {"CPU": 2.0}, {"CPU": 16.0, "memory": 1e9}, {"CPU": 3.0, "GPU": 1.0}


@pytest.mark.parametrize(
    ("nodes", "runs_per_gpu", "device", "threads"),
    [
        ((SMALL,), 1, "cpu", 2),
        ((SMALL, LARGE), 1, "cpu", 4),
        ((SMALL, LARGE, GPU), 1, "cuda", 3),
        ((GPU,), 2, "cuda", 3),
    ],
)
def test_no_run_asks_for_more_than_a_machine_of_the_cluster_has(
    monkeypatch: pytest.MonkeyPatch,
    nodes: tuple[dict[str, float], ...],
    runs_per_gpu: int,
    device: Literal["cpu", "cuda"],
    threads: int,
) -> None:
    monkeypatch.setitem(sys.modules, "ray", Nodes(*nodes))
    resources = Resources(9, 4, runs_per_gpu=runs_per_gpu, on_cluster=True)
    assert fitted_to_ray(resources, [Config(device=device)]).threads == threads


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ((SMALL, LARGE), "no node of the Ray cluster has a GPU, .* give --options device=cpu"),
        (({"GPU": 1.0},), "no node of the Ray cluster has a CPU to give"),
    ],
)
def test_what_no_machine_of_the_cluster_can_hold_is_refused(
    monkeypatch: pytest.MonkeyPatch, nodes: tuple[dict[str, float], ...], message: str
) -> None:
    monkeypatch.setitem(sys.modules, "ray", Nodes(*nodes))
    with pytest.raises(ConfigError, match=message):
        fitted_to_ray(Resources(9, 4, on_cluster=True), [Config(device="cuda")])


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (None, "Ray starts no cluster on this machine (it timed out): "),
        ("head:6379", "no Ray cluster answers at head:6379 (it timed out): check RAY_ADDRESS"),
    ],
)
def test_a_cluster_that_does_not_come_up_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    address: str | None,
    message: str,
) -> None:
    def init(**options: Any) -> None:
        raise Exception("it timed out\nand more of it")  # as Ray does, of no class of its own

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False, init=init))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address is not None:
        monkeypatch.setenv("RAY_ADDRESS", address)
    arguments = ["sweep", "smoke", "--options", "device=cpu", "--out", str(tmp_path / "sweep")]
    assert cli.main([*arguments, "--engine", "ray"]) == 2
    text = capsys.readouterr().err
    assert message in text and text.count("\n") == 1, "one line"


def test_a_run_that_was_planned_elsewhere_fits_all_the_same(tmp_path: Path, ray_cluster: Engine) -> None:
    attempt = ray_cluster.start(replace(planned("fine", "exit 0"), threads=64))
    deadline = time.monotonic() + LIMIT_S
    while (code := attempt.poll()) is None:
        assert time.monotonic() < deadline, "no machine has 64 cores: it waits for ever"
        time.sleep(0.05)
    assert code == 0


@pytest.mark.parametrize("name", ["local", "slurm", "ray"])
def test_every_engine_runs_the_same_sweep_file(
    tmp_path: Path, request: pytest.FixtureRequest, name: str
) -> None:
    request.getfixturevalue({"local": "tmp_path", "slurm": "one_machine", "ray": "started_ray"}[name])
    file, out = tmp_path / "tiny.yaml", tmp_path / "sweep"
    file.write_text(
        """
        tasks: [counting]
        seeds: [3]
        options: {frames: 100, obs: state, device: cpu, training: {random_frames: 40, threads: 1}}
        variants: {small: debug}
        """
    )
    assert cli.main(["sweep", str(file), "--engine", name, "--out", str(out)]) == 0
    lines = (out / "ledger.jsonl").read_text().splitlines()
    events = {event.pop("event"): event for event in map(json.loads, lines)}
    assert list(events) == ["opened", "planned", "started", "finished"]
    assert events["opened"]["engine"] == name
    place = {"local": "pid ", "slurm": "job ", "ray": "task "}[name]
    assert events["started"]["place"].startswith(place)
    run = out / "counting" / "small" / "seed-3"
    config = load_config(run / "config.yaml")
    assert (config.task, config.seed, config.frames, config.training.threads) == ("counting", 3, 100, 1)
    assert (run / "eval.csv").read_text().splitlines()[-1].startswith("100,")
    assert (run / "manifest.json").exists() and list((run / "checkpoints").iterdir())
    (started,) = [
        line for line in run.with_suffix(".log").read_text().splitlines() if line.startswith("--- ")
    ]
    assert "scripts.cli train" in started
