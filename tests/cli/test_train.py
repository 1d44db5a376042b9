"""`nearfar train` and `evaluate` as a user runs them: processes, files and exit codes."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml
from PIL import Image

from agent import load_agent
from configs.load import load_config
from envs.episodes import EpisodeStore
from scripts import cli
from scripts.launch import ALLOCATOR
from scripts.train import StopFlag

pytestmark = pytest.mark.gl

Mistake = Callable[..., str]

# One thread, as the tests themselves have: sums are rounded otherwise where they are split.
ONE_THREAD = ("--training.threads", "1")
DEBUG = ("train", "--task", "cartpole_swingup", "--preset", "debug", "--device", "cpu", *ONE_THREAD)


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "scripts.cli", *map(str, arguments)]


def evaluations(run: Path) -> list[dict[str, str]]:
    with (run / "eval.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def started(arguments: Sequence[str | Path], run: Path, log: Path) -> subprocess.Popen[bytes]:
    """A training process that has saved its first checkpoint."""
    with log.open("w") as output:
        process = subprocess.Popen(command(*arguments), stdout=output, stderr=output)
    deadline = time.monotonic() + 180
    while not list(run.glob("checkpoints/*.safetensors")):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
    return process


def copy_of(run: Path, target: Path) -> Path:
    shutil.copytree(run, target)
    return target


@pytest.fixture
def mistake(capsys: pytest.CaptureFixture[str]) -> Mistake:
    """Runs a command that is a user's mistake; returns what it said on stderr."""

    def run(*arguments: str | Path) -> str:
        assert cli.main([str(argument) for argument in arguments]) == 2
        text = capsys.readouterr().err
        assert "nearfar: error: " in text
        return text

    return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run directory, never written to by a test, and what its run printed."""
    run = tmp_path_factory.mktemp("finished") / "run"
    done = subprocess.run(
        command(*DEBUG, "--out", run), capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    return run, done.stdout


def test_run_directory_is_complete(finished: tuple[Path, str]) -> None:
    run, _ = finished
    names = {path.name for path in run.iterdir()}
    assert names >= {
        "checkpoints",
        "config.yaml",
        "episodes",
        "eval.csv",
        "learning-curve.png",
        "manifest.json",
        "metrics.jsonl",
        "tensorboard",
        "videos",
    }
    config = load_config(run / "config.yaml")
    assert (config.task, config.preset) == ("dmc/cartpole-swingup", "debug"), "names are resolved"
    assert [row["frames"] for row in evaluations(run)] == ["1000", "2000"]
    assert all(0 <= float(row["return_mean"]) <= 1000 for row in evaluations(run))
    assert any((run / "checkpoints").iterdir())
    assert any((run / "tensorboard").iterdir())


def test_pictures_can_be_seen(finished: tuple[Path, str]) -> None:
    run, _ = finished
    with Image.open(run / "learning-curve.png") as curve:
        assert min(curve.size) > 200
    with Image.open(max((run / "videos").glob("*.gif"))) as video:
        assert getattr(video, "n_frames", 1) > 10


def test_manifest_says_what_and_where(finished: tuple[Path, str]) -> None:
    manifest = json.loads((finished[0] / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["command"][:2] == ["nearfar", "train"]
    assert manifest["rendering"]["renderer"]
    assert manifest["rendering"]["backend"] in ("egl", "osmesa", "glfw")
    assert manifest["versions"]["mujoco"].startswith("3.")
    assert (manifest["task"], manifest["seed"]) == ("dmc/cartpole-swingup", 1)
    assert (manifest["look"], manifest["distract"]) == ("fast", "none")
    assert manifest["hardware"]["cores"] >= 1


def test_closing_report_says_where_to_look(finished: tuple[Path, str]) -> None:
    run, output = finished
    assert "dmc/cartpole-swingup" in output
    for path in (run / "learning-curve.png", max((run / "videos").glob("*.gif"))):
        assert str(path) in output
    assert f"--logdir {run / 'tensorboard'}" in output


def test_finished_run_is_left_as_it_is(finished: tuple[Path, str], tmp_path: Path) -> None:
    run = copy_of(finished[0], tmp_path / "run")
    assert cli.main([*DEBUG, "--out", str(run)]) == 0
    assert evaluations(run) == evaluations(finished[0])


def test_run_is_extended(finished: tuple[Path, str], tmp_path: Path) -> None:
    run = copy_of(finished[0], tmp_path / "run")
    assert cli.main([*DEBUG, "--out", str(run), "--frames", "3000"]) == 0
    assert evaluations(run)[:2] == evaluations(finished[0])
    assert [row["frames"] for row in evaluations(run)] == ["1000", "2000", "3000"]


@pytest.mark.parametrize("option", [("--seed", "9"), ("--training.batch-size", "9")])
def test_other_options_are_refused(
    finished: tuple[Path, str], option: tuple[str, str], mistake: Mistake
) -> None:
    text = mistake(*DEBUG, "--out", finished[0], *option)
    assert f"{option[0]} was " in text
    assert "now 9" in text
    assert "another --out" in text


def test_run_in_use_is_refused(finished: tuple[Path, str], tmp_path: Path, mistake: Mistake) -> None:
    run = copy_of(finished[0], tmp_path / "run")
    with (run / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        print("4321", file=lock, flush=True)
        assert "in use by pid 4321" in mistake(*DEBUG, "--out", run)


def test_truncated_checkpoint_is_named(finished: tuple[Path, str], tmp_path: Path, mistake: Mistake) -> None:
    run = copy_of(finished[0], tmp_path / "run")
    newest = max((run / "checkpoints").iterdir())
    os.truncate(newest, newest.stat().st_size // 2)
    text = mistake(*DEBUG, "--out", run, "--frames", "3000")
    assert str(newest) in text
    assert "delete it" in text


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_saves_and_the_run_goes_on(tmp_path: Path, number: signal.Signals, code: int) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    arguments = (*DEBUG, "--out", run, "--frames", "3000")
    process = started(arguments, run, log)
    process.send_signal(number)
    assert process.wait(timeout=60) == code, log.read_text()
    assert "Traceback" not in log.read_text()
    before = evaluations(run)
    assert len(before) < 3, "it was still running"

    assert cli.main([str(argument) for argument in arguments]) == 0
    assert [row["frames"] for row in evaluations(run)] == ["1000", "2000", "3000"]
    assert evaluations(run)[0] == before[0]


def children(pid: int) -> set[int]:
    """Processes that a process has started, and those that these have."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found |= {child} | children(child)
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_several_environments_leave_no_orphans(tmp_path: Path, number: signal.Signals) -> None:
    """And the run goes on with all of them."""
    run, log = tmp_path / "run", tmp_path / "log"
    rare = ("--evaluation.every-frames", "2000")
    arguments = (*DEBUG, "--out", run, "--frames", "4000", "--envs", "2", *rare)
    process = started(arguments, run, log)
    workers = children(process.pid)
    assert len(workers) >= 2
    process.send_signal(number)
    process.wait(timeout=60)
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline, "a worker lives on"
        time.sleep(0.05)
    assert len(evaluations(run)) < 2, "it was still running"

    if number == signal.SIGTERM:
        assert cli.main([str(argument) for argument in arguments]) == 0
        assert evaluations(run)[-1]["frames"] == "4000"


def test_a_killed_worker_costs_an_episode_only(tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    rare = ("--evaluation.every-frames", "4000")
    process = started((*DEBUG, "--out", run, "--frames", "4000", "--envs", "2", *rare), run, log)
    commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children(process.pid)}
    workers = [pid for pid, command in commands.items() if b"spawn_main" in command]
    assert len(workers) == 2
    os.kill(workers[1], signal.SIGKILL)
    assert process.wait(timeout=200) == 0, log.read_text()
    text = log.read_text()
    assert "of dmc/cartpole-swingup failed: it was killed by signal 9 (Killed); it is started again" in text
    assert "restarts        1, of environments that failed" in text
    assert "Traceback" not in text
    # The episode that was left out ended anywhere: the last step of the two may pass the mark by one action.
    assert int(evaluations(run)[-1]["frames"]) in (4000, 4008)


def test_gpu_preset_trains_on_a_cpu(tmp_path: Path) -> None:
    """In its precision and with its replay; only the graph is left out."""
    small = (
        "--training.batch-size",
        "8",
        "--training.first-updates",
        "3",
        "--training.updates-per-step",
        "0.1",
    )
    tiny = ("--world-model.latent-dim", "32", "--evaluation.episodes", "1", "--training.random-frames", "800")
    run = tmp_path / "run"
    options = ("--preset", "gpu", "--device", "cpu", "--frames", "1000", "--stack", "4", "--out", str(run))
    assert cli.main(["train", "--task", "cartpole_swingup", *options, *small, *tiny, *ONE_THREAD]) == 0
    config = load_config(run / "config.yaml")
    assert (config.world_model.encoder.precision, config.replay.on_device) == ("bfloat16", True)
    assert load_agent(run).agent.env_spec.obs_shape == (12, 64, 64)
    assert [row["frames"] for row in evaluations(run)] == ["1000"]
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["action_repeat"], manifest["discount"]) == (8, 0.96)


def test_allocator_is_set_without_being_asked(tmp_path: Path) -> None:
    """The process that trains has the settings in its environment from the start."""
    clean = {name: value for name, value in os.environ.items() if name not in ALLOCATOR}
    process = subprocess.Popen(
        command(*DEBUG, "--out", tmp_path / "run"), env=clean, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "run" / ".lock").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        environment = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
        assert {f"{name}={value}".encode() for name, value in ALLOCATOR.items()} <= set(environment)
    finally:
        process.kill()
        process.wait()


def test_evaluate_prints_json_alone(finished: tuple[Path, str]) -> None:
    arguments = ("evaluate", finished[0], "--episodes", "2", "--json")
    done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["episodes"], len(result["returns"])) == (2, 2)
    assert result["return_mean"] == pytest.approx(sum(result["returns"]) / 2)
    assert result["frames"] == 2000
    assert (result["control"], result["distract"]) == ("mppi", "none")


def test_distractors_of_a_run_are_recorded_and_replaced_in_evaluation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    options = ("--distract", "color=easy,background=hard", "--frames", "1000", "--out", str(run))
    assert cli.main([*DEBUG, *options]) == 0
    expected = "background=hard,colour=easy"
    assert load_config(run / "config.yaml").distract == expected
    assert json.loads((run / "manifest.json").read_text(encoding="utf-8"))["distract"] == expected
    assert EpisodeStore(run / "episodes").read(0).info.distract == expected
    assert load_agent(run).agent.env_spec.distract == expected

    found = []
    for changed in ((), ("--distract", "none"), ("--distract", "camera=hard")):
        capsys.readouterr()
        assert cli.main(["evaluate", str(run), "--episodes", "1", "--json", *changed]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert [result["distract"] for result in found] == [expected, "none", "camera=hard"]
    assert len({result["return_mean"] for result in found}) == 3, "the agent saw other pixels"


def test_a_folder_without_backgrounds_leaves_no_run_behind(tmp_path: Path, mistake: Mistake) -> None:
    text = mistake(*DEBUG, "--distract", f"background={tmp_path / 'absent'}", "--out", tmp_path / "run")
    assert f"cannot read the backgrounds in {tmp_path / 'absent'}" in text
    assert not (tmp_path / "run").exists()


def test_evaluate_records_a_video_of_the_policy(
    finished: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkpoint, *_) = (finished[0] / "checkpoints").iterdir()
    video = tmp_path / "deep" / "episode.gif"
    options = ("--episodes", "1", "--control", "policy", "--video", str(video))
    assert cli.main(["evaluate", str(checkpoint), *options]) == 0
    assert "policy" in capsys.readouterr().out
    with Image.open(video) as image:
        assert getattr(image, "n_frames", 1) > 10


def test_evaluate_without_a_run(tmp_path: Path, mistake: Mistake) -> None:
    assert str(tmp_path / "absent") in mistake("evaluate", tmp_path / "absent")


def test_config_of_a_run_is_a_preset(finished: tuple[Path, str], tmp_path: Path) -> None:
    """The saved configuration alone reproduces the run."""
    values = yaml.safe_load((finished[0] / "config.yaml").read_text(encoding="utf-8"))
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(values | {"out": None}), encoding="utf-8")
    run = tmp_path / "run"
    assert cli.main(["train", "--preset", str(again), "--out", str(run), "--frames", "1000"]) == 0
    first = evaluations(finished[0])[0]
    assert evaluations(run)[0]["return_mean"] == first["return_mean"]


def test_second_interrupt_stops_at_once() -> None:
    before = signal.getsignal(signal.SIGINT)  # ignored, where the tests run in the background of a shell
    with StopFlag() as stop:
        signal.raise_signal(signal.SIGINT)
        assert (stop.requested, stop.signal_number) == (True, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
