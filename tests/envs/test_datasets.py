"""Foreign formats: what is written comes back, and what others wrote is understood."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from envs import make_env
from envs.datasets import formats
from envs.datasets.base import DatasetError, Reading, Source, in_order
from envs.datasets.conversion import as_frames
from envs.datasets.exorl import ExorlSource
from envs.datasets.images import ImagesSource
from envs.datasets.minari import MinariSource, dataset_id_of
from envs.datasets.spaces import scaled_actions
from envs.datasets.v_d4rl import open_v_d4rl
from envs.episodes import EpisodeStore
from envs.recording import EpisodeBuilder
from envs.spec import Observation, Transition
from envs.vector import env_spec_of
from scripts import cli
from tests.datasets import differing, make_store

FIXTURE = Path(__file__).parent / "data" / "minari-0.5.4.zip"
NO_TASK = Reading(task="dmc/walker-walk")


def no_bar(places: range) -> range:
    return places


def export(store: EpisodeStore, name: Any, target: Path, *, hdf5: bool = False) -> None:
    make = formats.make_sink(name, target, hdf5=hdf5, minari_root=target.parent)
    formats.export_episodes(store, target, make, no_bar)


def back(name: str, path: Path, reading: Reading, target: Path) -> EpisodeStore:
    source = formats.SOURCES[name](path, reading)
    formats.import_episodes(source, target, {"format": name}, no_bar)
    source.close()
    return EpisodeStore(target)


@pytest.mark.parametrize(
    ("name", "hdf5", "lost"),
    [
        ("minari", False, set()),
        ("v_d4rl", False, {"physics", "proprio"}),
        ("v_d4rl", True, {"physics", "proprio"}),
        ("exorl", False, {"frame"}),
        ("images", False, {"action", "reward", "terminated", "truncated", "physics", "proprio"}),
    ],
)
def test_what_a_format_holds_comes_back_bit_for_bit(
    name: str, hdf5: bool, lost: set[str], tmp_path: Path
) -> None:
    store = make_store(tmp_path / "store", size=32)
    export(store, name, tmp_path / "there-v0", hdf5=hdf5)
    found = back(name, tmp_path / "there-v0", Reading(), tmp_path / "back")
    assert len(found) == len(store) == 3
    for identifier in store.ids():
        ours, theirs = store.read(identifier), found.read(identifier)
        assert differing(ours, theirs) - {"terminated", "truncated"} == lost - {"terminated", "truncated"}
        assert ours.info == theirs.info
        assert "terminated" in lost or "terminated" not in differing(ours, theirs)
    assert found.verify() == []


def test_states_alone_travel_by_minari(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", size=0)
    export(store, "minari", tmp_path / "states-v0")
    found = back("minari", tmp_path / "states-v0", Reading(), tmp_path / "back")
    assert [differing(store.read(i), found.read(i)) for i in store.ids()] == [set()] * 3


@pytest.mark.parametrize("name", ["v_d4rl", "images"])
def test_formats_of_pictures_refuse_episodes_without(name: str, tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", size=0)
    with pytest.raises(DatasetError, match="without frames: use the format minari or exorl"):
        export(store, name, tmp_path / "there")
    assert not (tmp_path / "there").exists()


@pytest.mark.gl
def test_exorl_is_drawn_as_it_was(tmp_path: Path) -> None:
    """Physics states that were recorded and drawn again give the frames that were recorded."""
    env = make_env("dmc/cartpole-swingup", size=40, stack=1)
    builder = EpisodeBuilder(env_spec_of(env), lane=0, versions={})
    pixels, info = env.reset(seed=3)
    builder.start(Observation(pixels, info["proprio"]), info["physics"], episode=0, seed=3)
    for step in range(6):
        action = env.action_space.sample()
        pixels, reward, _, _, info = env.step(action)
        transition = Transition(
            pixels[-3:], info["proprio"], action, float(reward), False, step == 5, info["physics"], 8
        )
        episode = builder.add(transition)
    env.close()
    assert episode is not None
    assert len(np.unique(episode.frame, axis=0)) > 3, "the picture moves"
    EpisodeStore(tmp_path / "store").commit(episode)
    call = [str(tmp_path / part) for part in ("store", "there", "back")]
    assert cli.main(["data", "export", "exorl", *call[:2]]) == 0
    assert cli.main(["data", "import", "exorl", *call[1:], "--size", "40"]) == 0
    assert differing(EpisodeStore(tmp_path / "back").read(0), episode) == set()


def dreamer_rows(rng: np.random.Generator, steps: int) -> dict[str, np.ndarray]:
    """An episode as Dreamer's replay writes it; row 0 holds what must not matter."""
    action = rng.uniform(-1, 1, (steps + 1, 6)).astype(np.float32)
    reward = rng.uniform(0, 2, steps + 1).astype(np.float32)
    action[0], reward[0] = np.nan, np.nan
    return {
        "image": rng.integers(0, 256, (steps + 1, 16, 16, 3), np.uint8),
        "action": action,
        "reward": reward,
        "discount": np.ones(steps + 1, np.float32),
        "is_first": np.arange(steps + 1) == 0,
        "is_last": np.arange(steps + 1) == steps,
        "is_terminal": np.zeros(steps + 1, np.bool_),
    }


def test_v_d4rl_npz_means_what_its_authors_meant(tmp_path: Path) -> None:
    folder = tmp_path / "main" / "walker_walk" / "medium_replay" / "64px"
    folder.mkdir(parents=True)
    rows = dreamer_rows(np.random.default_rng(0), 4)
    np.savez_compressed(folder / "20220101T000000-ab-5.npz", **rows)  # type: ignore[arg-type]
    ended = dreamer_rows(np.random.default_rng(1), 3) | {"is_terminal": np.array([0, 0, 0, 1], np.bool_)}
    np.savez_compressed(folder / "20220102T000000-cd-4.npz", **ended)  # type: ignore[arg-type]
    canonical = {"walker_walk": "dmc/walker-walk"}.get
    store = back("v_d4rl", folder, Reading(canonical=canonical), tmp_path / "store")

    first, second = store.read(0), store.read(1)
    for t in range(4):  # the action in row t + 1 led from image t to image t + 1
        assert np.array_equal(first.action[t], rows["action"][t + 1])
        assert first.reward[t] == rows["reward"][t + 1]
    assert np.array_equal(first.frame[3, 1], rows["image"][3, :, :, 1])
    assert not first.terminated.any() and first.truncated.tolist() == [False, False, False, True]
    assert second.terminated.tolist() == [False, False, True] and not second.truncated.any()
    info = first.info
    assert (info.task, info.look, info.action_repeat, info.frames) == ("dmc/walker-walk", "original", 2, 8)


def test_v_d4rl_hdf5_means_what_its_authors_meant(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    parts = [dreamer_rows(rng, steps) for steps in (3, 5, 2)]
    parts[1]["discount"][-1] = 0  # the flat layout has no is_terminal
    for file, episodes in (("shard_2.hdf5", parts[:2]), ("shard_10.hdf5", parts[2:])):
        with h5py.File(tmp_path / file, "w") as flat:
            images = np.concatenate([each["image"] for each in episodes])
            flat.create_dataset("observation", data=images.transpose(0, 3, 1, 2), compression="gzip")
            for name in ("action", "reward", "discount"):
                flat.create_dataset(
                    name, data=np.concatenate([e[name] for e in episodes]), compression="gzip"
                )
            types = [[0.0] + [1.0] * (len(each["reward"]) - 2) + [2.0] for each in episodes]
            flat.create_dataset("step_type", data=np.concatenate(types))
    store = back("v_d4rl", tmp_path, NO_TASK, tmp_path / "store")
    assert [store.read(i).steps for i in store.ids()] == [3, 5, 2]
    for identifier, rows in enumerate(parts):
        episode = store.read(identifier)
        assert np.array_equal(episode.frame, np.moveaxis(rows["image"], -1, 1))
        assert np.array_equal(episode.action, rows["action"][1:])
        assert np.array_equal(episode.reward, rows["reward"][1:])
        assert episode.terminated[-1] == (identifier == 1)


def test_exorl_means_what_its_authors_meant(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows: dict[str, np.ndarray] = {
        "observation": rng.normal(size=(5, 24)).astype(np.float32),
        "action": rng.uniform(-1, 1, (5, 6)).astype(np.float32),
        "reward": rng.uniform(size=(5, 1)).astype(np.float32),
        "discount": np.ones((5, 1), np.float32),
        "physics": rng.normal(size=(5, 18)),
    }
    np.savez_compressed(tmp_path / "episode_000000_4.npz", **rows)  # type: ignore[arg-type]
    asked: list[tuple[str, str]] = []

    def draw(task: str, look: str, physics: np.ndarray) -> np.ndarray:
        asked.append((task, look))
        assert np.array_equal(physics, rows["physics"])
        return np.full((5, 3, 8, 8), 7, np.uint8)

    reading = Reading(task="dmc/walker-walk", draw=draw)
    episode = ExorlSource(tmp_path, reading).read(0)
    assert asked == [("dmc/walker-walk", "fast")]
    assert np.array_equal(episode.action, rows["action"][1:])
    assert np.array_equal(episode.reward, rows["reward"][1:, 0])
    assert np.array_equal(episode.physics, rows["physics"])
    assert np.array_equal(episode.proprio, rows["observation"])
    assert (episode.info.action_repeat, episode.info.frames, episode.frame.max()) == (1, 4, 7)


def test_dataset_that_does_not_say_its_task_needs_the_flag(tmp_path: Path) -> None:
    rows = dreamer_rows(np.random.default_rng(0), 4)
    np.savez(tmp_path / "a.npz", **rows)  # type: ignore[arg-type]
    source = open_v_d4rl(tmp_path, Reading())
    with pytest.raises(DatasetError, match="does not say which task it is of: add --task NAME"):
        source.read(0)


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """Datasets that the package, version 0.5.4, wrote: jpeg-v0, raw-v0, dict-v0, of 2 and 3 decisions."""
    zipfile.ZipFile(FIXTURE).extractall(tmp_path / "minari")
    return tmp_path / "minari"


@pytest.mark.parametrize("name", ["jpeg-v0", "raw-v0", "dict-v0"])
def test_minari_datasets_of_the_package_are_read(recorded: Path, name: str) -> None:
    source = MinariSource(recorded / name, NO_TASK)
    episodes = [source.read(index) for index in range(len(source))]
    source.close()
    assert [episode.steps for episode in episodes] == [2, 3]
    assert [bool(episode.terminated[-1]) for episode in episodes] == [True, False]
    assert [bool(episode.truncated[-1]) for episode in episodes] == [False, True]
    assert episodes[1].reward.tolist() == [0, 0.5, 1]
    # the space is [-2, 2] x [0, 1], and actions were 0, 1/3, 2/3, 1
    np.testing.assert_allclose(episodes[0].action, [[0, -1 / 3], [1 / 3, 1]], atol=1e-6)
    frames = np.moveaxis(episodes[0].frame, 1, -1).astype(int)
    decoded = np.load(recorded / "jpeg0.npy").astype(int)
    if name == "raw-v0":  # the picture that was recorded: blue is ten times the step
        assert frames[..., 2].tolist() == [[[10 * t] * 32] * 32 for t in range(3)]
    else:  # the picture that the package itself decodes; decoders may round differently
        assert abs(frames - decoded).max() <= 2
        assert any("JPEG" in note for note in source.notes)
    if name == "dict-v0":  # goal/xy, then state
        assert episodes[0].proprio.tolist() == [[0, 0, 0.5], [2, 1, 0.5], [4, 2, 0.5]]
        assert any("observations/word" in note for note in source.notes)


def test_minari_export_has_the_layout_of_the_package(tmp_path: Path) -> None:
    """As `MinariDataset` of version 0.5.4 asked for it when it loaded such an export."""
    store = make_store(tmp_path / "store", size=32)
    export(store, "minari", tmp_path / "walker-v0")
    metadata = json.loads((tmp_path / "walker-v0" / "data" / "metadata.json").read_text())
    assert (metadata["total_episodes"], metadata["total_steps"]) == (3, 5 + 6 + 7)
    assert (metadata["dataset_id"], metadata["minari_version"]) == ("walker-v0", "0.5.4")
    assert (metadata["data_format"], metadata["jpeg_encoding"]) == ("hdf5", False)
    space = json.loads(metadata["observation_space"])
    assert (space["type"], space["dtype"], space["shape"]) == ("Box", "uint8", [3, 32, 32])
    assert np.shape(space["low"]) == (3, 32, 32) and np.min(space["high"]) == 255
    action = json.loads(metadata["action_space"])
    assert action == {"type": "Box", "dtype": "float32", "shape": [2], "low": [-1, -1], "high": [1, 1]}
    with h5py.File(tmp_path / "walker-v0" / "data" / "main_data.hdf5") as file:
        assert list(file) == ["episode_0", "episode_1", "episode_2"]
        group = file["episode_1"]
        assert (group.attrs["id"], group.attrs["total_steps"]) == (1, 6)
        assert int(group.attrs["seed"]) == store.read(1).info.seed
        assert group["observations"].dtype == np.uint8 and group["observations"].shape == (7, 3, 32, 32)
        assert group["terminations"].dtype == np.bool_ and group["truncations"].dtype == np.bool_
        assert set(group) == {"observations", "actions", "rewards", "terminations", "truncations", "infos"}


def test_minari_names_end_in_a_version(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"call the target .*walker-v0"):
        dataset_id_of(tmp_path / "walker", tmp_path)
    assert dataset_id_of(tmp_path / "nearfar" / "walker-v3", tmp_path) == "nearfar/walker-v3"
    assert dataset_id_of(tmp_path / "walker-v3", tmp_path / "elsewhere") == "walker-v3"


def test_minari_with_several_images_asks_which(recorded: Path) -> None:
    metadata = recorded / "dict-v0" / "data" / "metadata.json"
    values = json.loads(metadata.read_text())
    space = json.loads(values["observation_space"])
    space["subspaces"]["wrist"] = space["subspaces"]["pixels"]
    values["observation_space"] = json.dumps(space)
    metadata.write_text(json.dumps(values))
    with pytest.raises(DatasetError, match="has the images pixels, wrist: add --image NAME"):
        MinariSource(recorded / "dict-v0", NO_TASK)
    source = MinariSource(recorded / "dict-v0", Reading(task="dmc/walker-walk", image="pixels"))
    assert source.read(0).frame.shape == (3, 3, 32, 32)
    source.close()


def save_images(folder: Path, names: list[str], **options: Any) -> list[np.ndarray]:
    folder.mkdir(parents=True)
    images = [np.full((8, 8, 3), 20 * place, np.uint8) for place in range(len(names))]
    for name, image in zip(names, images, strict=True):
        Image.fromarray(image).save(folder / name, **options)
    return images


def test_every_folder_of_images_is_an_episode(tmp_path: Path) -> None:
    save_images(tmp_path / "b", ["f9.png", "f10.png", "f11.png"])
    save_images(tmp_path / "a" / "deep", ["0.PNG", "1.png"])
    moving = [Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (0, 255, 0, 255)]
    moving[0].save(tmp_path / "c.gif", save_all=True, append_images=moving[1:])
    (tmp_path / "notes.txt").write_text("no image")
    source = ImagesSource(tmp_path, Reading())
    episodes = [source.read(index) for index in range(len(source))]
    assert [Path(source.name(i)).name for i in range(3)] == ["c.gif", "deep", "b"]
    assert [episode.steps for episode in episodes] == [3, 1, 2]
    assert episodes[0].frame.mean((1, 2, 3)).tolist() == [0, 255, 0, 255]
    assert episodes[2].frame[:, 0, 0, 0].tolist() == [0, 20, 40], "9 before 10"
    assert not episodes[2].action.any() and episodes[2].action.shape == (2, 1)
    assert episodes[2].truncated.tolist() == [False, True]
    assert episodes[0].info.task == "images"


def test_images_of_other_sizes_are_cut_and_resized_on_demand(tmp_path: Path) -> None:
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 200  # the central square
    for name in ("0.png", "1.png"):
        Image.fromarray(wide).save(tmp_path / name)
    with pytest.raises(DatasetError, match=r"0.png: images are 10 x 30: add --size N"):
        ImagesSource(tmp_path, Reading()).read(0)
    frame = ImagesSource(tmp_path, Reading(size=20)).read(0).frame
    assert frame.shape == (2, 3, 20, 20) and (frame == 200).all()
    Image.fromarray(wide[:, 10:20]).save(tmp_path / "0.png")
    Image.fromarray(wide[:8, 10:18]).save(tmp_path / "1.png")
    with pytest.raises(DatasetError, match=r"1.png is 8 x 8, images before it 10 x 10: add --size N"):
        ImagesSource(tmp_path, Reading()).read(0)


@pytest.mark.parametrize(
    ("shape", "place"),
    [
        ((4, 8, 8, 3), (2, 5, 1, 0)),
        ((4, 3, 8, 8), (2, 0, 5, 1)),
        ((4, 8, 8), (2, 5, 1)),
        ((4, 8, 8, 1), (2, 5, 1, 0)),
        ((4, 1, 8, 8), (2, 0, 5, 1)),
    ],
)
def test_layouts_of_images(shape: tuple[int, ...], place: tuple[int, ...]) -> None:
    images = np.zeros(shape, np.uint8)
    images[place] = 9  # image 2, row 5, column 1, red
    found = np.argwhere(as_frames(images) == 9).tolist()
    assert found == [[2, channel, 5, 1] for channel in ((0,) if 3 in shape else (0, 1, 2))]


bounded = st.floats(-100, 100, width=32)


@given(low=bounded, width=st.floats(0.5, 100, width=32), share=st.floats(0, 1))
def test_actions_are_scaled_to_their_bounds(low: float, width: float, share: float) -> None:
    space = {"type": "Box", "low": [low], "high": [low + width]}
    taken = np.array([[low], [low + width], [low + share * width]])
    scaled, is_clipped = scaled_actions(space, taken, 3)
    np.testing.assert_allclose(scaled[:, 0], [-1, 1, 2 * share - 1], atol=1e-5)
    assert not is_clipped and abs(scaled).max() <= 1


def test_actions_outside_of_their_space_are_clipped_and_said() -> None:
    space = {"type": "Box", "low": [-1, -1], "high": [1, 1]}
    scaled, is_clipped = scaled_actions(space, np.array([[0.5, -3.0]]), 1)
    assert is_clipped and scaled.tolist() == [[0.5, -1]]


def test_choices_become_entries() -> None:
    scaled, _ = scaled_actions({"type": "Discrete", "n": 3, "start": 1}, np.array([1, 3, 2]), 3)
    assert scaled.tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
    with pytest.raises(ValueError, match="none of the 3 choices"):
        scaled_actions({"type": "Discrete", "n": 3, "start": 1}, np.array([0]), 1)


@given(st.lists(st.integers(0, 10**30), unique=True))
def test_names_are_ordered_by_their_numbers(numbers: list[int]) -> None:
    assert in_order([f"frame-{number}.png" for number in numbers]) == [
        f"frame-{number}.png" for number in sorted(numbers)
    ]


@pytest.fixture
def exported(tmp_path: Path) -> Callable[[], Source]:
    """Opens an export of three episodes."""
    export(make_store(tmp_path / "original"), "v_d4rl", tmp_path / "exported")
    return partial(open_v_d4rl, tmp_path / "exported", Reading())


def stopped_after(count: int) -> Callable[[range], Iterator[int]]:
    """A bar during which somebody presses Ctrl-C."""

    def go_through(places: range) -> Iterator[int]:
        yield from places[:count]
        raise KeyboardInterrupt

    return go_through


def test_interrupted_import_goes_on(exported: Callable[[], Source], tmp_path: Path) -> None:
    target, plan = tmp_path / "target", {"format": "v_d4rl"}
    with pytest.raises(KeyboardInterrupt):
        formats.import_episodes(exported(), target, plan, stopped_after(2))
    assert formats.import_episodes(exported(), target, plan, no_bar) == (1, 3)
    assert formats.import_episodes(exported(), target, plan, no_bar) == (0, 3)
    formats.import_episodes(exported(), tmp_path / "at-once", plan, no_bar)
    at_once, resumed = EpisodeStore(tmp_path / "at-once"), EpisodeStore(target)
    assert resumed.ids() == at_once.ids() == [0, 1, 2]
    assert [differing(at_once.read(i), resumed.read(i)) for i in range(3)] == [set()] * 3


def test_target_that_holds_something_else_is_left_alone(
    exported: Callable[[], Source], tmp_path: Path
) -> None:
    formats.import_episodes(exported(), tmp_path / "target", {"size": 64}, no_bar)
    with pytest.raises(DatasetError, match=r"holds an import of .*64.*, this is one of .*84"):
        formats.import_episodes(exported(), tmp_path / "target", {"size": 84}, no_bar)
    with pytest.raises(DatasetError, match="original exists and holds no import"):
        formats.import_episodes(exported(), tmp_path / "original", {}, no_bar)
    assert len(EpisodeStore(tmp_path / "original")) == 3
    with pytest.raises(DatasetError, match="exported exists: delete it, or give another target"):
        export(EpisodeStore(tmp_path / "original"), "v_d4rl", tmp_path / "exported")


def test_interrupted_export_leaves_no_half_dataset(tmp_path: Path) -> None:
    store, target = make_store(tmp_path / "store"), tmp_path / "walker-v0"
    make = formats.make_sink("minari", target, hdf5=False, minari_root=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        formats.export_episodes(store, target, make, stopped_after(2))
    assert {path.name for path in tmp_path.iterdir()} == {"store"}
    (tmp_path / "walker-v0.partial").mkdir()  # as after a kill
    formats.export_episodes(store, target, make, no_bar)
    assert {path.name for path in tmp_path.iterdir()} == {"store", "walker-v0"}
    source = MinariSource(target, Reading())
    assert len(source) == 3
    source.close()
