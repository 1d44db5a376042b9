"""`nearfar data`, as it is called."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from envs.episodes import EpisodeStore
from scripts import cli
from tests.datasets import differing, make_store, sound_episode

ROOT = Path(__file__).parents[2]


def data(*arguments: str | Path) -> int:
    return cli.main(["data", *map(str, arguments)])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A directory as that of a training run, with three episodes."""
    make_store(tmp_path / "run" / "episodes", size=32)
    (tmp_path / "run" / "config.yaml").touch()
    return tmp_path / "run"


def test_there_and_back(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert data("export", "minari", run, tmp_path / "walker-v0") == 0
    assert data("import", "minari", tmp_path / "walker-v0", tmp_path / "back") == 0
    assert "3 episodes imported, 3 in" in capsys.readouterr().out
    ours, theirs = EpisodeStore(run / "episodes"), EpisodeStore(tmp_path / "back")
    assert [differing(ours.read(i), theirs.read(i)) for i in ours.ids()] == [set()] * 3
    assert data("import", "minari", tmp_path / "walker-v0", tmp_path / "back") == 0
    assert "0 episodes imported, 3 in" in capsys.readouterr().out
    assert data("verify", tmp_path / "back") == 0


def test_flags_say_what_the_source_does_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for step in range(3):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.new("RGB", (20, 10)).save(tmp_path / "images" / f"{step}.png")
    flags = ("--task", "walker_walk", "--look", "fast", "--action-repeat", "4", "--size", "32")
    assert data("import", "images", tmp_path / "images", tmp_path / "store", *flags) == 0
    episode = EpisodeStore(tmp_path / "store").read(0)
    info = episode.info
    assert (info.task, info.look, info.action_repeat, info.frames) == ("dmc/walker-walk", "fast", 4, 8)
    assert episode.frame.shape == (3, 3, 32, 32)
    assert (
        data("import", "images", tmp_path / "images", tmp_path / "arm", "--task", "arm", "--size", "32") == 0
    )
    assert "no task 'arm' is known here; it is kept as a label" in capsys.readouterr().err
    assert EpisodeStore(tmp_path / "arm").shared["task"] == "arm"


def test_inspect_says_what_is_there(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert data("inspect", run, "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    episodes = [sound_episode(5 + seed, seed=seed, size=32) for seed in range(3)]
    returns = [sum(map(float, episode.reward)) for episode in episodes]
    rewards = [float(reward) for episode in episodes for reward in episode.reward]
    assert (summary["task"], summary["look"], summary["action_repeat"]) == ("dmc/walker-walk", "fast", 4)
    assert (summary["episodes"], summary["steps"], summary["frames"]) == (3, 18, 19 + 23 + 27)
    assert summary["returns"]["mean"] == pytest.approx(sum(returns) / 3)
    assert (summary["returns"]["min"], summary["returns"]["max"]) == pytest.approx(
        (min(returns), max(returns))
    )
    assert summary["lengths"] == {"mean": 6, "std": pytest.approx((2 / 3) ** 0.5), "min": 5, "max": 7}
    assert (summary["terminated"], summary["truncated"]) == (2, 1)
    assert summary["ranges"]["reward"] == [min(rewards), max(rewards)]
    assert summary["ranges"]["pixels"] == [0, 255]
    files = (run / "episodes").glob("*.safetensors")
    assert summary["bytes"] == sum(file.stat().st_size for file in files)
    assert summary["versions"] == {"mujoco": ["3.17.0"]}
    assert data("inspect", run) == 0
    text = capsys.readouterr().out
    assert re.search(r"episodes +3 \(2 terminated, 1 truncated\)", text)
    assert f"contact sheet: {run / 'episodes' / 'contact-sheet.png'}" in text


def test_contact_sheet_shows_episodes_from_left_to_right(tmp_path: Path) -> None:
    store, shades = EpisodeStore(tmp_path / "store"), np.linspace(100, 200, 10).astype(np.uint8)
    for seed in range(3):
        episode = sound_episode(9, seed=seed, size=32)
        frame = np.broadcast_to(shades[:, None, None, None], (10, 3, 32, 32)).copy()
        frame[:, 2] = 80 * seed  # blue: which episode
        store.commit(replace(episode, frame=frame))
    sheet = tmp_path / "pictures" / "sheet.png"
    assert data("inspect", tmp_path / "store", "--sheet", sheet) == 0
    with Image.open(sheet) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image)
    for row in range(3):
        shown = pixels[4 + row * 116 + 16 + 48, [4 + column * 100 + 48 for column in range(10)]]
        assert shown.tolist() == [[shade, shade, 80 * row] for shade in shades.tolist()]
    assert {path.suffix for path in (tmp_path / "store").iterdir()} == {".json", ".safetensors"}


def test_states_alone_have_no_contact_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_store(tmp_path, size=0)
    assert data("inspect", tmp_path, "--json") == 0
    assert json.loads(capsys.readouterr().out)["sheet"] is None
    assert not list(tmp_path.glob("*.png"))


def damage(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)


def test_verify_names_what_is_damaged(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert data("verify", run) == 0
    assert "3 episodes" in (text := capsys.readouterr().out) and "all sound" in text
    damage(run / "episodes" / "episode-00000001.safetensors")
    (run / "episodes" / "episode-00000002.safetensors").write_bytes(b"nothing")
    assert data("verify", run) == 1
    text = capsys.readouterr().out
    assert "episode-00000001.safetensors is damaged: its checksum differs" in text
    assert "cannot read" in text and "episode-00000002.safetensors" in text
    assert "episode-00000000" not in text and "2 are not sound" in text


def test_verify_looks_at_what_a_run_has_taken_over(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(run / "episodes", run / "episodes-before")
    assert data("verify", run) == 0
    assert [line.count("all sound") for line in capsys.readouterr().out.splitlines()] == [1, 1]
    damage(run / "episodes-before" / "episode-00000001.safetensors")
    assert data("verify", run) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "episodes: all sound" in lines[0]
    assert "episodes-before/episode-00000001.safetensors is damaged" in lines[1]
    assert "1 are not sound" in lines[-1]


def test_verify_knows_the_rules_of_episodes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = sound_episode(5)
    never = np.zeros(5, np.bool_)
    store = EpisodeStore(tmp_path)
    for broken in (
        good,
        replace(good, action=good.action * 10),
        replace(good, terminated=never, truncated=never),
        replace(good, info=replace(good.info, frames=16)),
        replace(good, info=replace(good.info, frames=21)),
    ):
        store.commit(broken)
    assert data("verify", tmp_path) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    for number, message in enumerate(
        ("actions reach", "neither terminated", "16 frames cannot be 5", "21 frames cannot be 5"), start=1
    ):
        assert f"episode-0000000{number}" in lines[number - 1] and message in lines[number - 1]


def test_verify_of_a_store_without_its_facts_fails(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "episodes" / "store.json").write_text("{")
    assert data("verify", run) == 1
    assert "store.json" in capsys.readouterr().out
    (run / "episodes" / "store.json").unlink()
    assert data("verify", run) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("inspect absent", "absent holds no episodes: name a dataset, or the directory of a run"),
        ("verify README.md", "README.md holds no episodes"),
        ("export minari absent there-v0", "absent holds no episodes"),
        ("import minari absent there", "absent has no data/metadata.json"),
        ("import v_d4rl absent there", "absent is no folder of .npz or .hdf5 files"),
        ("import images docs there --image top", "--image is for minari"),
        ("import images envs there", "envs holds no images"),
        ("inspct .", "unknown action 'inspct' of nearfar data; perhaps you meant inspect"),
    ],
)
def test_mistakes_are_explained(
    arguments: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert data(*arguments.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("nearfar: error: ") and message in error and error.count("\n") == 1
    assert not (ROOT / "there").exists()


def write_states(folder: Path) -> None:
    """An episode of ExORL, with states of three entries."""
    rows = {
        "action": np.zeros((5, 1)),
        "reward": np.zeros(5),
        "discount": np.ones(5),
        "physics": np.zeros((5, 3)),
    }
    folder.mkdir()
    np.savez(folder / "a.npz", **rows)  # type: ignore[arg-type]


def test_exorl_of_a_task_that_cannot_be_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_states(tmp_path / "there")
    call = ("import", "exorl", tmp_path / "there", tmp_path / "back", "--task")
    assert data(*call, "jaco_reach") == 2
    assert "physics states of jaco_reach cannot be drawn" in capsys.readouterr().err


@pytest.mark.gl
def test_exorl_of_another_task_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_states(tmp_path / "there")
    assert data("import", "exorl", tmp_path / "there", tmp_path / "back", "--task", "cartpole-swingup") == 2
    assert "physics states of dmc/cartpole-swingup have 4 entries, found (3,)" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["--help"], ["import", "--help"], ["verify", "-h"]])
def test_help_says_how_it_is_called(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        assert data(*arguments) == 0
    except SystemExit as stop:
        assert stop.code == 0
    assert "usage: nearfar data" in capsys.readouterr().out


def test_killed_import_goes_on(tmp_path: Path) -> None:
    """In a process that is killed after its first episode, then once more."""
    make_store(tmp_path / "store", 60, size=64)
    assert data("export", "images", tmp_path / "store", tmp_path / "there") == 0
    command = [sys.executable, "-m", "scripts.cli", "data", "import", "images"]
    process = subprocess.Popen(
        [*command, tmp_path / "there", tmp_path / "back"],
        cwd=ROOT,
        env=os.environ,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    while not EpisodeStore(tmp_path / "back").ids():
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 0 < len(EpisodeStore(tmp_path / "back")) < 60
    assert data("import", "images", tmp_path / "there", tmp_path / "back") == 0
    ours, theirs = EpisodeStore(tmp_path / "store"), EpisodeStore(tmp_path / "back")
    assert theirs.ids() == list(range(60)) and theirs.verify() == []
    assert all(np.array_equal(ours.read(i).frame, theirs.read(i).frame) for i in ours.ids())
