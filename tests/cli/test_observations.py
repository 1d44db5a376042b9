"""What the agent sees, `--obs`, through every command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from agent import checkpoint
from configs.load import load_config
from envs.episodes import EpisodeStore
from scripts import cli
from scripts.bench import main as bench

SMALL = ("--training.threads", "1", "--evaluation.every-frames", "100", "--training.updates-per-step", "0.2")
DEBUG = ("--preset", "debug", "--device", "cpu", *SMALL)
COUNTING = ("train", "--task", "counting", *DEBUG, "--training.random-frames", "100")


def train(obs: str, run: Path, frames: int) -> None:
    arguments = [*COUNTING, "--obs", obs, "--frames", str(frames), "--out", str(run)]
    assert cli.main(arguments) == 0


@pytest.mark.gl
@pytest.mark.parametrize("obs", ["state", "pixels+state"])
def test_a_run_goes_on_bit_for_bit_and_every_command_reads_it(
    obs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    train(obs, cut, 200)
    train(obs, cut, 300)
    train(obs, whole, 300)
    states = [checkpoint.load(checkpoint.numbered(run / "checkpoints", 300)) for run in (cut, whole)]
    torch.testing.assert_close(states[0]["agent"], states[1]["agent"], rtol=0, atol=0)
    assert states[0]["replay"] == states[1]["replay"]
    assert states[0]["streams"]["numpy"] == states[1]["streams"]["numpy"]
    for one, other in zip(*(state["streams"]["torch"] for state in states), strict=True):
        assert torch.equal(one[2], other[2]), one[:2]
    stores = [EpisodeStore(run / "episodes") for run in (cut, whole)]
    for identifier in stores[0].ids():
        first, second = (store.read(identifier) for store in stores)
        assert first.frame.tobytes() == second.frame.tobytes()
        assert first.proprio.tolist() == second.proprio.tolist() == first.physics.tolist()
        assert bool(first.frame.size) == ("pixels" in obs)
    assert load_config(cut / "config.yaml").obs == obs
    assert json.loads((cut / "manifest.json").read_text())["obs"] == obs

    capsys.readouterr()
    assert cli.main(["evaluate", str(cut), "--episodes", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["returns"] == [4950.0, 4950.0]
    assert cli.main(["inspect", str(cut)]) == 0
    assert len(list((cut / "inspect").glob("*.png"))) == 6


def test_a_run_needs_no_opengl_unless_pixels_are_seen(tmp_path: Path) -> None:
    """With a value of MUJOCO_GL under which nothing draws."""
    run = tmp_path / "run"

    def nearfar(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "scripts.cli", *arguments],
            env=os.environ | {"MUJOCO_GL": "disable"},
            capture_output=True,
            text=True,
            timeout=250,
            check=False,
        )

    start = ("train", "--task", "cartpole_swingup", *DEBUG, "--envs", "2", "--frames", "1000")
    done = nearfar(*start, "--evaluation.every-frames", "1000", "--obs", "state", "--out", str(run))
    assert done.returncode == 0, done.stderr
    assert "there will be no videos" in done.stderr
    assert not (run / "videos").exists()
    rendering = json.loads((run / "manifest.json").read_text())["rendering"]
    assert rendering == {"backend": None, "renderer": None}
    assert nearfar("evaluate", str(run), "--episodes", "1", "--json").returncode == 0
    for arguments in (
        ("evaluate", str(run), "--episodes", "1", "--video", str(tmp_path / "episode.gif")),
        (*start, "--obs", "pixels+state", "--out", str(tmp_path / "other")),
    ):
        done = nearfar(*arguments)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert "no OpenGL backend can draw frames here" in done.stderr


@pytest.mark.gl
def test_videos_are_for_people(tmp_path: Path) -> None:
    run = tmp_path / "run"
    start = ["train", "--task", "cartpole_swingup", *DEBUG, "--evaluation.every-frames", "1000"]
    assert cli.main([*start, "--obs", "state", "--frames", "1000", "--out", str(run)]) == 0
    assert list((run / "videos").glob("*.gif"))
    video = tmp_path / "episode.gif"
    assert cli.main(["evaluate", str(run), "--episodes", "1", "--video", str(video)]) == 0
    assert video.stat().st_size > 0
    assert not EpisodeStore(run / "episodes").read(0).frame.size


@pytest.mark.gl
def test_true_states_are_labels_of_pixels(tmp_path: Path) -> None:
    run = tmp_path / "run"
    start = ["train", "--task", "gym_hopper", "--preset", "debug+supervised", "--device", "cpu", *SMALL]
    options = ["--training.random-frames", "100", "--frames", "200", "--out", str(run)]
    assert cli.main([*start, *options]) == 0
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert any({"loss/label", "loss/future_label"} <= line.keys() for line in lines)


@pytest.mark.gl
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "--task counting --obs state --world-model.objective reconstruction",
            "world_model.objective reconstruction is about pixels, which nobody sees with obs state",
        ),
        (
            "--task cartpole_swingup --obs state --distract camera=easy",
            "distract camera=easy is about pixels, which nobody sees with obs state",
        ),
        (
            "--task gym/foreign/Board-v0 --import tests.envs.foreign --obs state",
            "gym/foreign/Board-v0 has no observation vector for obs state: use --obs pixels",
        ),
        (
            "--task gym/foreign/Board-v0 --import tests.envs.foreign --world-model.objective supervised",
            "gym/foreign/Board-v0 has no observation vector, the label of the objective supervised",
        ),
    ],
)
@pytest.mark.parametrize("command", ["train", "bench"])
def test_mistake_is_one_line(
    command: str, arguments: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ("--out", str(tmp_path / "run")) if command == "train" else ()
    assert cli.main([command, *arguments.split(), "--preset", "debug", "--device", "cpu", *out]) == 2
    text = capsys.readouterr().err
    assert text.startswith("nearfar: error: ")
    assert text.count("\n") == 1
    assert message in text


@pytest.mark.gl
def test_what_is_seen_does_not_change_when_a_run_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    train("state", run, 100)
    assert cli.main([*COUNTING, "--obs", "pixels", "--frames", "200", "--out", str(run)]) == 2
    assert "obs was state, now pixels" in capsys.readouterr().err
    assert cli.main(["evaluate", str(run), "--distract", "camera=easy"]) == 2
    assert "sees no pixels (obs state): leave --distract out" in capsys.readouterr().err


def test_bench_of_what_is_not_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--task", "counting", "--preset", "debug", "--device", "cpu", "--obs", "state")
    assert bench([*options, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["obs"], result["render_fps"]) == ("state", None)
    assert result["update_ms"] > 0
    assert bench(options) == 0
