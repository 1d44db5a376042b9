"""Tasks that end, of Gymnasium and of other packages, through every command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from agent import load_agent
from configs.load import load_config
from configs.schema import Config
from envs.episodes import EpisodeStore
from scripts import cli
from scripts.bench import main as bench
from scripts.options import parse_config

pytestmark = pytest.mark.gl

FOREIGN = ("--import", "tests.envs.foreign")
SHORT = ("--training.random-frames", "300", "--evaluation.every-frames", "600")
DEBUG = ("--preset", "debug", "--device", "cpu", "--training.threads", "1", *SHORT)


@pytest.fixture(scope="module")
def hopper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a task that ends when its body falls."""
    run = tmp_path_factory.mktemp("hopper") / "run"
    arguments = ["train", "--task", "gym_hopper", *DEBUG, "--frames", "600", "--out", str(run)]
    assert cli.main(arguments) == 0
    return run


def test_training_meets_terminations(hopper: Path) -> None:
    assert load_config(hopper / "config.yaml").task == "gym/Hopper-v5"
    store = EpisodeStore(hopper / "episodes")
    episodes = [store.read(identifier) for identifier in store.ids()]
    assert all(episode.terminated[-1] and not episode.truncated[-1] for episode in episodes)
    assert len({episode.steps for episode in episodes}) > 1
    assert store.verify() == []
    lines = [json.loads(line) for line in (hopper / "metrics.jsonl").read_text().splitlines()]
    assert any("loss/continuation" in line for line in lines)
    agent = load_agent(hopper).agent
    assert agent.model.continuation is not None
    assert agent.discount == 0.99


def test_evaluation_of_episodes_that_end(hopper: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = hopper.parent / "episode.gif"
    assert cli.main(["evaluate", str(hopper), "--episodes", "3", "--json", "--video", str(video)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert len(set(result["returns"])) == 3
    assert video.stat().st_size > 0


def test_bench_of_a_task_that_ends_within_a_few_decisions(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--task", "gym/InvertedDoublePendulum-v5", "--preset", "debug", "--device", "cpu")
    assert bench([*options, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["env_steps_per_s"] > 0


def test_a_task_of_another_package_is_found_by_workers_and_later_commands(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train = ["train", "--task", "gym/foreign/Disc-v0", *FOREIGN, *DEBUG, "--envs", "2", "--out", str(run)]
    assert cli.main([*train, "--frames", "600"]) == 0
    assert load_config(run / "config.yaml").imports == ("tests.envs.foreign",)
    assert cli.main([*train, "--frames", "900"]) == 0, "it is resumed"
    store = EpisodeStore(run / "episodes")
    assert (store.shared["task"], store.shared["physics_dim"]) == ("gym/foreign/Disc-v0", 0)
    assert store.verify() == []
    done = subprocess.run(  # a process that has not imported the module
        [sys.executable, "-m", "scripts.cli", "evaluate", str(run), "--episodes", "1", "--json"],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["frames"] >= 900


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--task gym/Hoper-v5", "did you mean gym/Hopper-v5"),
        ("--task gym/absent/Q-v0", "--import MODULE"),
        ("--task gym/CartPole-v1", "gym/CartPole-v1 has actions Discrete(2)"),
        ("--task gym/CartPole-v1 --envs 2", "gym/CartPole-v1 has actions Discrete(2)"),
        ("--task gym/Hopper-v5 --import no_such_module", "cannot import no_such_module (ModuleNotFoundError"),
    ],
)
def test_mistake_is_one_line(
    arguments: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", *arguments.split(), *DEBUG, "--out", str(tmp_path / "run")]) == 2
    text = capsys.readouterr().err
    assert text.startswith("nearfar: error: ")
    assert text.count("\n") == 1
    assert message in text


def test_modules_to_import_are_given_one_by_one_or_separated_by_commas() -> None:
    flags = ["--preset", "cpu", "--task", "gym/foreign/Disc-v0", "--import", "json,csv", *FOREIGN]
    assert parse_config(Config, "nearfar train", flags).imports == ("json", "csv", "tests.envs.foreign")
