from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from envs.episodes import EpisodeError, EpisodeStore
from envs.recording import Episode, EpisodeBuilder, EpisodeInfo
from envs.spec import EnvSpec, Observation, Transition

ROOT = Path(__file__).parents[2]
ARRAYS = ("frame", "action", "reward", "terminated", "truncated", "physics", "proprio")


def make_episode(
    steps: int = 5, *, seed: int = 0, size: int = 8, physics_dim: int = 3, proprio_dim: int = 4
) -> Episode:
    rng = np.random.default_rng(seed)
    flags = np.zeros((2, steps), np.bool_)
    flags[seed % 2, -1] = True
    return Episode(
        frame=rng.integers(0, 256, (steps + 1, 3, size, size), np.uint8),
        action=rng.normal(size=(steps, 2)).astype(np.float32),
        reward=rng.normal(size=steps).astype(np.float32),
        terminated=flags[0],
        truncated=flags[1],
        physics=rng.normal(size=(steps + 1, physics_dim)),
        proprio=rng.normal(size=(steps + 1, proprio_dim)).astype(np.float32),
        info=EpisodeInfo("dmc/x-y", "fast", 4, 1, 17, 2**63 + seed, 4 * steps - 1, {"mujoco": "3.17.0"}),
    )


def assert_same(first: Episode, second: Episode) -> None:
    assert first.info == second.info
    for name in ARRAYS:
        one, other = getattr(first, name), getattr(second, name)
        assert one.dtype == other.dtype and np.array_equal(one, other), name


def test_builder_gathers_an_episode_by_the_index_convention() -> None:
    spec = EnvSpec("dmc/x-y", (3, 8, 8), 3, 2, 4, 20, True, 3, "original", "camera=easy")
    builder = EpisodeBuilder(spec, lane=2, versions={"mujoco": "3.17.0"})
    expected = make_episode(5)
    stacks = [Observation(np.tile(expected.frame[t], (3, 1, 1)), expected.proprio[t]) for t in range(2)]
    stacks[0].pixels[:6] = 77  # only the newest frame counts
    builder.start(stacks[1], expected.physics[1], episode=6, seed=1)
    first = Transition(
        expected.frame[2],
        expected.proprio[2],
        expected.action[2],
        reward=1.0,
        terminated=False,
        truncated=False,
        physics=expected.physics[2],
        frames=4,
    )
    assert builder.add(first) is None  # this episode is abandoned
    builder.start(stacks[0], expected.physics[0], episode=7, seed=99)
    for t in range(5):
        transition = Transition(
            frame=expected.frame[t + 1],
            proprio=expected.proprio[t + 1],
            action=expected.action[t],
            reward=float(expected.reward[t]),
            terminated=bool(expected.terminated[t]),
            truncated=bool(expected.truncated[t]),
            physics=expected.physics[t + 1],
            frames=4 if t < 4 else 3,
        )
        built = builder.add(transition)
        assert (built is None) == (t < 4)
    assert built is not None
    info = EpisodeInfo("dmc/x-y", "original", 4, 2, 7, 99, 19, {"mujoco": "3.17.0"}, "camera=easy")
    assert_same(built, replace(expected, info=info))
    with pytest.raises(ValueError, match="lane 2 adds a transition"):
        builder.add(transition)
    assert builder.discard() == [], "it has ended"
    builder.start(stacks[0], expected.physics[0], episode=8, seed=1)
    builder.add(first)
    assert builder.discard() == [first]
    with pytest.raises(ValueError, match="lane 2 adds a transition"):
        builder.add(first)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("frame", np.zeros((5, 3, 8, 8), np.uint8), r"frame must be uint8 with 4 axes and 6 rows"),
        ("frame", np.zeros((6, 4, 8, 8), np.uint8), "RGB"),
        ("reward", np.zeros(5), r"reward must be float32 .* found float64 \(5,\)"),
        ("truncated", np.ones(5, np.bool_), "goes on after"),
    ],
)
def test_episode_refuses_arrays_that_do_not_fit(field: str, value: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(make_episode(5), **{field: value})  # type: ignore[arg-type]


def test_store_round_trip(tmp_path: Path) -> None:
    store = EpisodeStore(tmp_path / "new" / "store")
    assert (len(store), store.ids()) == (0, [])
    with pytest.raises(EpisodeError, match="no episode store"):
        _ = store.shared
    written = [make_episode(steps, seed=steps) for steps in (1, 5, 30)]
    assert [store.commit(episode) for episode in written] == [0, 1, 2]
    for opened in (store, EpisodeStore(tmp_path / "new" / "store")):
        assert opened.ids() == [0, 1, 2]
        for identifier, episode in enumerate(written):
            assert_same(opened.read(identifier), episode)
        assert opened.verify() == []
        assert opened.shared == {
            "task": "dmc/x-y",
            "look": "fast",
            "action_repeat": 4,
            "frame_shape": [3, 8, 8],
            "action_dim": 2,
            "physics_dim": 3,
            "proprio_dim": 4,
        }
    assert sorted(path.name for path in store.path.iterdir()) == [
        *(f"episode-{k:08d}.safetensors" for k in range(3)),
        "store.json",
    ]


def test_a_task_may_have_no_physics_state(tmp_path: Path) -> None:
    store, episode = EpisodeStore(tmp_path), make_episode(4, physics_dim=0)
    store.commit(episode)
    again = EpisodeStore(tmp_path)
    assert_same(again.read(0), episode)
    assert again.read(0).physics.shape == (5, 0)
    assert again.shared["physics_dim"] == 0
    assert again.verify() == []


def test_files_are_plain_safetensors_with_a_telling_header(tmp_path: Path) -> None:
    store, episode = EpisodeStore(tmp_path), make_episode(7)
    store.commit(episode)
    path = tmp_path / "episode-00000000.safetensors"
    arrays = safetensors.numpy.load_file(path)
    assert set(arrays) == set(ARRAYS)
    assert all(np.array_equal(arrays[name], getattr(episode, name)) for name in ARRAYS)
    with safetensors.safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    assert metadata.pop("crc32")
    assert float(metadata.pop("return")) == pytest.approx(float(episode.reward.sum()))
    assert metadata == {
        "format": "2",
        "task": "dmc/x-y",
        "look": "fast",
        "action_repeat": "4",
        "lane": "1",
        "episode": "17",
        "seed": str(2**63),
        "frames": "27",
        "version.mujoco": "3.17.0",
    }


def test_stores_from_before_there_were_vectors_go_on(tmp_path: Path) -> None:
    """Those of tasks without any are still written as they were; what has vectors does not mix with them."""
    store, old = EpisodeStore(tmp_path), make_episode(4, proprio_dim=0)
    store.commit(old)
    path = tmp_path / "episode-00000000.safetensors"
    assert set(safetensors.numpy.load_file(path)) == set(ARRAYS) - {"proprio"}
    with safetensors.safe_open(path, framework="numpy") as file:
        assert file.metadata()["format"] == "1"
    assert json.loads((tmp_path / "store.json").read_text())["format"] == 1
    opened = EpisodeStore(tmp_path)
    assert_same(opened.read(0), old)
    assert opened.read(0).proprio.shape == (5, 0)
    assert opened.verify() == []
    with pytest.raises(ValueError, match="'proprio_dim': 4"):
        opened.commit(make_episode(4))


def test_a_store_that_was_emptied_takes_other_episodes(tmp_path: Path) -> None:
    store = EpisodeStore(tmp_path)
    store.commit(make_episode(4, proprio_dim=0))
    store.drop_after(0)
    store = EpisodeStore(tmp_path)
    store.drop_after(0)
    store.commit(make_episode(4))
    assert_same(EpisodeStore(tmp_path).read(0), make_episode(4))
    assert EpisodeStore(tmp_path).verify() == []


def test_frames_may_be_empty(tmp_path: Path) -> None:
    store, episode = EpisodeStore(tmp_path), make_episode(4, size=0)
    store.commit(episode)
    assert_same(EpisodeStore(tmp_path).read(0), episode)
    assert EpisodeStore(tmp_path).verify() == []


def test_the_same_episode_is_the_same_bytes(tmp_path: Path) -> None:
    """And its file is one that the library reads."""
    stores = [EpisodeStore(tmp_path / str(number)) for number in range(5)]
    for store in stores:
        store.commit(make_episode())
    assert len({store.file(0).read_bytes() for store in stores}) == 1
    with safetensors.safe_open(stores[0].file(0), framework="numpy") as file:
        assert file.metadata()["task"] == "dmc/x-y"
        assert set(file.keys()) == set(ARRAYS)


def test_behaviour_is_told_of_where_it_is_known(tmp_path: Path) -> None:
    """Elsewhere nothing is said: the tests above see none."""
    plain, store = make_episode(), EpisodeStore(tmp_path)
    episode = replace(plain, info=replace(plain.info, behaviour="smooth-random"))
    for each in (plain, episode):
        store.commit(each)
    assert_same(EpisodeStore(tmp_path).read(1), episode)
    assert [store.read(number).info.behaviour for number in store.ids()] == ["", "smooth-random"]
    assert store.verify() == []


def test_layout_says_where_arrays_lie(tmp_path: Path) -> None:
    store, episode = EpisodeStore(tmp_path), make_episode(7, proprio_dim=0)
    store.commit(episode)
    layout, data = store.layout(0), store.file(0).read_bytes()
    assert (layout.steps, layout.size, layout.offsets["proprio"]) == (7, len(data), 0)
    for name in set(ARRAYS) - {"proprio"}:
        array, begin = getattr(episode, name), layout.offsets[name]
        assert data[begin : begin + array.nbytes] == array.tobytes(), name


def test_distractors_are_told_of_where_there_are_any(tmp_path: Path) -> None:
    """Elsewhere nothing is said, as in stores from before there were any: the tests above see none."""
    plain = make_episode()
    episode = replace(plain, info=replace(plain.info, distract="camera=easy"))
    store = EpisodeStore(tmp_path)
    store.commit(episode)
    opened = EpisodeStore(tmp_path)
    assert_same(opened.read(0), episode)
    assert (opened.shared["distract"], opened.verify()) == ("camera=easy", [])
    with pytest.raises(ValueError, match="'distract': 'camera=easy'"):
        opened.commit(plain)


def test_task_without_physics_state_can_be_stored(tmp_path: Path) -> None:
    episode = replace(make_episode(4), physics=np.zeros((5, 0)))
    EpisodeStore(tmp_path).commit(episode)
    assert_same(EpisodeStore(tmp_path).read(0), episode)


def test_arrays_are_mapped_and_read_only(tmp_path: Path) -> None:
    store = EpisodeStore(tmp_path)
    store.commit(make_episode())
    for array in (getattr(store.read(0), name) for name in ARRAYS):
        base = array
        while isinstance(base.base, np.ndarray):
            base = base.base
        assert isinstance(base, np.memmap), "copied into memory"
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_other_kinds_of_episodes_are_refused(tmp_path: Path) -> None:
    store, episode = EpisodeStore(tmp_path), make_episode()
    store.commit(episode)
    with pytest.raises(ValueError, match=r"'frame_shape': \[3, 9, 9\]"):
        store.commit(make_episode(size=9))
    with pytest.raises(ValueError, match="'look': 'original'"):
        store.commit(replace(episode, info=replace(episode.info, look="original")))
    assert len(EpisodeStore(tmp_path)) == 1


def test_drop_after_keeps_the_oldest(tmp_path: Path) -> None:
    store = EpisodeStore(tmp_path)
    for seed in range(4):
        store.commit(make_episode(seed=seed))
    store.drop_after(9)
    assert store.ids() == [0, 1, 2, 3]
    store.drop_after(2)
    assert store.ids() == EpisodeStore(tmp_path).ids() == [0, 1]
    assert store.commit(make_episode(seed=8)) == 2
    assert_same(EpisodeStore(tmp_path).read(2), make_episode(seed=8))


def rewritten(path: Path, change: Callable[[dict[str, Any], dict[str, str]], object]) -> None:
    """The same file with other arrays or metadata, sound as safetensors."""
    with safetensors.safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}
        metadata = dict(file.metadata())
    change(arrays, metadata)
    path.write_bytes(safetensors.numpy.save(arrays, metadata))


def with_header(header: bytes, body: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + body


HOSTILE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "cut in header": lambda path: path.write_bytes(path.read_bytes()[:100]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "missing": lambda path: path.unlink(),
    "huge header": lambda path: path.write_bytes(b"\xff" * 64),
    "no json": lambda path: path.write_bytes(with_header(b"{" * 64)),
    "deep json": lambda path: path.write_bytes(with_header(b'{"a":' * 5000 + b"1" + b"}" * 5000)),
    "no metadata": lambda path: path.write_bytes(with_header(b"{}" + b" " * 6)),
    "outside": lambda path: path.write_bytes(
        with_header(b'{"frame":{"dtype":"U8","shape":[999],"data_offsets":[0,999]}}', b"abc")
    ),
    "pickle": lambda path: path.write_bytes(b"\x80\x04cos\nsystem\n(S'touch /tmp/x'\ntR."),
    "array lacks": lambda path: rewritten(path, lambda arrays, _: arrays.pop("reward")),
    "array more": lambda path: rewritten(path, lambda arrays, _: arrays.update(extra=arrays["reward"])),
    "other dtype": lambda path: rewritten(
        path, lambda arrays, _: arrays.update(reward=np.zeros(5, np.int64))
    ),
    "other length": lambda path: rewritten(
        path, lambda arrays, _: arrays.update(reward=np.zeros(4, np.float32))
    ),
    "other size": lambda path: rewritten(
        path, lambda arrays, _: arrays.update(frame=np.zeros((6, 3, 9, 9), np.uint8))
    ),
    "no number": lambda path: rewritten(path, lambda _, metadata: metadata.update(seed="many")),
    "no seed": lambda path: rewritten(path, lambda _, metadata: metadata.pop("seed")),
    "newer": lambda path: rewritten(path, lambda _, metadata: metadata.update(format="3")),
    "odd boolean": lambda path: path.write_bytes(path.read_bytes().replace(b"\0\0\0\0\1", b"\0\0\0\0\2")),
}


@pytest.mark.parametrize("damage", HOSTILE.values(), ids=HOSTILE)
def test_damaged_file_is_named(damage: Callable[[Path], object], tmp_path: Path) -> None:
    store = EpisodeStore(tmp_path)
    for seed in (1, 2, 3):
        store.commit(make_episode(seed=seed))
    path = tmp_path / "episode-00000001.safetensors"
    damage(path)
    with pytest.raises(EpisodeError, match=r"cannot read .*episode-00000001\.safetensors"):
        store.read(1)
    assert [str(problem)[: 12 + len(str(path))] for problem in store.verify()] == [f"cannot read {path}"]
    assert_same(store.read(0), make_episode(seed=1))


def test_newer_format_asks_for_an_update(tmp_path: Path) -> None:
    EpisodeStore(tmp_path).commit(make_episode())
    rewritten(tmp_path / "episode-00000000.safetensors", lambda _, metadata: metadata.update(format="3"))
    with pytest.raises(EpisodeError, match="format 3 is newer than 2: update nearfar"):
        EpisodeStore(tmp_path).read(0)
    (tmp_path / "store.json").write_text('{"format": 3}')
    with pytest.raises(EpisodeError, match=r"store\.json.*format 3 is newer than 2: update nearfar"):
        EpisodeStore(tmp_path)


FLAT = '{"format": 2, "task": "a", "frame_shape": 5, "action_dim": 1, "physics_dim": 1}'


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"format": "1"}', '{"format": 2}', FLAT, "[" * 100_000]
)
def test_damaged_store_file_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text(text)
    with pytest.raises(EpisodeError, match=r"cannot read .*store\.json"):
        EpisodeStore(tmp_path)


def test_verify_finds_any_flipped_bit(tmp_path: Path) -> None:
    store = EpisodeStore(tmp_path)
    store.commit(make_episode())
    path = tmp_path / "episode-00000000.safetensors"
    sound = path.read_bytes()
    start = 8 + int.from_bytes(sound[:8], "little")
    rng = np.random.default_rng(0)
    for position in [*rng.integers(start, len(sound), 60), *range(sound.index(b'"seed"') + 8, start - 400)]:
        damaged = bytearray(sound)
        damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        assert len(store.verify()) == 1, position
    path.write_bytes(sound)
    assert store.verify() == []


@pytest.mark.parametrize("name", ["action", "reward", "physics", "proprio"])
def test_verify_finds_numbers_that_are_not_finite(name: str, tmp_path: Path) -> None:
    store, episode = EpisodeStore(tmp_path), make_episode()
    numbers = getattr(episode, name).copy()
    numbers[2] = np.nan
    store.commit(replace(episode, **{name: numbers}))
    assert ["not finite" in str(problem) for problem in store.verify()] == [True]


def full_disk(*arguments: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_full_disk_leaves_the_store_as_it_was(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = EpisodeStore(tmp_path)
    store.commit(make_episode(seed=1))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full_disk)
        with pytest.raises(OSError, match="No space left") as caught:
            store.commit(make_episode(seed=2))
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(tmp_path / "episode-00000001.safetensors")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert store.commit(make_episode(seed=3)) == 1
    assert EpisodeStore(tmp_path).verify() == []


def test_real_full_device_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    store = EpisodeStore(tmp_path)
    store.commit(make_episode(seed=1))
    (tmp_path / "episode-00000001.safetensors.tmp").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        store.commit(make_episode(seed=2))
    assert EpisodeStore(tmp_path).ids() == [0]


WRITER = """
import sys
sys.path.insert(0, {tests!r})
from test_episodes import EpisodeStore, make_episode
store = EpisodeStore({path!r})
print("ready", flush=True)
while True:
    store.commit(make_episode(40, seed=len(store), size=64))
"""


def test_killed_writer_leaves_whole_episodes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    program = WRITER.format(tests=str(Path(__file__).parent), path=str(tmp_path / "store"))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for _ in range(2):
        with subprocess.Popen(
            [sys.executable, "-c", program], cwd=ROOT, env=environment, stdout=subprocess.PIPE
        ) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(float(rng.uniform(0.02, 0.2)))
            writer.send_signal(signal.SIGKILL)
        store = EpisodeStore(tmp_path / "store")
        assert store.verify() == []
    assert store.ids() == list(range(len(store)))
    assert len(store) > 0


def test_unfinished_files_and_strangers_are_ignored(tmp_path: Path) -> None:
    store = EpisodeStore(tmp_path)
    store.commit(make_episode(seed=1))
    for name in ("episode-00000001.safetensors.tmp", "episode-7.safetensors", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    store = EpisodeStore(tmp_path)
    assert store.ids() == [0]
    assert store.commit(make_episode(seed=2)) == 1
    assert EpisodeStore(tmp_path).verify() == []
