"""`nearfar inspect` of datasets, from a command line to its files; of runs: `tests.agent.test_inspection`."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from envs.episodes import EpisodeStore
from scripts import cli
from scripts.inspect_visits import short_names
from tests.physics import make_episode


def write_data(
    path: Path, *, task: str = "dmc/cartpole-swingup", entries: int = 4, spread: float = 2.0
) -> Path:
    store, rng = EpisodeStore(path), np.random.default_rng(entries)
    for _ in range(3):
        store.commit(make_episode(rng.normal(scale=spread, size=(40, entries)), task=task, frames=312))
    return path


def test_visits_of_datasets_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run's episodes are a dataset, too; the same input gives the same bytes."""
    narrow = write_data(tmp_path / "runs" / "narrow" / "episodes", spread=0.3)
    wide, out = write_data(tmp_path / "data" / "wide"), tmp_path / "new" / "out"
    flags = ["--variables", "slider", "hinge_1.velocity", "--out", str(out)]
    command = ["inspect", str(narrow), "--beside", str(wide), *flags]
    assert cli.main(command) == 0
    said = capsys.readouterr().out
    files = {path.name: path.read_bytes() for path in out.iterdir()}
    assert files.keys() == {
        "visits.png", "visits-growth.png", "visits-growth.svg", "visits.json", "visits.csv",
    }  # fmt: skip
    found = json.loads(files["visits.json"])
    assert [each["source"] for each in found["runs"]] == ["runs/narrow", "data/wide"]
    cells = [each["cells"] for each in found["runs"]]
    assert cells[0] < cells[1]
    assert f"visits of data/wide: 936 frames, {cells[1]:,} cells" in said
    rows = list(csv.DictReader(files["visits.csv"].decode().splitlines()))
    assert [(row["source"], int(row["frames"])) for row in rows] == [
        (source, 312 * episode) for source in ("runs/narrow", "data/wide") for episode in (1, 2, 3)
    ]
    with Image.open(out / "visits.png") as picture:
        assert picture.width > 2 * 400, "two maps"
    assert cli.main(command) == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == files


def test_pictures_of_a_dataset_lie_beside_its_episodes(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    assert cli.main(["inspect", str(data)]) == 0
    assert (data / "inspect" / "visits.png").is_file()
    assert len(EpisodeStore(data)) == 3, "it is a dataset still"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("{tmp}/data --variables slider elbow", "--variables: found slider and elbow: take two of hinge_1,"),
        (
            "{tmp}/data --variables slider slider",
            "--variables: found slider and slider: take two of hinge_1,",
        ),
        (
            "{tmp}/data --beside {tmp}/other",
            "other: its physics states have other variables than those of dmc",
        ),
        ("{tmp}/walker --beside {tmp}/cheetah", "cheetah: its physics states have other variables"),
        ("{tmp}/data --beside {tmp}/blind", "blind: its physics states have other variables"),
        ("{tmp}/data --beside {tmp}/absent", "absent holds no episodes"),
        (
            "{tmp}/data --episode 0 --gallery 3",
            "without an agent that --episode and --gallery could be about",
        ),
        ("{tmp}/blind", "blind holds no physics states"),
        ("{tmp}/data --out {tmp}/file/out", "cannot be made (Not a directory): give another directory"),
        ("{tmp}/damaged", "cannot read"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_data(tmp_path / "data")
    write_data(tmp_path / "other", task="dmc/pendulum-swingup", entries=2)
    write_data(tmp_path / "blind", entries=0)
    for task in ("walker-walk", "cheetah-run"):  # both have the variables of the map, and others
        write_data(tmp_path / task.partition("-")[0], task=f"dmc/{task}", entries=18)
    damaged = EpisodeStore(write_data(tmp_path / "damaged"))
    for identifier in damaged.ids():
        damaged.file(identifier).write_bytes(b"nonsense")
    (tmp_path / "file").touch()
    assert cli.main(["inspect", *arguments.format(tmp=tmp_path).split()]) == 2
    text = capsys.readouterr().err
    assert text.startswith("nearfar: error: ")
    assert text.count("\n") == 1
    assert message in text


def test_a_damaged_episode_is_named_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_data(tmp_path / "data")
    EpisodeStore(data).file(1).write_bytes(b"nonsense")
    assert cli.main(["inspect", str(data)]) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("nearfar: cannot read ")
    assert "624 frames" in captured.out


def test_names_are_as_short_as_they_can_be() -> None:
    assert short_names([Path("/a/runs/x/seed-1")]) == ["x/seed-1"]
    assert short_names([Path("/a/x/seed-1"), Path("/a/y/seed-1/episodes")]) == ["x/seed-1", "y/seed-1"]
    assert short_names([Path("/x/a/1"), Path("/y/a/1")]) == ["x/a/1", "y/a/1"]
    assert short_names([Path("/x/a/1"), Path("/x/a/1")]) == ["1: x/a/1", "2: x/a/1"]
    (name,) = short_names([Path("/a") / ("long" * 9) / "seed-1"])
    assert len(name) == 30
    assert name.endswith("long/seed-1")
