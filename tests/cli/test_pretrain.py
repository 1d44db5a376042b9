"""`nearfar pretrain` as a user has it: files in, an encoder out, and one line for every mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from scripts import cli
from tests.points import Points, write_store
from world_model.encoder_file import load_encoder

ROOT = Path(__file__).parents[2]
SMALL = [
    "--model.latent-dim", "32", "--batch.size", "8", "--updates", "6",
    "--logging.every-updates", "3",
    "--logging.checkpoint-every-updates", "4", "--logging.no-progress", "--threads", "1",
]  # fmt: skip
CHANNELS = ("--model.encoder.channels", "8")  # of an encoder of pixels


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run")
    write_store(run / "episodes", Points())
    return run


def pretrain(data: Path, out: Path, *flags: str) -> int:
    seen = () if "state" in flags else CHANNELS
    return cli.main(["pretrain", "--data", str(data), "--out", str(out), *SMALL, *seen, *flags])


def metrics(out: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


@pytest.mark.parametrize("method", ["simclr", "moco", "byol", "temporal", "clip"])
def test_an_encoder_comes_out(
    method: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretrain(data, tmp_path, "--method", method) == 0
    assert f"nearfar train --encoder {tmp_path / 'encoder.safetensors'}" in capsys.readouterr().out
    loaded = load_encoder(tmp_path)
    assert loaded.card.method == method
    assert loaded.card.data["episodes"] == 3 and loaded.card.data["task"] == "test/point"
    assert loaded.card.metrics["updates"] == 6
    z = loaded.encoder(torch.zeros(2, 9, 32, 32, dtype=torch.uint8), torch.zeros(2, 4))
    assert z.shape == (2, 32) and torch.isfinite(z).all()
    assert [line["updates"] for line in metrics(tmp_path)] == [3, 6]
    assert yaml.safe_load((tmp_path / "pretrain.yaml").read_text())["method"] == method
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_clip_keeps_what_finds_states_by_pixels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Far better than chance on episodes that it has not seen; other encoders have no such number."""
    write_store(tmp_path / "data", Points((40,) * 10, seed=1))
    write_store(tmp_path / "others", Points((30,) * 40, seed=2))
    out = tmp_path / "clip"
    flags = ["--method", "clip", "--updates", "60", "--batch.size", "48", "--optimizer.learning-rate", "3e-3"]
    assert pretrain(tmp_path / "data", out, *flags, "--logging.no-tensorboard") == 0
    assert json.loads((out / "state_encoder.json").read_text())["facts"]["proprio_dim"] == 4
    capsys.readouterr()
    flags = ["--data", str(tmp_path / "others"), "--supervised-updates", "0", "--json"]
    assert cli.main(["probe", "--encoder", str(out), *flags]) == 0
    found = json.loads(capsys.readouterr().out)["encoders"]
    chance = 1 / found["clip"]["moments"]
    assert chance < 0.05
    assert min(found["clip"]["state_of_pixels"], found["clip"]["pixels_of_state"]) > 3 * chance
    assert found["random"]["state_of_pixels"] is None and found["random"]["moments"] == 0


def test_it_goes_on_from_its_checkpoint(data: Path, tmp_path: Path) -> None:
    pretrain(data, tmp_path / "whole", "--recipe", "simclr")
    pretrain(data, tmp_path / "parts", "--recipe", "simclr")
    parts = tmp_path / "parts"
    (parts / "checkpoints/checkpoint-000000006.safetensors").unlink()
    (parts / "encoder.safetensors").unlink()
    assert pretrain(data, parts, "--recipe", "simclr") == 0
    assert (parts / "encoder.safetensors").exists()
    assert metrics(parts) == metrics(tmp_path / "whole")
    whole = load_encoder(tmp_path / "whole").encoder.state_dict()
    for name, value in load_encoder(parts).encoder.state_dict().items():
        assert torch.equal(value, whole[name])


def test_a_recipe_may_be_varied(data: Path, tmp_path: Path) -> None:
    pretrain(data, tmp_path, "--recipe", "simclr", "--views.blur", "0")
    views = yaml.safe_load((tmp_path / "pretrain.yaml").read_text())["views"]
    assert views["blur"] == 0 and views["grey"] == 0.2 and views["resized_crop"] == 1


@pytest.mark.parametrize(
    ("task", "is_refused"),
    [("dmc/walker-walk", True), ("gym/Hopper-v5", True), ("dmc/cartpole-swingup", False), ("images", False)],
)
def test_frames_are_mirrored_where_the_task_allows_it(
    task: str, is_refused: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_store(tmp_path / "data", Points((9,)), task=task)
    flags = ["--views.flip", "0.5", "--preview", str(tmp_path / "views.png")]
    assert pretrain(tmp_path / "data", tmp_path / "out", *flags) == 2 * is_refused
    said = capsys.readouterr().err
    assert (f"views.flip: {task} has sides" in said) == is_refused
    assert said.count("\n") == is_refused
    assert (tmp_path / "views.png").exists() != is_refused


def test_views_are_drawn(data: Path, tmp_path: Path) -> None:
    assert (
        pretrain(data, tmp_path / "out", "--recipe", "simclr", "--preview", str(tmp_path / "views.png")) == 0
    )
    with Image.open(tmp_path / "views.png") as picture:
        assert picture.format == "PNG" and picture.width > 200
    assert not (tmp_path / "out").exists()


def test_two_processes_make_the_encoder_of_one(data: Path, tmp_path: Path) -> None:
    flags = ["--method", "moco", "--recipe", "simclr", "--device", "cpu"]
    assert pretrain(data, tmp_path / "one", *flags) == 0
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone",
        "-m", "scripts.cli", "pretrain", "--data", str(data), "--out", str(tmp_path / "two"), *SMALL,
        *CHANNELS, *flags,
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("encoder  ") == 1
    one, two = (load_encoder(tmp_path / name).encoder.state_dict() for name in ("one", "two"))
    for name, value in two.items():
        torch.testing.assert_close(value, one[name], rtol=1e-3, atol=1e-4)
    assert [line["updates"] for line in metrics(tmp_path / "two")] == [3, 6]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--method", "temporal", "--positives.by", "time"], "temporal predicts what follows"),
        (["--recipe", "simcrl"], "unknown recipe 'simcrl'; perhaps you meant simclr"),
        (
            ["--model.horizon", "40", "--method", "temporal"],
            "--model.horizon 40 is longer than any episode (the longest has",
        ),
        (
            ["--positives.by", "both", "--positives.min-gap", "40", "--positives.max-gap", "40"],
            "--positives.min-gap 40 is longer than any episode (the longest has",
        ),
        (["--positives.by", "both", "--positives.min-gap", "9"], "min_gap 9 exceeds max_gap 5"),
        (["--recipe", "curl"], "crop 84 is larger than the frames, 32 x 32"),
        (["--model.encoder.crop", "32"], "model.encoder.crop is 32, views.crop is 0"),
        (["--obs", "state", "--recipe", "simclr"], "leave recipe and views out"),
        (["--model.encoder.shift-padding", "0"], "use views.shift_padding"),
    ],
)
def test_mistakes_are_one_line(
    flags: list[str], message: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretrain(data, tmp_path / "out", *flags) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists(), "nothing half-made is left"


def test_data_that_are_none_are_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretrain(tmp_path / "nothing", tmp_path / "out") == 2
    assert "there are no episodes" in capsys.readouterr().err
    assert cli.main(["pretrain", "--out", str(tmp_path / "out")]) == 2
    assert "give --data" in capsys.readouterr().err


def test_other_options_do_not_go_on(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pretrain(data, tmp_path) == 0
    assert pretrain(data, tmp_path, "--method", "byol", "--seed", "2") == 2
    said = capsys.readouterr().err
    assert "method was simclr, now byol" in said and "seed was 1, now 2" in said
    assert pretrain(data, tmp_path, "--pairs.tile", "4", "--logging.no-tensorboard") == 0


def test_other_data_do_not_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_store(tmp_path / "data", Points())
    assert pretrain(tmp_path / "data", tmp_path / "out") == 0
    write_store(tmp_path / "data", Points((9,), seed=5))
    assert pretrain(tmp_path / "data", tmp_path / "out") == 2
    assert "has learnt from other data" in capsys.readouterr().err


def test_a_loss_that_is_no_number_ends_it(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--optimizer.learning-rate", "1e30", "--optimizer.warmup", "0", "--method", "vicreg"]
    assert pretrain(data, tmp_path, *flags) == 1
    assert "lower --optimizer.learning-rate" in capsys.readouterr().err


def test_what_episodes_lack_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    points = Points()
    points.vectors = [vectors[:, :0] for vectors in points.vectors]
    write_store(tmp_path / "blind", points)
    assert pretrain(tmp_path / "blind", tmp_path / "out", "--method", "clip") == 2
    assert "no observation vectors, which clip with obs pixels needs" in capsys.readouterr().err
    points = Points()
    points.frames = [frames[:, :, :0, :0] for frames in points.frames]
    write_store(tmp_path / "dark", points)
    assert pretrain(tmp_path / "dark", tmp_path / "out") == 2
    assert "no frames: use --obs state" in capsys.readouterr().err
    assert pretrain(tmp_path / "dark", tmp_path / "out", "--obs", "state", "--method", "reconstruction") == 2
    said = capsys.readouterr().err
    assert "no frames, which reconstruction needs: choose another --method" in said and "--obs" not in said
    assert pretrain(tmp_path / "dark", tmp_path / "state", "--obs", "state") == 0
