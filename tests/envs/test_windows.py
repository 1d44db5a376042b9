from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envs.episodes import EpisodeError, EpisodeStore
from envs.recording import Episode
from envs.windows import EpisodeReader
from tests.envs.test_episodes import make_episode

ROOT = Path(__file__).parents[2]
STEPS = (5, 1, 9, 3)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[Episode]]:
    """Two stores, and the episodes in them, in their order."""
    episodes = [make_episode(steps, seed=steps) for steps in STEPS]
    paths = [tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")]
    for number, episode in enumerate(episodes):
        EpisodeStore(paths[number // 3]).commit(episode)
    return paths, episodes


@pytest.fixture(scope="module", params=[1, 100], ids=lambda count: f"{count} files open")
def reader(request: pytest.FixtureRequest, written: tuple[list[Path], list[Episode]]) -> EpisodeReader:
    return EpisodeReader(*map(EpisodeStore, written[0]), max_open_files=request.param)


def test_episodes_are_numbered_store_by_store(
    reader: EpisodeReader, written: tuple[list[Path], list[Episode]]
) -> None:
    assert reader.lengths.tolist() == [steps + 1 for steps in STEPS]
    assert reader.lengths.dtype == np.int64
    stores = [reader.origin(number) for number in range(4)]
    expected = [(written[0][0], 0), (written[0][0], 1), (written[0][0], 2), (written[0][1], 0)]
    assert [(store.path, name) for store, name in stores] == expected


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_windows_are_slices_of_their_episodes(
    reader: EpisodeReader, written: tuple[list[Path], list[Episode]], data: st.DataObject
) -> None:
    length = data.draw(st.integers(1, 6))
    fitting = [(e, t) for e, steps in enumerate(STEPS) for t in range(steps + 2 - length)]
    chosen = data.draw(st.lists(st.sampled_from(fitting), max_size=9))
    episode, start = np.array(chosen, np.int64).reshape(-1, 2).T
    windows = reader.windows(episode, start, length)
    for name in ("frame", "physics", "proprio", "action", "reward", "terminated"):
        span = length if name in ("frame", "physics", "proprio") else length - 1
        found = getattr(windows, name)
        assert found.flags.writeable and len(found) == len(chosen)
        for row, (e, t) in enumerate(chosen):
            whole = getattr(written[1][e], name)
            assert found.dtype == whole.dtype
            np.testing.assert_array_equal(found[row], whole[t : t + span])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_stacks_repeat_the_first_frame(
    reader: EpisodeReader, written: tuple[list[Path], list[Episode]], data: st.DataObject
) -> None:
    stack = data.draw(st.integers(1, 5))
    known = [(e, t) for e, steps in enumerate(STEPS) for t in range(steps + 1)]
    chosen = data.draw(st.lists(st.sampled_from(known), max_size=9))
    episode, time = np.array(chosen, np.int64).reshape(-1, 2).T
    found = reader.stacks(episode, time, stack)
    assert found.shape == (len(chosen), 3 * stack, 8, 8) and found.dtype == np.uint8
    for row, (e, t) in enumerate(chosen):
        for place in range(stack):
            frame = written[1][e].frame[max(0, t - stack + 1 + place)]
            np.testing.assert_array_equal(found[row, 3 * place : 3 * place + 3], frame)


@pytest.mark.parametrize(("episode", "start"), [(1, 1), (0, -1), (4, 0), (-1, 0)])
def test_what_lies_outside_is_refused(reader: EpisodeReader, episode: int, start: int) -> None:
    with pytest.raises(ValueError, match=rf"episode {episode} has .* asked for 2 from time {start} on"):
        reader.windows(np.array([2, episode]), np.array([0, start]), 2)
    with pytest.raises(ValueError, match="asked for 1 from time"):
        reader.stacks(np.array([episode]), np.array([start if start < 0 else 99]), 3)
    with pytest.raises(ValueError, match="as many times as episodes"):
        reader.windows(np.array([0, 0]), np.array([0]), 2)
    with pytest.raises(ValueError, match="length of 1 or more"):
        reader.windows(np.array([0]), np.array([0]), 0)


def test_states_without_frames_and_frames_without_states(tmp_path: Path) -> None:
    for name, sizes in (("state", {"size": 0}), ("bare", {"physics_dim": 0, "proprio_dim": 0})):
        store, episode = EpisodeStore(tmp_path / name), make_episode(**sizes)
        store.commit(episode)
        windows = EpisodeReader(store).windows(np.array([0]), np.array([1]), 3)
        for array in ("frame", "physics", "proprio"):
            np.testing.assert_array_equal(getattr(windows, array)[0], getattr(episode, array)[1:4])
            assert getattr(windows, array).dtype == getattr(episode, array).dtype


def test_what_cannot_be_read_together_is_named(tmp_path: Path) -> None:
    for name, size in (("one", 8), ("other", 9)):
        EpisodeStore(tmp_path / name).commit(make_episode(size=size))
    stores = [EpisodeStore(tmp_path / name) for name in ("one", "other", "none")]
    with pytest.raises(EpisodeError, match=r"other holds .*9, 9.* give stores of the same shapes"):
        EpisodeReader(*stores[:2])
    with pytest.raises(EpisodeError, match=r"no episodes in .*none: record some"):
        EpisodeReader(stores[2])
    assert len(EpisodeReader(stores[0], stores[2]).lengths) == 1, "an empty one changes nothing"


def test_damaged_episode_is_named_at_once(tmp_path: Path) -> None:
    store = EpisodeStore(tmp_path)
    for seed in range(3):
        store.commit(make_episode(seed=seed))
    path = store.file(1)
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(EpisodeError, match=r"cannot read .*episode-00000001\.safetensors"):
        EpisodeReader(store)


@pytest.mark.parametrize("change", ["deleted", "truncated"])
def test_a_file_that_changes_afterwards_ends_nothing_but_the_call(tmp_path: Path, change: str) -> None:
    store = EpisodeStore(tmp_path)
    for seed in range(2):
        store.commit(make_episode(seed=seed))
    reader = EpisodeReader(store)
    store.file(1).unlink() if change == "deleted" else os.truncate(store.file(1), 100)
    with pytest.raises(EpisodeError, match=r"cannot read .*episode-00000001\.safetensors"):
        reader.windows(np.array([0, 1]), np.array([0, 0]), 2)
    np.testing.assert_array_equal(
        reader.windows(np.array([0]), np.array([0]), 2).frame[0], make_episode(seed=0).frame[:2]
    )


def test_open_files_are_bounded(tmp_path: Path) -> None:
    store = EpisodeStore(tmp_path)
    for seed in range(30):
        store.commit(make_episode(1, seed=seed))
    before = len(os.listdir("/proc/self/fd"))
    reader = EpisodeReader(store, max_open_files=4)
    for _ in range(3):
        reader.windows(np.arange(30), np.zeros(30, np.int64), 2)
    assert len(os.listdir("/proc/self/fd")) <= before + 4


READING = """
import resource, sys
import numpy as np
from envs.episodes import EpisodeStore
from envs.positions import WindowSampler
from envs.windows import EpisodeReader

def anonymous_kib():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("RssAnon:")))

reader = EpisodeReader(EpisodeStore(sys.argv[1]))
sampler = WindowSampler(reader.lengths, 16)
rng = np.random.default_rng(0)
seen = 0
for number in range(60):
    windows = reader.windows(*sampler.sample(32, rng), 16)
    seen += windows.frame.nbytes
    if number == 5:
        before = anonymous_kib()
        used = int(open("/proc/self/statm").read().split()[5]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_DATA, (used + 2**24, used + 2**24))
print(seen, anonymous_kib() - before)
"""


def sparse_store(path: Path, episodes: int, *, steps: int = 1000, size: int = 64) -> EpisodeStore:
    """Episodes of black frames, which take no room on a disk that knows holes."""
    store = EpisodeStore(path)
    whole = make_episode(steps, size=size)
    whole.frame[:] = 0
    store.commit(whole)
    first = store.file(0).read_bytes()
    layout = store.layout(0)
    begin = layout.offsets["frame"]
    end = begin + whole.frame.nbytes
    for number in range(episodes):
        with store.file(number).open("wb") as file:
            file.write(first[:begin])
            file.seek(end)
            file.write(first[end:])
            file.truncate(layout.size)
    return EpisodeStore(path)


def test_memory_does_not_grow_with_what_is_read(tmp_path: Path) -> None:
    """300 MiB are read from 550 MiB, with 16 MiB of data allowed beyond what the first batches took."""
    store = sparse_store(tmp_path, 50)
    assert sum(store.file(number).stat().st_size for number in store.ids()) > 550 * 2**20
    done = subprocess.run(
        [sys.executable, "-c", READING, str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen, grown_kib = map(int, done.stdout.split())
    assert seen > 300 * 2**20
    assert grown_kib < 8 * 1024


def test_rows_are_those_of_one_array(
    reader: EpisodeReader, written: tuple[list[Path], list[Episode]]
) -> None:
    episode, start = np.array([2, 0, 3]), np.array([4, 0, 1])
    for name in ("action", "reward", "terminated", "proprio", "physics", "frame"):
        found = reader.rows(name, episode, start, 2)
        for row, (e, t) in enumerate(zip(episode, start, strict=True)):
            np.testing.assert_array_equal(found[row], getattr(written[1][e], name)[t : t + 2])
    assert reader.rows("action", np.array([1]), np.array([0]), 1).shape == (1, 1, 2)
    with pytest.raises(ValueError, match="episode 1 has 2 observations, asked for 3 from time 0"):
        reader.rows("action", np.array([1]), np.array([0]), 2)
    with pytest.raises(ValueError, match="found 'colour'"):
        reader.rows("colour", episode, start, 1)
