from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from agent import checkpoint
from agent.replay import Replay
from envs.episodes import EpisodeError, EpisodeStore
from envs.recording import EpisodeBuilder
from envs.spec import EnvSpec, Observation, Transition
from world_model.batch import Batch

CPU = torch.device("cpu")


def make_spec(stack: int = 3) -> EnvSpec:
    return EnvSpec("dmc/x-y", (3, 2, 2), stack, 2, 4, 1000, True, 1, "fast", proprio_dim=2)


def make_replay(
    capacity: int,
    *,
    lanes: int = 1,
    horizon: int = 3,
    stack: int = 3,
    pair_share: float = 0.0,
    min_gap: int = 2,
) -> Replay:
    return Replay(
        make_spec(stack),
        capacity=capacity,
        lanes=lanes,
        horizon=horizon,
        pair_share=pair_share,
        min_gap=min_gap,
        device=CPU,
    )


def frame_of(code: int) -> np.ndarray:
    """A frame whose pixels say which observation of the whole test it is."""
    digits = np.array([code & 255, code >> 8 & 255, code >> 16], np.uint8)
    return np.broadcast_to(digits[:, None, None], (3, 2, 2)).copy()


def vector_of(code: int) -> np.ndarray:
    """A vector that says the same."""
    return np.array([code, -code], np.float32)


def codes_of(frames: torch.Tensor) -> np.ndarray:
    assert (frames == frames[..., :1, :1]).all()
    digits = frames[..., 0, 0].numpy().astype(np.int64)
    return digits[..., 0] + 256 * digits[..., 1] + 65536 * digits[..., 2]


@dataclass
class Slot:
    episode: int
    time: int
    code: int
    action: float = np.nan
    reward: float = np.nan
    terminated: bool = False


class Oracle:
    """All that was ever written, as plain lists: windows are found by looking at each position."""

    def __init__(self, length: int, lanes: int, horizon: int, stack: int) -> None:
        self.length, self.horizon, self.stack = length, horizon, stack
        self.lanes: list[list[Slot]] = [[] for _ in range(lanes)]

    def windows(self) -> Iterator[tuple[list[Slot], list[Slot], float]]:
        """For each valid window: its H + 1 observations, the H + S frames of these, the action before.

        Beyond a terminal observation, it repeats itself, with nothing done and nothing earned.
        """
        for slots in self.lanes:
            oldest = max(len(slots) - self.length, 0)
            for s in range(oldest, len(slots)):
                window = [
                    slot for slot in slots[s : s + self.horizon + 1] if slot.episode == slots[s].episode
                ]
                last, missing = s + len(window) - 1, self.horizon + 1 - len(window)
                if missing:
                    if len(window) < 2 or not window[-2].terminated:
                        continue
                    end = Slot(window[-1].episode, window[-1].time, window[-1].code, 0.0, 0.0, True)
                    window = window[:-1] + [end] * (missing + 1)
                begin = s - window[0].time
                frames = [min(max(k, begin), last) for k in range(s - self.stack + 1, s + self.horizon + 1)]
                previous = slots[s - 1].action if window[0].time > 0 else 0.0
                if min(frames) >= oldest and (window[0].time == 0 or s - 1 >= oldest):
                    yield window, [slots[k] for k in frames], previous


class Recorder:
    """Writes random episodes to a replay, an oracle and, where there is one, a store."""

    def __init__(
        self,
        replay: Replay,
        oracle: Oracle,
        rng: np.random.Generator,
        store: EpisodeStore | None = None,
        terminate: bool | None = None,
    ):
        self.replay, self.oracle, self.rng, self.store = replay, oracle, rng, store
        self.terminate = terminate  # None: by chance
        lanes = len(oracle.lanes)
        self.left = [0] * lanes
        self.builders = [EpisodeBuilder(make_spec(), lane=lane, versions={}) for lane in range(lanes)]
        self.code = 0
        self.lost: set[int] = set()

    def step(self, lane: int, longest: int) -> None:
        slots = self.oracle.lanes[lane]
        self.code += 1
        frame, physics = frame_of(self.code), np.zeros(1)
        if self.left[lane] == 0:
            obs = Observation(frame, vector_of(self.code))
            episode = self.replay.start(lane, obs)
            self.builders[lane].start(obs, physics, episode=episode, seed=0)
            slots.append(Slot(episode, 0, self.code))
            self.left[lane] = int(self.rng.integers(1, longest + 1))
            return
        self.left[lane] -= 1
        is_last = self.left[lane] == 0
        by_chance = is_last and bool(self.rng.integers(2))
        terminated = by_chance if self.terminate is None else is_last and self.terminate
        action, reward = self.rng.normal(size=2).astype(np.float32), float(np.float32(self.rng.normal()))
        truncated = is_last and not terminated
        seen = frame, vector_of(self.code)
        transition = Transition(*seen, action, reward, terminated, truncated, physics, 4)
        self.replay.add(lane, transition)
        newest = slots[-1]
        newest.action, newest.reward, newest.terminated = float(action[1]), reward, terminated
        slots.append(Slot(newest.episode, newest.time + 1, self.code))
        episode_done = self.builders[lane].add(transition)
        if episode_done is not None and self.store is not None:
            self.store.commit(episode_done)

    def fail(self, lane: int) -> None:
        """The environment of the lane failed: its partial episode is left out."""
        if self.left[lane]:
            self.replay.discard(lane)
            self.builders[lane].discard()
            self.left[lane] = 0
            slots = self.oracle.lanes[lane]
            partial = slots[-1].episode
            for i, slot in enumerate(slots):
                if slot.episode == partial:
                    slot.episode = -1 - i  # no two belong together
                    self.lost.add(slot.code)

    def run(self, steps: int, longest: int, *, fail_share: float = 0.0) -> None:
        for _ in range(steps):
            lane = int(self.rng.integers(len(self.left)))
            if fail_share and self.rng.random() < fail_share:
                self.fail(lane)
            self.step(lane, longest)

    def finish(self) -> None:
        for lane, left in enumerate(self.left):
            for _ in range(left):
                self.step(lane, 1)


def assert_matches(replay: Replay, oracle: Oracle, rng: np.random.Generator, rows: int = 64) -> None:
    """The replay's windows are the oracle's: as many, and every drawn one is among them, entry by entry."""
    expected = {(found[0][0].episode, found[0][0].time): found for found in oracle.windows()}
    replay.check_invariants()
    assert len(replay) == len(expected)
    if not expected:
        return
    batch = replay.sample(rows, rng)
    codes = codes_of(batch.frames)
    for row in range(rows):
        key = (int(batch.episode[row]), int(batch.time[row]))
        assert key in expected, f"{key} is no valid window"
        window, frames, previous = expected[key]
        assert codes[row].tolist() == [slot.code for slot in frames]
        vectors = [vector_of(slot.code) for slot in window]
        np.testing.assert_array_equal(batch.proprio[row], vectors)
        assert batch.previous_action[row, 1] == previous
        assert batch.action[row, :, 1].tolist() == [slot.action for slot in window[:-1]]
        assert batch.reward[row].tolist() == [slot.reward for slot in window[:-1]]
        assert batch.terminated[row].tolist() == [slot.terminated for slot in window[:-1]]


@pytest.mark.parametrize("seed", range(24))
def test_windows_are_those_of_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lanes, horizon, stack = (int(rng.integers(1, 5)) for _ in range(3))
    length = horizon + stack + int(rng.integers(0, 25))
    replay = make_replay(
        length * lanes, lanes=lanes, horizon=horizon, stack=stack, pair_share=float(rng.random()), min_gap=1
    )
    oracle = Oracle(length, lanes, horizon, stack)
    recorder = Recorder(replay, oracle, rng)
    longest = int(rng.integers(1, 2 * length))  # some episodes are longer than the ring
    for _ in range(40):
        recorder.run(int(rng.integers(1, 12)), longest)
        assert_matches(replay, oracle, rng, rows=16)


@pytest.mark.parametrize("seed", range(16))
def test_episodes_that_were_left_out_are_never_drawn(seed: int) -> None:
    """Whatever they have overwritten, and wherever the ring ends."""
    rng = np.random.default_rng(seed)
    lanes, horizon, stack = (int(rng.integers(1, 4)) for _ in range(3))
    length = horizon + stack + int(rng.integers(0, 25))
    replay = make_replay(
        length * lanes, lanes=lanes, horizon=horizon, stack=stack, pair_share=float(rng.random()), min_gap=1
    )
    oracle = Oracle(length, lanes, horizon, stack)
    recorder = Recorder(replay, oracle, rng)
    for _ in range(40):
        recorder.run(int(rng.integers(1, 12)), int(rng.integers(1, 2 * length)), fail_share=0.1)
        assert_matches(replay, oracle, rng, rows=16)
        if len(replay):
            assert not recorder.lost & set(codes_of(replay.sample(32, rng).frames).ravel().tolist())
    assert recorder.lost


@pytest.mark.parametrize("steps", [3, 4, 7, 11])
def test_wraparound_at_every_alignment(steps: int) -> None:
    for length in range(6, 2 * steps + 8):
        rng = np.random.default_rng(length)
        replay, oracle = make_replay(length), Oracle(length, 1, 3, 3)
        recorder = Recorder(replay, oracle, rng)
        for k in range(3 * length):
            recorder.step(0, 1)
            if k % (steps + 1) == 0:
                recorder.left[0] = steps  # episodes of one length meet the ring's end everywhere
            assert_matches(replay, oracle, rng, rows=8)


def test_batch_has_documented_types_and_shapes() -> None:
    replay = make_replay(100, pair_share=0.5)
    recorder = Recorder(replay, Oracle(100, 1, 3, 3), np.random.default_rng(0))
    recorder.run(80, 20)
    batch = replay.sample(5, np.random.default_rng(0))
    assert {name: (value.dtype, tuple(value.shape)) for name, value in vars(batch).items()} == {
        "frames": (torch.uint8, (5, 6, 3, 2, 2)),
        "proprio": (torch.float32, (5, 4, 2)),
        "previous_action": (torch.float32, (5, 2)),
        "action": (torch.float32, (5, 3, 2)),
        "reward": (torch.float32, (5, 3)),
        "terminated": (torch.bool, (5, 3)),
        "episode": (torch.int64, (5,)),
        "time": (torch.int64, (5,)),
    }
    assert replay.observations == 80


def test_batch_does_not_change_when_the_ring_goes_on() -> None:
    replay = make_replay(12)
    recorder = Recorder(replay, Oracle(12, 1, 3, 3), np.random.default_rng(0))
    recorder.run(12, 100)
    batch = replay.sample(4, np.random.default_rng(0))
    before = {name: value.clone() for name, value in vars(batch).items()}
    recorder.run(24, 100)
    assert all(torch.equal(before[name], value) for name, value in vars(batch).items())


def filled(
    lengths: list[list[int]], *, capacity: int, terminate: bool | None = None, **options: float
) -> Replay:
    """A replay with episodes of these lengths, by lane."""
    replay = make_replay(capacity, lanes=len(lengths), **options)  # type: ignore[arg-type]
    oracle = Oracle(capacity // len(lengths), len(lengths), 3, 3)
    recorder = Recorder(replay, oracle, np.random.default_rng(0), terminate=terminate)
    for lane, episodes in enumerate(lengths):
        for steps in episodes:
            recorder.step(lane, 1)
            recorder.left[lane] = steps
            for _ in range(steps):
                recorder.step(lane, 1)
    return replay


def windows_of(batch: Batch) -> list[tuple[int, int]]:
    return list(zip(batch.episode.tolist(), batch.time.tolist(), strict=True))


@pytest.mark.parametrize(
    "lengths", [[[40, 9], [5, 5, 30], [8]], [[3], [100, 4], [3, 3]], [[3, 1, 1, 1, 1, 1]]]
)
def test_singles_are_uniform_over_valid_windows(lengths: list[list[int]]) -> None:
    replay = filled(lengths, capacity=80 * len(lengths))
    drawn: Counter[tuple[int, int]] = Counter()
    rng = np.random.default_rng(5)
    for _ in range(300):
        drawn.update(windows_of(replay.sample(64, rng)))
    assert len(drawn) == len(replay)
    assert len(drawn) == 1 or chisquare(list(drawn.values())).pvalue > 1e-3


@pytest.mark.parametrize(("terminate", "more"), [(False, 0), (True, 2)])
def test_partners_are_uniform_over_far_windows_of_the_episode(terminate: bool, more: int) -> None:
    """Terminated episodes have two more windows of three decisions: those that reach beyond their ends."""
    lengths = [[10, 16, 3], [30], [9, 25]]
    replay = filled(lengths, capacity=3 * 26, terminate=terminate, pair_share=1.0, min_gap=2)
    # Lane 0 has lost the first 6 observations of episode 0, lane 1 the first 5 of episode 3,
    # lane 2 all of episode 4 and none of episode 5.
    ends = {0: (8, 8), 1: (0, 14), 2: (0, 1), 3: (7, 28), 5: (0, 23)}
    windows = {episode: range(first, end + more) for episode, (first, end) in ends.items()}
    assert len(replay) == sum(map(len, windows.values()))
    rng = np.random.default_rng(5)
    drawn: dict[tuple[int, int], Counter[tuple[int, int]]] = {}
    for _ in range(600):
        batch = windows_of(replay.sample(64, rng))
        for first, partner in zip(batch[:32], batch[32:], strict=True):
            drawn.setdefault(first, Counter())[partner] += 1
    assert len(drawn) == len(replay)
    for (episode, time), partners in drawn.items():
        far = {(episode, other) for other in windows[episode] if abs(other - time) > 2}
        expected = far or {(other, t) for other, times in windows.items() for t in times}
        assert set(partners) <= expected
        if far:
            counts = [partners[key] for key in far]
            assert chisquare(counts).pvalue > 1e-5


def test_share_of_pairs_is_kept() -> None:
    replay = filled([[200]], capacity=300, pair_share=0.5, min_gap=20)
    rng = np.random.default_rng(0)
    times = [replay.sample(64, rng).time for _ in range(50)]
    assert all((time[:16] - time[48:]).abs().min() > 20 for time in times)
    assert any((time[16:32] - time[32:48]).abs().min() <= 20 for time in times)


def test_sampling_depends_on_the_generator_alone() -> None:
    replay = filled([[40], [30, 9]], capacity=200, pair_share=0.5)
    torch.manual_seed(0)
    first = replay.sample(32, np.random.default_rng(1))
    np.random.seed(3)  # noqa: NPY002
    torch.manual_seed(9)
    second = replay.sample(32, np.random.default_rng(1))
    assert_equal(first, second)
    assert windows_of(first) != windows_of(replay.sample(32, np.random.default_rng(2)))


def test_memory_is_what_was_written() -> None:
    """The system gives zeroed pages only as they are written; episode numbers are written at once."""
    replay = make_replay(200, lanes=2)
    assert replay.occupied_bytes(CPU) == 8 * 200
    for lane in (0, 1):
        replay.start(lane, Observation(frame_of(lane), vector_of(lane)))
    frame, vector, action = 3 * 2 * 2, 2 * 4, 2 * 4
    slot = frame + vector + action + 4 + 1 + 8 + 1  # reward, terminated, time, whether a window starts there
    assert replay.occupied_bytes(CPU) == 2 * slot + 8 * 200
    assert replay.occupied_bytes(torch.device("cuda")) == 0, "its frames are on the CPU"


def test_misuse_says_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="capacity 10 over 2 environments is 5 observations each"):
        make_replay(10, lanes=2)
    replay = make_replay(20, lanes=2)
    with pytest.raises(ValueError, match="0 observations hold no window of 3 decisions"):
        replay.sample(2, np.random.default_rng(0))
    action = np.zeros(2, np.float32)
    transition = Transition(frame_of(1), vector_of(1), action, 0.0, False, False, np.zeros(1), 4)
    with pytest.raises(ValueError, match="lane 1: no episode has been started"):
        replay.add(1, transition)
    with pytest.raises(ValueError, match="lane 1: no episode has been started"):
        replay.discard(1)
    obs = Observation(frame_of(0), vector_of(0))
    replay.start(1, obs)
    with pytest.raises(ValueError, match="lane 1: episode 0 has not ended"):
        replay.start(1, obs)


def test_check_finds_wrong_bookkeeping() -> None:
    replay = filled([[20]], capacity=30)
    replay._valid[20] = True
    with pytest.raises(AssertionError):
        replay.check_invariants()


def assert_equal(first: Batch, second: Batch) -> None:
    for name, value in vars(first).items():
        assert torch.equal(value, getattr(second, name)), name


@pytest.mark.parametrize("fail_share", [0.0, 0.05])
@pytest.mark.parametrize("seed", range(8))
def test_restored_replay_goes_on_bit_for_bit(seed: int, fail_share: float, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    lanes = int(rng.integers(1, 4))
    length = int(rng.integers(10, 60))
    store = EpisodeStore(tmp_path / "episodes")
    options = {"lanes": lanes, "pair_share": 0.5, "min_gap": 2}
    replay = make_replay(length * lanes, **options)  # type: ignore[arg-type]
    recorder = Recorder(replay, Oracle(length, lanes, 3, 3), rng, store)
    steps, longest = int(rng.integers(20, 300)), int(rng.integers(4, length * 2))
    recorder.run(steps, longest, fail_share=fail_share)
    recorder.finish()

    checkpoint.save(tmp_path / "state", replay.state_dict())
    restored = make_replay(length * lanes, **options)  # type: ignore[arg-type]
    restored.restore(EpisodeStore(tmp_path / "episodes"), checkpoint.load(tmp_path / "state"))
    assert len(restored) == len(replay)
    assert restored.state_dict() == replay.state_dict()
    for k in range(20):
        restored.check_invariants()
        if len(replay):
            first, second = (r.sample(32, np.random.default_rng(k)) for r in (replay, restored))
            assert_equal(first, second)
        both = [
            Recorder(r, Oracle(length, lanes, 3, 3), np.random.default_rng(k)) for r in (replay, restored)
        ]
        for one in both:
            one.run(10, length)
            one.finish()


def test_open_episodes_are_left_out_of_the_state(tmp_path: Path) -> None:
    store = EpisodeStore(tmp_path)
    replay, oracle = make_replay(60, lanes=2), Oracle(30, 2, 3, 3)
    recorder = Recorder(replay, oracle, np.random.default_rng(0), store)
    for lane in (0, 1):
        recorder.step(lane, 1)
        recorder.left[lane] = 12
        for _ in range(12):
            recorder.step(lane, 1)
    recorder.step(1, 1)
    recorder.left[1] = 50
    for _ in range(25):  # overwrites most of what lane 1 had
        recorder.step(1, 1)
    restored = make_replay(60, lanes=2)
    restored.restore(store, replay.state_dict())
    del oracle.lanes[1][13:]
    assert_matches(restored, oracle, np.random.default_rng(0))
    assert restored.start(0, Observation(frame_of(0), vector_of(0))) == 3, (
        "numbers of lost episodes are not used again"
    )


def test_restore_reads_only_the_episodes_that_fit(tmp_path: Path) -> None:
    store = EpisodeStore(tmp_path)
    replay = make_replay(30)
    recorder = Recorder(replay, Oracle(30, 1, 3, 3), np.random.default_rng(0), store)
    recorder.run(200, 10)
    recorder.finish()
    (tmp_path / "episode-00000000.safetensors").write_bytes(b"damaged, and long overwritten in the ring")
    restored = make_replay(30)
    restored.restore(store, replay.state_dict())
    assert len(restored) == len(replay) > 0


def test_restore_refuses_what_does_not_fit(tmp_path: Path) -> None:
    store = EpisodeStore(tmp_path)
    replay = make_replay(30)
    recorder = Recorder(replay, Oracle(30, 1, 3, 3), np.random.default_rng(0), store)
    recorder.run(60, 10)
    recorder.finish()
    with pytest.raises(ValueError, match="resume with the options of the first run"):
        make_replay(31).restore(store, replay.state_dict())
    other = make_replay(30)
    other._proprio = np.zeros((30, 3), np.float32)
    with pytest.raises(EpisodeError, match="has 2 entries in its observation vectors, the task has 3"):
        other.restore(store, replay.state_dict())
    store.drop_after(len(store) - 1)
    with pytest.raises(EpisodeError, match="lacks the episodes"):
        make_replay(30).restore(store, replay.state_dict())


@pytest.mark.gpu
def test_frames_on_the_gpu_give_the_same_batches() -> None:
    options = {"capacity": 60, "lanes": 2, "horizon": 3, "pair_share": 0.5, "min_gap": 2}
    replays = [Replay(make_spec(), **options, device=torch.device(name)) for name in ("cpu", "cuda")]  # type: ignore[arg-type]
    for replay in replays:
        Recorder(replay, Oracle(30, 2, 3, 3), np.random.default_rng(0)).run(150, 20)
    on_cpu, on_gpu = (replay.sample(64, np.random.default_rng(1)) for replay in replays)
    assert on_gpu.frames.is_cuda and on_gpu.action.is_cuda
    assert_equal(on_cpu, on_gpu.to(CPU))
