"""Encoders through the command line: exported from a run, and started from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from agent import checkpoint
from agent.loading import encoder_of_run, read_encoder
from agent.sweeps.plan import make_plan
from configs.load import load_config
from configs.schema import Config
from configs.sweep import make_sweep
from scripts import cli
from scripts.options import parse_config
from scripts.sweep_file import resolved_sweep

QUICK = (
    "--preset",
    "debug",
    "--device",
    "cpu",
    "--size",
    "32",
    "--training.threads",
    "1",
    "--logging.no-progress",
)
SHORT = (
    "--training.random-frames",
    "100",
    "--training.updates-per-step",
    "0.1",
    "--evaluation.every-frames",
    "999",
)
TRAIN = ("train", "--task", "counting", *QUICK, *SHORT, "--logging.no-tensorboard", "--evaluation.no-videos")


def run(*arguments: str | Path) -> int:
    return cli.main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that learnt a little; never written to by a test."""
    directory = tmp_path_factory.mktemp("finished") / "run"
    assert run(*TRAIN, "--frames", "200", "--out", directory) == 0
    return directory


def test_a_runs_encoder_becomes_a_file_that_another_run_starts_from(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "encoder.safetensors", tmp_path / "run"
    assert run("export", finished, file) == 0
    encoder = encoder_of_run(finished)
    assert encoder.fingerprint in capsys.readouterr().out
    assert read_encoder(file).fingerprint == encoder.fingerprint
    assert json.loads(file.with_suffix(".json").read_text())["method"] == "agent, contrastive"

    start = (*TRAIN, "--encoder", file, "--encoder-mode", "frozen", "--seed", "7", "--out", out)
    assert run(*start, "--frames", "200") == 0
    config = load_config(out / "config.yaml")
    assert (config.encoder, config.encoder_mode) == (str(file), "frozen")
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["encoder"] == {"path": str(file), "fingerprint": encoder.fingerprint}
    file.unlink()  # the checkpoint holds it
    assert run(*start, "--frames", "300") == 0
    state = checkpoint.load(checkpoint.numbered(out / "checkpoints", 300))
    for name, tensor in encoder.encoder.state_dict().items():
        assert torch.equal(state["agent"]["model"][f"encoder.{name}"], tensor)
        assert torch.equal(state["agent"]["model"][f"key_encoder.{name}"], tensor)
    assert read_encoder(out).fingerprint == encoder.fingerprint
    assert run(*TRAIN, "--frames", "300", "--seed", "7", "--out", out) == 2
    assert "encoder was" in capsys.readouterr().err


def test_mistakes_are_explained(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for flags, message in (
        (("--encoder", tmp_path / "absent"), "check its path"),
        (("--encoder", finished, "--stack", "4"), "made for --stack 3, not 4: pass --stack 3"),
        (("--encoder", finished, "--obs", "state"), "pass --obs pixels"),
        (("--encoder-mode", "frozen"), "give encoder, too"),
    ):
        assert run(*TRAIN, *flags, "--frames", "200", "--out", tmp_path / "run") == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
        assert not (tmp_path / "run").exists(), "nothing half-made is left"
    assert run("export", finished, tmp_path / "encoder.onnx") == 2
    assert "name it .safetensors or .pt2" in capsys.readouterr().err
    shutil.copy(next((finished / "checkpoints").iterdir()), tmp_path / "foreign.safetensors")
    assert run("export", tmp_path / "foreign.safetensors", tmp_path / "encoder.pt2") == 2
    assert "no encoder of nearfar" in capsys.readouterr().err


def test_a_program_comes_out_of_a_run(finished: Path, tmp_path: Path) -> None:
    assert run("export", finished, tmp_path / "encoder.pt2") == 0
    pixels = torch.randint(0, 256, (5, 9, 32, 32), dtype=torch.uint8)
    found = torch.export.load(tmp_path / "encoder.pt2").module()(pixels)
    expected = encoder_of_run(finished).encoder(pixels, torch.zeros(5, 0))
    torch.testing.assert_close(found, expected.detach(), rtol=1e-5, atol=1e-6)


def test_a_sweep_hands_the_encoder_on(finished: Path, tmp_path: Path) -> None:
    values = {
        "tasks": ["counting"],
        "seeds": [1],
        "variants": {
            "scratch": "debug",
            "warm": {"preset": "debug", "encoder": str(finished), "encoder_mode": "warmup"},
        },
    }
    sweep = resolved_sweep(make_sweep(values, "test"), is_local=True)
    _, planned = make_plan(sweep, threads=1).runs
    config = parse_config(Config, "nearfar train", planned.arguments)
    assert (config.encoder, config.encoder_mode) == (str(finished), "warmup")
    values["variants"]["warm"]["encoder"] = str(tmp_path / "absent")  # type: ignore[index]
    with pytest.raises(ValueError, match="variant warm: there is no encoder"):
        resolved_sweep(make_sweep(values, "test"), is_local=True)
