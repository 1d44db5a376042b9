"""`nearfar sweep` as a user runs it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.sweeps.board import Board
from agent.sweeps.ledger import Ledger, PlannedRun
from configs.load import load_config
from configs.sweep import make_sweep
from scripts import cli, live, machine, sweep_engines
from scripts.engines import process
from scripts.run_directory import lock
from scripts.sweep_engines import Resources, resources_of

ROOT = Path(__file__).parents[2]
LIMIT_S = 120.0  # for what takes a second or two, on a machine that is busy

# What a run does, by its variant; {out} is its directory.
COMMANDS = {
    "fine": "echo fine",
    "crashes": "echo it broke >&2; exit 1",
    "saves": "trap 'echo saved; exit 143' TERM; touch {out}.ready; while :; do sleep 0.02; done",
}


def shell_command(run: PlannedRun, directory: Path) -> list[str]:
    return ["sh", "-c", COMMANDS[run.variant].format(out=directory / run.key)]


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "command_of", shell_command)


def flags(*variants: str) -> list[str]:
    named = [f"{variant}=debug" for variant in variants]
    return ["--tasks", "walker_walk", "--seeds", "1", "2", "--options", "device=cpu", "--variants", *named]


def sweep(*arguments: str | Path) -> int:
    return cli.main(["sweep", *map(str, arguments)])


@pytest.fixture
def mistake(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*arguments: str | Path) -> str:
        assert sweep(*arguments) == 2
        text = capsys.readouterr().err
        assert text.startswith("nearfar: error: ")
        assert text.count("\n") == 1, "one line"
        return text

    return run


def test_flags_alone_make_a_sweep(tmp_path: Path, shell: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(*flags("fine"), "--out", tmp_path, "--jobs", "2") == 0
    output = capsys.readouterr().out
    assert "2 runs, 2 at a time" in output
    assert "dmc/walker-walk/fine/seed-1 finished" in output
    assert "\x1b" not in output, "no terminal"
    assert output.splitlines()[-1] == "2 runs: 2 done"
    saved = yaml.safe_load((tmp_path / "sweep.yaml").read_text())
    assert saved == {
        "tasks": ["dmc/walker-walk"],
        "seeds": [1, 2],
        "options": {"device": "cpu"},
        "variants": {"fine": {"preset": "debug"}},
    }


def test_a_failing_run_is_reported(
    tmp_path: Path, shell: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sweep(*flags("crashes", "fine"), "--out", tmp_path) == 1
    output = capsys.readouterr().out
    assert "2 done, 2 failed" in output
    assert "dmc/walker-walk/crashes/seed-1: exit code 1" in output
    assert "    it broke" in output

    monkeypatch.setitem(COMMANDS, "crashes", "exit 0")
    assert sweep("--out", tmp_path) == 0, "the sweep of the directory, by which what failed is tried again"
    attempts = {key: record.attempts for key, record in Ledger.read(tmp_path).records.items()}
    assert sorted(attempts.values()) == [1, 1, 3, 3]


PROGRAM = """
import sys
sys.path.insert(0, {root!r})
from tests.cli.test_sweep import *
process.command_of = shell_command
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_lets_runs_save(tmp_path: Path, number: signal.Signals, code: int) -> None:
    arguments = ["sweep", *flags("saves"), "--out", str(tmp_path), "--jobs", "1"]
    command = [sys.executable, "-c", PROGRAM.format(root=str(ROOT)), *arguments]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + LIMIT_S
    while not (tmp_path / "dmc/walker-walk/saves/seed-1.ready").exists():
        assert time.monotonic() < deadline
        assert child.poll() is None, child.communicate()[0]
        time.sleep(0.02)
    child.send_signal(number)
    output, _ = child.communicate(timeout=LIMIT_S)
    assert child.returncode == code, output
    assert "Traceback" not in output
    assert "the same command goes on" in output
    assert (tmp_path / "dmc/walker-walk/saves/seed-1.log").read_text().endswith("saved\n")
    states = [record.state for record in Ledger.read(tmp_path).records.values()]
    assert states == ["stopped", "planned"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["smok"], "unknown sweep 'smok'; perhaps you meant smoke"),
        ([], "tasks is missing; seeds is missing; variants is missing"),
        (
            ["smoke", "--options", "trainin.batch_size=3"],
            "unknown option trainin; perhaps you meant training",
        ),
        (["smoke", "--options", "frames"], "--options frames: expected NAME=VALUE"),
        (["smoke", "--options", "frames=[3"], "--options frames=[3 is not YAML"),
        (["smoke", "--options", "frames=-3"], "frames: input should be greater than 0, not -3"),
        (
            ["smoke", "--variants", "x=cpu+byol,world_model.temperature=0.3"],
            "variant x: world_model.temperature does nothing here",
        ),
        (["smoke", "--variants", "predictiv"], "no variant 'predictiv'; perhaps you meant predictive"),
        (["smoke", "--variants", "a=debug,world_model.queu=3"], "perhaps you meant queue"),
        (["smoke", "--tasks", "walker-wolk"], "did you mean dmc/walker-walk"),
        (["smoke", "--tasks", "walker-walk", "walker_walk"], "dmc/walker-walk is listed twice"),
        (["smoke", "--slurm", "partition=long"], "--slurm partition=long is for --engine slurm"),
        (["smoke", "--slurm", "qos=low", "--dry-run"], "--slurm qos=low is for --engine slurm, not local"),
        (
            ["smoke", "--engine", "slurm", "--options", "device=cuda", "--runs-per-gpu", "2"],
            "--runs-per-gpu 2 is not for --engine slurm: each job has its own GPU",
        ),
        (
            ["smoke", "--engine", "ray", "--options", "device=cpu", "--runs-per-gpu", "2"],
            "--runs-per-gpu 2 does nothing here: no run is on a GPU",
        ),
        (["smoke", "--options", "device=cpu", "--runs-per-gpu", "3"], "no run is on a GPU"),
        (["dmc100k", "--engine", "slurm"], "give --options device=cuda or device=cpu"),
    ],
)
def test_mistakes_are_found_before_anything_starts(
    tmp_path: Path, mistake: Callable[..., str], arguments: list[str], message: str
) -> None:
    assert message in mistake(*arguments, "--out", tmp_path / "sweep")
    assert not (tmp_path / "sweep" / "ledger.jsonl").exists()


@pytest.mark.parametrize(("engine", "package"), [("slurm", "submitit"), ("ray", "ray")])
def test_a_missing_engine_is_named(
    tmp_path: Path, mistake: Callable[..., str], monkeypatch: pytest.MonkeyPatch, engine: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    text = mistake("smoke", "--options", "device=cpu", "--engine", engine, "--out", tmp_path / "sweep")
    assert f"pip install {package}" in text
    assert not (tmp_path / "sweep" / "ledger.jsonl").exists()


def test_two_sweeps_never_share_a_directory(tmp_path: Path, shell: None, mistake: Callable[..., str]) -> None:
    assert sweep(*flags("fine"), "--out", tmp_path) == 0
    with lock(tmp_path):
        text = mistake(*flags("fine"), "--out", tmp_path)
    assert f"{tmp_path} is in use by pid {os.getpid()}" in text


def test_a_damaged_ledger_is_named(tmp_path: Path, shell: None, mistake: Callable[..., str]) -> None:
    assert sweep(*flags("fine"), "--out", tmp_path) == 0
    with (tmp_path / "ledger.jsonl").open("a") as ledger:
        ledger.write("what\n")
    assert "ledger.jsonl, line 8 is no event" in mistake("--out", tmp_path)


def test_a_directory_with_other_things_is_refused(tmp_path: Path, mistake: Callable[..., str]) -> None:
    (tmp_path / "thesis.tex").touch()
    assert "holds no sweep" in mistake(*flags("fine"), "--out", tmp_path)


def test_other_options_are_refused(tmp_path: Path, shell: None, mistake: Callable[..., str]) -> None:
    assert sweep(*flags("fine"), "--out", tmp_path) == 0
    assert "variant fine: " in mistake("--out", tmp_path, "--options", "training.batch_size=9")


def test_what_never_began_may_change(tmp_path: Path, shell: None, mistake: Callable[..., str]) -> None:
    assert "no Slurm" in mistake(*flags("fine"), "--out", tmp_path, "--engine", "slurm")
    assert (tmp_path / "sweep.yaml").exists()
    assert sweep(*flags("fine"), "--options", "device=cpu", "frames=90", "--out", tmp_path) == 0


def test_dry_run_starts_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "sweep"
    assert sweep("objectives", "--options", "device=cpu", "--jobs", "3", "--dry-run", "--out", out) == 0
    output = capsys.readouterr().out
    assert "63 runs, 63 of them to do, 3 at a time" in output
    assert output.count("dmc/reacher-easy") == 7
    assert not out.exists()


def small(**options: Any) -> Any:
    values = {"tasks": ["dmc/walker-walk"], "seeds": list(range(9)), "variants": {"a": "cpu"}}
    return make_sweep(values | {"options": options}, "here")


@pytest.mark.parametrize(
    ("cores", "memory_gib", "gpus", "jobs", "runs_per_gpu", "expected"),
    [
        (2, 64.0, 0, None, 1, Resources(2, 1)),
        (16, 64.0, 0, None, 1, Resources(9, 1)),  # there are nine runs
        (16, 4.5, 0, None, 1, Resources(2, 8)),
        (16, 0.5, 0, None, 1, Resources(1, 16)),
        (16, 64.0, 0, 3, 1, Resources(3, 5)),
        (2, 64.0, 0, 5, 1, Resources(5, 1)),
        (16, 64.0, 2, None, 3, Resources(6, 2, ("0", "1"), 3)),
        (16, 64.0, 1, None, 1, Resources(1, 16, ("0",))),
    ],
)
def test_as_many_runs_as_the_machine_carries(
    monkeypatch: pytest.MonkeyPatch,
    cores: int,
    memory_gib: float,
    gpus: int,
    jobs: int | None,
    runs_per_gpu: int,
    expected: Resources,
) -> None:
    monkeypatch.setattr(machine, "hardware", lambda: {"cores": cores})
    monkeypatch.setattr(machine, "free_memory_gib", lambda: memory_gib)
    monkeypatch.setattr(machine, "visible_gpus", lambda: [str(i) for i in range(gpus)])
    assert resources_of(small(), "local", jobs=jobs, runs_per_gpu=runs_per_gpu) == expected


def test_more_runs_than_gpus_take_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "visible_gpus", lambda: ["0"])
    with pytest.raises(ValueError, match="3 jobs are more than 1 GPUs take with --runs-per-gpu 2"):
        resources_of(small(), "local", jobs=3, runs_per_gpu=2)
    on_cpu = resources_of(small(device="cpu"), "local", jobs=3, runs_per_gpu=1)
    assert on_cpu.gpus == (), "they need none"


def test_a_cluster_takes_all_runs_at_once() -> None:
    found = resources_of(small(), "slurm", jobs=None, runs_per_gpu=1)
    assert (found.jobs, found.threads) == (9, sweep_engines.CLUSTER_THREADS)
    assert not found.on_gpu(small().config_of("a"))
    assert found.on_gpu(small(device="cuda").config_of("a"))


def test_free_memory_is_what_new_processes_may_take(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  2000000 kB\nMemAvailable:    1048576 kB\n")
    assert machine.free_memory_gib(meminfo) == 1.0
    assert machine.free_memory_gib(tmp_path / "absent") > 1.0


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_table_is_redrawn_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "REDRAW_S", 0.0)
    ledger = Ledger(tmp_path)
    runs = [PlannedRun("dmc/walker-walk", "a", seed, 100, 1, ()) for seed in (1, 2)]
    for run in runs:
        ledger.plan(run)
    config = small(device="cpu").config_of("a")
    costs = {run.key: sweep_cost() for run in runs}
    board = Board(ledger, [run.key for run in runs], {"a": config}, costs, jobs=1)
    terminal = Terminal()
    view = live.LiveView(board, terminal)
    view.refresh(())
    first = terminal.getvalue()
    assert "\x1b" not in first
    assert len(first.splitlines()) == 4
    view.refresh(())
    assert terminal.getvalue() == first + "\x1b[4A\x1b[J" + first
    view.event("something")
    assert terminal.getvalue().removeprefix(first + "\x1b[4A\x1b[J" + first).startswith("\x1b[4A\x1b[J")
    assert terminal.getvalue().endswith("  something\n")
    ledger.start(runs[0].key, "pid 1")
    view.close()
    assert "running" in terminal.getvalue().rpartition("something")[2]


def sweep_cost() -> Any:
    from agent.sweeps.estimate import Cost

    return Cost(seconds=10.0, memory_mb=1.0, disk_mb=1.0, updates=1)


def test_runs_of_a_sweep_are_those_of_train(tmp_path: Path) -> None:
    """From the command line to run directories, with real runs of a task that needs no drawing."""
    options = ["frames=120", "training.random_frames=40", "evaluation.every_frames=60", "device=cpu"]
    arguments = ["--tasks", "counting", "--seeds", "1", "--variants", "a=debug", "b=debug+predictive"]
    out = tmp_path / "sweep"
    assert sweep(*arguments, "--options", *options, "--out", out, "--jobs", "2") == 0
    for variant, objective in (("a", "contrastive"), ("b", "predictive")):
        run = out / "counting" / variant / "seed-1"
        config = load_config(run / "config.yaml")
        assert (config.task, config.seed, config.frames) == ("counting", 1, 120)
        assert config.world_model.objective == objective
        assert config.training.threads >= 1
        assert (run / "eval.csv").read_text().splitlines()[-1].startswith("120,")
    events = [json.loads(line)["event"] for line in (out / "ledger.jsonl").read_text().splitlines()]
    assert sorted(events) == ["finished"] * 2 + ["opened"] + ["planned"] * 2 + ["started"] * 2
