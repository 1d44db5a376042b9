"""`nearfar probe` on episodes whose frames show their state."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from agent.evaluation.probe.data import ProbeData, check_readable, read_data
from agent.evaluation.probe.features import (
    RAW_SIDE,
    encoded,
    random_encoder,
    raw_pixels,
    supervised_encoder,
)
from agent.evaluation.probe.measures import RANDOM, as_json, probe, table, warn_beside
from agent.evaluation.probe.page import make_page
from agent.evaluation.probe.pictures import nearest_elsewhere, principal_plane
from configs.load import ConfigError
from configs.world_model import EncoderOptions
from envs.episodes import EpisodeStore
from envs.recording import Episode, EpisodeInfo
from envs.state import StateVariable
from scripts import cli
from scripts.probe import named_paths
from world_model.encoder import EncoderFacts, perceived
from world_model.encoder_file import EncoderCard, save_encoder

CPU = torch.device("cpu")
SIDE = 36
VARIABLES = (
    StateVariable("height", 0, "position", "m"),
    StateVariable("turn", 1, "position", "rad", is_periodic=True),
    StateVariable("speed", 2, "velocity", "m/s"),
)


def make_episode(number: int, steps: int = 12, *, task: str = "paper", pixels: bool = True) -> Episode:
    """A bar whose height is the first entry of the state, on a brightness that changes with the second."""
    rng = np.random.default_rng(number)
    height = rng.uniform(0, 1) + np.cumsum(rng.normal(size=steps + 1) * 0.1)
    turn = rng.uniform(-9, 9) + 0.3 * np.arange(steps + 1)
    speed = np.gradient(height)
    frame = np.zeros((steps + 1, 3, SIDE, SIDE) if pixels else (steps + 1, 3, 0, 0), np.uint8)
    for t in range(steps + 1 if pixels else 0):
        frame[t, 0, : int(SIDE * np.clip(height[t], 0, 1))] = 255
        frame[t, 1] = int(127 + 120 * np.sin(turn[t]))
        frame[t, 2] = int(127 + 120 * np.cos(turn[t]))
    return Episode(
        frame=frame,
        action=rng.uniform(-1, 1, (steps, 2)).astype(np.float32),
        reward=height[1:].astype(np.float32),
        terminated=np.zeros(steps, bool),
        truncated=np.arange(steps) == steps - 1,
        physics=np.stack([height, turn, speed], axis=1),
        proprio=np.stack([height, speed], axis=1).astype(np.float32),
        info=EpisodeInfo(task, "fast", 1, lane=0, episode=number, seed=0, frames=steps, versions={}),
    )


def write(path: Path, count: int = 20, **options: Any) -> Path:
    store = EpisodeStore(path)
    for number in range(count):
        store.commit(make_episode(number, **options))
    return path


@pytest.fixture
def data(tmp_path: Path) -> ProbeData:
    return read_data(write(tmp_path / "store"), 10_000, VARIABLES)


def make_facts(**changes: Any) -> EncoderFacts:
    facts = {
        "obs": "pixels",
        "frame_shape": (3, SIDE, SIDE),
        "stack": 3,
        "proprio_dim": 2,
        "latent_dim": 16,
        "simnorm_group": 4,
        "hidden_dim": 8,
        "encoder": EncoderOptions(channels=4),
    }
    return EncoderFacts.model_validate(facts | changes)


def saved(path: Path, **changes: Any) -> Path:
    save_encoder(path / "encoder.safetensors", random_encoder(make_facts(**changes), 5), EncoderCard("byol"))
    return path


def test_rows_are_observations_in_their_order(data: ProbeData) -> None:
    assert len(data.time) == 20 * 13
    row = int(np.flatnonzero((data.episode == 3) & (data.time == 4))[0])
    episode = data.episodes[3]
    assert data.state[row].tolist() == episode.physics[4].tolist()
    assert data.reward[row] == episode.reward[3], "of the decision that led there"
    assert data.action[row].tolist() == episode.action[4].tolist(), "of the decision taken there"
    first, last = row - 4, row + 8
    assert np.isnan(data.reward[first]) and np.isnan(data.action[last]).all()
    assert np.isnan(data.reward).sum() == np.isnan(data.action).all(axis=1).sum() == 20
    np.testing.assert_array_equal(data.frames(np.array([row]))[0], episode.frame[4])


def test_few_observations_are_whole_episodes_from_all_over_the_store(tmp_path: Path) -> None:
    data = read_data(write(tmp_path / "store"), 80, VARIABLES)
    assert [each.info.episode for each in data.episodes] == [0, 4, 8, 11, 15, 19]
    assert read_data(tmp_path / "store", 80, VARIABLES).fingerprint == data.fingerprint


def test_a_run_directory_is_its_episodes(tmp_path: Path) -> None:
    write(tmp_path / "run" / "episodes", 5)
    assert len(read_data(tmp_path / "run", 100, VARIABLES).episodes) == 5


def test_variables_of_another_simulation_are_not_believed(tmp_path: Path) -> None:
    write(tmp_path / "store", 5)
    data = read_data(tmp_path / "store", 100, VARIABLES[:2])
    assert [each.name for each in data.variables] == ["state_0", "state_1", "state_2"]
    found = probe(raw_pixels(data, 1), data)
    assert found.r2_position is None and found.r2_velocity is None
    assert set(found.r2) == {"state_0", "state_1", "state_2"}


@pytest.mark.parametrize("obs", ["pixels", "state", "pixels+state"])
def test_rows_are_encoded_as_an_agent_would_see_them(data: ProbeData, obs: str) -> None:
    """Stacks begin with a repeated first frame; vectors are perceived."""
    encoder = random_encoder(make_facts(obs=obs))
    found = encoded(encoder, data, CPU)
    for row in (0, 1, 14, len(data.time) - 1):
        episode, t = data.episodes[data.episode[row]], int(data.time[row])
        frames = [episode.frame[max(0, t - age)] for age in (2, 1, 0)]
        pixels = torch.from_numpy(np.concatenate(frames))[None]
        proprio = perceived(torch.tensor(episode.proprio[t]))[None]
        with torch.no_grad():
            np.testing.assert_allclose(found[row], encoder(pixels, proprio)[0], rtol=1e-4, atol=1e-5)


def test_raw_pixels_are_means_of_blocks(data: ProbeData) -> None:
    block = SIDE // RAW_SIDE
    found = raw_pixels(data, 2).reshape(len(data.time), 6, RAW_SIDE, RAW_SIDE)
    episode = data.episodes[1]
    own = np.flatnonzero(data.episode == 1)
    frame = episode.frame[5][0].astype(float) / 255
    expected = [
        [frame[i * block : (i + 1) * block, j * block : (j + 1) * block].mean() for j in range(RAW_SIDE)]
        for i in range(RAW_SIDE)
    ]
    np.testing.assert_allclose(found[own[5], 3], expected, rtol=1e-5)
    np.testing.assert_allclose(found[own[6], 0], expected, rtol=1e-5)


def test_a_random_encoder_is_always_the_same_and_draws_nothing_of_ours() -> None:
    before = torch.get_rng_state()
    one, other = random_encoder(make_facts()), random_encoder(make_facts())
    assert torch.equal(torch.get_rng_state(), before)
    for first, second in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(first, second)


def test_labels_teach_the_supervised_encoder(data: ProbeData) -> None:
    random = probe(encoded(random_encoder(make_facts()), data, CPU), data)
    taught = supervised_encoder(make_facts(), data, 100, CPU)
    found = probe(encoded(taught, data, CPU), data)
    assert found.r2_position is not None and random.r2_position is not None
    assert found.r2_position > random.r2_position + 0.15


def test_the_supervised_encoder_sees_training_episodes_alone(data: ProbeData) -> None:
    weights = [
        torch.cat([p.flatten() for p in supervised_encoder(make_facts(), each, 3, CPU).parameters()])
        for each in (data, _without_other_labels(data))
    ]
    assert torch.equal(*weights)


def _without_other_labels(data: ProbeData) -> ProbeData:
    state = np.full_like(data.state, 1e3)
    state[data.split.train] = data.state[data.split.train]
    return ProbeData(**{**vars(data), "state": state})


def test_features_that_are_the_state(data: ProbeData) -> None:
    """An angle is found by its sine and cosine, whatever turns it took."""
    state = data.state.copy()
    features = np.stack(
        [state[:, 0], np.sin(state[:, 1]), np.cos(state[:, 1]), np.zeros(len(state))], axis=1
    ).astype(np.float32)
    found = probe(features, data)
    assert found.r2["height"] == pytest.approx(1, abs=1e-3)
    assert found.r2["turn"] == pytest.approx(1, abs=1e-3)
    assert found.r2_position == pytest.approx(1, abs=1e-3)
    assert found.r2["speed"] == found.r2_velocity
    assert found.r2_velocity is not None and found.r2_velocity < 0.5
    assert found.rmse["height"] is not None and found.rmse["height"] < 0.01
    assert found.rmse["turn"] is None
    assert found.r2_reward == pytest.approx(1, abs=1e-3), "the reward is the height that it led to"
    assert found.r2_action is not None and found.r2_action < 0.2, "actions were random"


def test_collapsed_features_are_warned_of_and_say_nothing(data: ProbeData) -> None:
    features = {
        RANDOM: np.random.default_rng(0).normal(size=(len(data.time), 8)).astype(np.float32),
        "dead": np.ones((len(data.time), 8), np.float32),
    }
    probes = warn_beside({name: probe(each, data) for name, each in features.items()})
    assert probes[RANDOM].warnings == ()
    dead = probes["dead"]
    assert dead.retrieval == 0 and dead.rank_me == pytest.approx(1, abs=1e-3)
    assert dead.r2_position is not None and dead.r2_position <= 0
    assert any("less than half of the random encoder's" in text for text in dead.warnings)
    assert "warning: dead: " in table(probes)
    json.dumps(as_json(probes, data), allow_nan=False)


def test_a_second_modality_is_shown_where_an_encoder_has_one(data: ProbeData) -> None:
    plain = probe(np.random.default_rng(0).normal(size=(len(data.time), 8)).astype(np.float32), data)
    both = replace(plain, state_of_pixels=0.5, pixels_of_state=0.25, moments=8)
    assert "state of pixels" not in table({"plain": plain})
    lines = table({"clip": both, "plain": plain}).splitlines()
    assert lines[0].endswith("state of pixels  pixels of state")
    assert lines[2].split()[-2:] == ["0.500", "0.250"] and lines[3].split()[-2:] == ["-", "-"]
    page = make_page({"clip": both, "plain": plain}, data, {"clip": "both", "plain": "one"}, {})
    assert ">pixels of state</th>" in page and "<td>0.250</td>" in page
    assert "clip: states are found by pixels, and pixels by states, among 8 moments." in page
    assert "plain: states are found" not in page


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frame_shape": (3, 64, 64)}, "encoder mine sees frames of 64 x 64, those in .* have 36 x 36"),
        ({"obs": "state", "proprio_dim": 9}, "encoder mine sees vectors of length 9, those in .* have 2"),
    ],
)
def test_an_encoder_that_cannot_see_the_data(data: ProbeData, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_readable("mine", make_facts(**changes), data)
    check_readable("mine", make_facts(stack=5, proprio_dim=9), data)  # looks at no vector


def test_neighbours_are_of_other_episodes() -> None:
    features = np.array([[0.0], [0.1], [5.0], [0.4], [0.2]], np.float32)
    episode = np.array([0, 0, 1, 1, 2])
    assert nearest_elsewhere(features, episode, 0, np.arange(5), 2).tolist() == [4, 3]


def test_the_plane_is_that_of_the_largest_variance() -> None:
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(500, 3)) * [5, 2, 0.01]
    turned, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    plane = principal_plane((hidden @ turned + 7).astype(np.float32))
    correlation = np.abs(np.corrcoef(plane.T, hidden.T)[:2, 2:])
    assert correlation[0, 0] > 0.999 and correlation[1, 1] > 0.999


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("a/b/encoder.safetensors",), {"b": "a/b/encoder.safetensors"}),
        (("runs/seed-1", "x=runs/seed-2"), {"seed-1": "runs/seed-1", "x": "runs/seed-2"}),
        (("a/mine.safetensors",), {"mine": "a/mine.safetensors"}),
        (("runs/lr=3",), {"lr=3": "runs/lr=3"}),
    ],
)
def test_names_of_encoders(texts: tuple[str, ...], expected: dict[str, str]) -> None:
    assert {name: str(path) for name, path in named_paths(texts).items()} == expected


@pytest.mark.parametrize("texts", [("a/x", "b/x"), ("random=a",), ()])
def test_names_that_are_taken(texts: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"is taken|give --encoder"):
        named_paths(texts)


def test_the_command_writes_numbers_pictures_and_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = write(tmp_path / "store", task="counting"), tmp_path / "out"
    flags = ["--data", str(data), "--out", str(out), "--supervised-updates", "2", "--device", "cpu"]
    encoders = [
        "--encoder",
        str(saved(tmp_path / "mine")),
        "--encoder",
        f"b={saved(tmp_path / 'c', stack=2)}",
    ]
    assert cli.main(["probe", *encoders, *flags, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads((out / "probe.json").read_text())
    assert list(found["encoders"]) == ["mine", "b", "random", "pixels", "supervised"]
    for numbers in found["encoders"].values():
        assert numbers.keys() >= {
            "r2_position", "r2_velocity", "r2", "retrieval", "rank_me", "alignment", "uniformity",
        }  # fmt: skip
    assert found["encoders"]["mine"]["about"].startswith("byol (")
    assert found["data"]["episodes"] == 20
    for name in ("neighbours", "similarity", "map"):
        with Image.open(out / f"{name}.png") as picture:
            assert min(picture.size) > 200
    page = (out / "probe.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 3
    assert not re.search(r"(src|href)=\"(?!data:)", page), "nothing is fetched"
    assert '<th scope="row">mine</th>' in page
    assert cli.main(["probe", *encoders[:2], *flags[:2], "--supervised-updates", "0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[0] == "encoder" and [line.split()[0] for line in lines[2:5]] == [
        "mine", "random", "pixels",
    ]  # fmt: skip


def test_without_pictures_there_is_less_to_compare(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path / "store", task="unheard-of", pixels=False)
    encoder = saved(tmp_path / "mine", obs="state", frame_shape=(3, 0, 0))
    out = tmp_path / "out"
    flags = ["--data", str(data), "--supervised-updates", "0", "--out", str(out), "--json"]
    assert cli.main(["probe", "--encoder", str(encoder), *flags]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["encoders"]) == ["mine", "random"]
    assert found["encoders"]["mine"]["r2"].keys() == {"state_0", "state_1", "state_2"}
    assert (out / "probe.html").exists()


def test_mistakes_are_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few, encoder = write(tmp_path / "few", 3), str(saved(tmp_path / "mine"))
    (tmp_path / "file").touch()
    for flags, message in (
        (["--data", str(few), "--encoder", encoder], "holds 3 episodes, and probing needs 4"),
        (["--data", str(tmp_path), "--encoder", encoder], "no episode store"),
        (["--data", str(few), "--encoder", str(tmp_path / "absent")], "check its path"),
        (["--data", str(few)], "give --encoder"),
    ):
        assert cli.main(["probe", *flags]) == 2
        assert message in capsys.readouterr().err
