"""Experience in memory: every frame once, windows and stacks built by index when a batch is drawn.

Each lane (environment) owns a ring of slots. An episode of T decisions fills T + 1 consecutive slots:
slot t holds frame[t], and action[t], reward[t], terminated[t] once they are known; the last one serves
as a successor only. A *position* counts all slots that a lane ever wrote; its slot is `position % length`.

Windows may reach beyond the end of an episode that was terminated, where nothing is taken or earned
(`Batch.alive`). So its last decisions, which alone tell what ends it, stand at every step of a window as all
others do, also where the episode is shorter than a window. No window reaches beyond a time limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from envs.episodes import EpisodeError, EpisodeStore
from envs.recording import Episode
from envs.spec import EnvSpec, Observation, Transition
from world_model.batch import Batch


@dataclass
class _Span:
    """Where an episode lies in its lane: positions `start` to `last`, both included."""

    episode: int
    start: int
    last: int


@dataclass
class _Lane:
    """Write position of one ring, and the episodes it still holds, oldest first."""

    head: int = 0
    is_open: bool = False
    spans: list[_Span] = field(default_factory=list)


class Replay:
    """Uniform windows over interleaved environments; the oldest observations are overwritten."""

    def __init__(
        self,
        env_spec: EnvSpec,
        *,
        capacity: int,
        lanes: int,
        horizon: int,
        pair_share: float,
        min_gap: int,
        device: torch.device,
    ) -> None:
        """Reserve room; memory of the CPU is only touched as it fills.

        Args:
            env_spec: shapes of frames, vectors and actions, and the stack.
            capacity: observations kept over all lanes.
            lanes: environments that are recorded side by side.
            horizon: H, decisions in a window.
            pair_share: share of a batch's rows drawn in pairs from one episode, in [0, 1].
            min_gap: the windows of a pair start more than this many decisions apart.
            device: where the frames lie and batches are returned.

        Raises:
            ValueError: the rings are too short for a single window.
        """
        self._stack, self._horizon = env_spec.stack, horizon
        self._reach = max(env_spec.stack, 2)  # slots from the oldest that a window needs: frames, last action
        self._pair_share, self._min_gap = pair_share, min_gap
        self._length = capacity // lanes
        if self._length < horizon + self._reach:
            raise ValueError(
                f"capacity {capacity} over {lanes} environments is {self._length} observations each; "
                f"a window needs {horizon + self._reach}"
            )
        self._device = device
        self._lanes = [_Lane() for _ in range(lanes)]
        slots = lanes * self._length  # arrays are flat: slot i of a lane is row lane * length + i
        self._frames = _zeros((slots, *env_spec.frame_shape), device)
        self._proprio = np.zeros((slots, env_spec.proprio_dim), np.float32)
        self._action = np.zeros((slots, env_spec.action_dim), np.float32)
        self._reward = np.zeros(slots, np.float32)
        self._terminated = np.zeros(slots, np.bool_)
        self._episode = np.full(slots, -1, np.int64)
        self._time = np.zeros(slots, np.int64)
        self._valid = np.zeros(slots, np.bool_)
        self._windows = 0
        self._next_episode = 0
        self._last_time = np.zeros(64, np.int64)  # by episode: time of its newest observation
        self._is_over = np.zeros(64, np.bool_)  # by episode: whether its newest observation is terminal

    def __len__(self) -> int:
        """Windows that can be drawn."""
        return self._windows

    @property
    def observations(self) -> int:
        """Slots that hold observations now, or did until their episode was left out, over all lanes."""
        return int(self._filled().sum())

    def occupied_bytes(self, device: torch.device) -> int:
        """Memory of a device that is taken: of the CPU's, what was written so far."""
        if device.type != "cpu":
            return self._frames.nbytes if self._device.type == device.type else 0
        arrays = [self._proprio, self._action, self._reward, self._terminated, self._time, self._valid]
        whole = sum(array.nbytes for array in arrays)
        whole += self._frames.nbytes if self._device.type == "cpu" else 0
        return whole * self.observations // len(self._valid) + self._episode.nbytes

    def start(self, lane: int, obs: Observation) -> int:
        """Record the first observation of an episode.

        Args:
            lane: which environment, in [0, lanes).
            obs: obs[0], of which the newest frame is kept, and the vector.

        Returns:
            The episode's number, unique in this replay and increasing in the order of starts.

        Raises:
            ValueError: the lane's last episode has not ended.
        """
        ring = self._lanes[lane]
        if ring.is_open:
            raise ValueError(f"lane {lane}: episode {ring.spans[-1].episode} has not ended")
        episode = self._next_episode
        self._next_episode += 1
        if episode == len(self._last_time):
            self._last_time = np.concatenate([self._last_time, np.zeros_like(self._last_time)])
            self._is_over = np.concatenate([self._is_over, np.zeros_like(self._is_over)])
        ring.is_open = True
        ring.spans.append(_Span(episode, ring.head, ring.head))
        self._append(lane, obs.frame, obs.proprio, episode, 0)
        return episode

    def add(self, lane: int, transition: Transition) -> None:
        """Record one decision: it completes the newest observation and appends its successor.

        Raises:
            ValueError: no episode is under way in the lane.
        """
        ring = self._lanes[lane]
        if not ring.is_open:
            raise ValueError(f"lane {lane}: no episode has been started")
        row = self._row(lane, ring.head - 1)
        self._action[row] = transition.action
        self._reward[row] = transition.reward
        self._terminated[row] = transition.terminated
        span = ring.spans[-1]
        span.last = ring.head
        time = span.last - span.start
        self._append(lane, transition.frame, transition.proprio, span.episode, time)
        if transition.terminated:
            self._is_over[span.episode] = True
            for position in range(max(span.start, span.last - self._horizon + 1), span.last):
                self._set_valid(self._row(lane, position), True)
        ring.is_open = not (transition.terminated or transition.truncated)

    def discard(self, lane: int) -> None:
        """Leave out the episode under way: none of it is drawn any more.

        Its slots stay empty until they are written again. The older observations that it has overwritten are
        lost all the same, so positions go on behind it: a restored replay then has the same windows.

        Raises:
            ValueError: no episode is under way in the lane.
        """
        ring = self._lanes[lane]
        if not ring.is_open:
            raise ValueError(f"lane {lane}: no episode has been started")
        span = ring.spans.pop()
        ring.is_open = False
        positions = np.arange(max(span.start, ring.head - self._length), ring.head)
        rows = lane * self._length + positions % self._length
        self._windows -= int(self._valid[rows].sum())
        self._valid[rows] = False
        self._episode[rows] = -1

    def sample(self, batch_size: int, rng: np.random.Generator) -> Batch:
        """Draw windows uniformly, some of them in pairs from one episode.

        The first `round(pair_share * B / 2)` rows are each the first of a pair and as many rows at the end
        their partners: uniform over the windows of the same episode that start more than `min_gap` decisions
        away. Where there is none, that row is drawn like all others.

        Args:
            batch_size: B, windows to draw.
            rng: the only source of randomness.

        Returns:
            The batch, on the replay's device; its memory is not shared with the replay.

        Raises:
            ValueError: there is no complete window yet.
        """
        if not self._windows:
            raise ValueError(f"{self.observations} observations hold no window of {self._horizon} decisions")
        rows = self._uniform(batch_size, rng)
        pairs = round(self._pair_share * batch_size / 2)
        if pairs:
            partner, exists = self._partners(rows[:pairs], rng)
            rows[batch_size - pairs :] = np.where(exists, partner, rows[batch_size - pairs :])
        return self._gather(rows)

    def state_dict(self) -> dict[str, Any]:
        """Positions of the finished episodes, without their content.

        Episodes under way are left out: their lanes stand where these episodes began.
        """
        lanes = []
        for ring in self._lanes:
            spans = ring.spans[:-1] if ring.is_open else ring.spans
            head = ring.spans[-1].start if ring.is_open else ring.head
            lanes.append({"head": head, "spans": [[span.episode, span.start, span.last] for span in spans]})
        return {"length": self._length, "next_episode": self._next_episode, "lanes": lanes}

    def laid_out(self, steps: Sequence[int]) -> dict[str, Any]:
        """What `state_dict` would return after finished episodes of these lengths, numbered from 0.

        Each of them, the oldest first, goes to the lane that was written least.

        Args:
            steps: decisions of each episode.
        """
        lanes: list[dict[str, Any]] = [{"head": 0, "spans": []} for _ in self._lanes]
        for episode, decisions in enumerate(steps):
            lane = min(lanes, key=lambda each: each["head"])
            lane["spans"].append([episode, lane["head"], lane["head"] + decisions])
            lane["head"] += decisions + 1
        for lane in lanes:
            lane["spans"] = [span for span in lane["spans"] if span[2] >= lane["head"] - self._length]
        return {"length": self._length, "next_episode": len(steps), "lanes": lanes}

    def restore(
        self, store: EpisodeStore, state: dict[str, Any], *, carried_store: EpisodeStore | None = None
    ) -> None:
        """Fill an empty replay from stored episodes, every observation in the slot it had.

        Args:
            store: holds, at least, the episodes of `state`; the newest ones are read until all are found.
            state: what `state_dict` returned.
            carried_store: holds those that are older than all of `store`, if there are such.

        Raises:
            ValueError: capacity or lanes differ from those saved, or the store lacks an episode.
            EpisodeError: a stored episode is damaged or missing.
        """
        saved = (state["length"], len(state["lanes"]))
        if saved != (self._length, len(self._lanes)):
            raise ValueError(
                f"replay was saved with {saved[1]} environments of {saved[0]} observations each, "
                f"this one has {len(self._lanes)} of {self._length}: resume with the options of the first run"
            )
        self._next_episode = state["next_episode"]
        self._last_time = np.zeros(max(64, 2 * self._next_episode), np.int64)
        self._is_over = np.zeros(len(self._last_time), np.bool_)
        wanted: dict[int, tuple[int, _Span]] = {}
        for lane, entry in enumerate(state["lanes"]):
            spans = [_Span(*span) for span in entry["spans"]]
            self._lanes[lane] = _Lane(head=entry["head"], spans=spans)
            wanted |= {span.episode: (lane, span) for span in spans}
        stores = [store] if carried_store is None else [store, carried_store]
        for place, identifier in ((each, i) for each in stores for i in reversed(each.ids())):
            if not wanted:
                break
            stored = place.read(identifier)
            if stored.info.episode in wanted:
                self._refill(*wanted.pop(stored.info.episode), stored)
        self._windows = int(self._valid.sum())
        if wanted:
            places = " and ".join(str(each.path) for each in stores)
            raise EpisodeError(
                f"{places} lacks the episodes {sorted(wanted)} of this run's replay: "
                "put copies there, or train in another --out"
            )

    def check_invariants(self) -> None:
        """Recompute from episode numbers and times which windows are valid, and compare.

        Raises:
            AssertionError: the incremental bookkeeping is wrong.
        """
        episode, time = (array.reshape(len(self._lanes), -1) for array in (self._episode, self._time))
        is_over, last = self._is_over[episode], self._last_time[episode]
        expected = (episode >= 0) & ~(is_over & (time == last))
        for offset in range(1 - self._reach, self._horizon + 1):
            there = (np.roll(episode, -offset, 1) == episode) & (np.roll(time, -offset, 1) == time + offset)
            outside = (time + offset < 0) | (is_over & (time + offset > last))
            expected &= there | outside
        assert np.array_equal(expected.ravel(), self._valid), np.flatnonzero(expected.ravel() != self._valid)
        assert self._windows == self._valid.sum(), (self._windows, self._valid.sum())

    def _row(self, lane: int, position: int) -> int:
        return lane * self._length + position % self._length

    def _filled(self) -> np.ndarray:
        return np.array([min(ring.head, self._length) for ring in self._lanes])

    def _append(self, lane: int, frame: np.ndarray, proprio: np.ndarray, episode: int, time: int) -> None:
        ring = self._lanes[lane]
        row = self._row(lane, ring.head)
        # The overwritten slot was needed by the next windows of its own episode.
        for offset in range(self._reach):
            later = self._row(lane, ring.head + offset)
            if self._episode[later] == self._episode[row]:
                self._set_valid(later, False)
        self._frames[row] = torch.tensor(frame)
        self._proprio[row] = proprio
        self._episode[row] = episode
        self._time[row] = time
        self._last_time[episode] = time
        if time >= self._horizon:
            self._set_valid(self._row(lane, ring.head - self._horizon), True)
        ring.head += 1
        while ring.spans[0].last < ring.head - self._length:
            ring.spans.pop(0)

    def _set_valid(self, row: int, valid: bool) -> None:
        self._windows += int(valid) - int(self._valid[row])
        self._valid[row] = valid

    def _uniform(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Rows of valid windows, int64 (count,), independent and uniform: draw any row, keep valid ones."""
        filled = self._filled()
        ends = filled.cumsum()
        rows = np.empty(0, np.int64)
        while (missing := count - len(rows)) > 0:
            draws = int(1.2 * missing * ends[-1] / self._windows) + 8
            if draws > ends[-1]:  # so few windows that listing them is cheaper
                return np.concatenate([rows, rng.choice(np.flatnonzero(self._valid), missing)])
            drawn = rng.integers(ends[-1], size=draws)
            lane = np.searchsorted(ends, drawn, side="right")
            drawn += lane * self._length - (ends - filled)[lane]
            rows = np.concatenate([rows, drawn[self._valid[drawn]][:missing]])
        return rows

    def _partners(self, rows: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Windows of the same episodes, more than `min_gap` away: rows, and whether there is one at all."""
        lane, slot = np.divmod(rows, self._length)
        time, episode = self._time[rows], self._episode[rows]
        head = np.array([ring.head for ring in self._lanes])[lane]
        age = (head - 1 - slot) % self._length  # positions between this slot and the newest
        oldest = time - (self._length - 1 - age)  # time of the oldest slot, had the episode begun before it
        first = np.where(oldest <= 0, 0, oldest + self._reach - 1)
        first_after = time + self._min_gap + 1
        before = np.maximum(time - self._min_gap - first, 0)
        newest = self._last_time[episode] - np.where(self._is_over[episode], 1, self._horizon)
        after = np.maximum(newest + 1 - first_after, 0)
        pick = rng.integers(np.maximum(before + after, 1))
        partner = np.where(pick < before, first + pick, first_after + pick - before)
        return lane * self._length + (slot + partner - time) % self._length, before + after > 0

    def _gather(self, rows: np.ndarray) -> Batch:
        lane, slot = np.divmod(rows, self._length)
        episode, time = self._episode[rows], self._time[rows]
        left = self._last_time[episode] - time  # decisions until the newest observation
        # Before the first frame and after a terminal one there is none: these are repeated, (B, H + S).
        offset = np.arange(1 - self._stack, self._horizon + 1)
        offset = np.clip(offset, -time[:, None], left[:, None])
        is_beyond = np.arange(self._horizon) >= left[:, None]  # (B, H), no decision was taken there
        index = (lane * self._length)[:, None] + (slot[:, None] + offset) % self._length
        decision = index[:, self._stack - 1 : -1]
        before = lane * self._length + (slot - 1) % self._length
        chosen = torch.from_numpy(index.ravel()).to(self._device)
        return Batch(
            frames=self._frames.index_select(0, chosen).unflatten(0, index.shape),
            proprio=torch.from_numpy(self._proprio[index[:, self._stack - 1 :]]),
            previous_action=torch.from_numpy(
                np.where(time[:, None] > 0, self._action[before], np.float32(0))
            ),
            action=torch.from_numpy(np.where(is_beyond[..., None], np.float32(0), self._action[decision])),
            reward=torch.from_numpy(np.where(is_beyond, np.float32(0), self._reward[decision])),
            terminated=torch.from_numpy(self._terminated[decision] | is_beyond),
            episode=torch.from_numpy(episode),
            time=torch.from_numpy(time),
        ).to(self._device)

    def _refill(self, lane: int, span: _Span, stored: Episode) -> None:
        steps = span.last - span.start
        if len(stored.action) != steps:
            raise ValueError(
                f"stored episode {span.episode} has {len(stored.action)} decisions, but {steps} were recorded"
            )
        if stored.proprio.shape[1:] != self._proprio.shape[1:]:
            raise EpisodeError(
                f"stored episode {span.episode} has {stored.proprio.shape[1]} entries in its observation "
                f"vectors, the task has {self._proprio.shape[1]}: record it again with this version"
            )
        oldest = self._lanes[lane].head - self._length
        time = np.arange(max(oldest - span.start, 0), steps + 1)
        rows = lane * self._length + (span.start + time) % self._length
        frames = torch.from_numpy(stored.frame[time]).to(self._device)
        self._frames.index_copy_(0, torch.from_numpy(rows).to(self._device), frames)
        self._proprio[rows] = stored.proprio[time]
        self._action[rows[:-1]] = stored.action[time[:-1]]
        self._reward[rows[:-1]] = stored.reward[time[:-1]]
        self._terminated[rows[:-1]] = stored.terminated[time[:-1]]
        self._episode[rows] = span.episode
        self._time[rows] = time
        self._last_time[span.episode] = steps
        self._is_over[span.episode] = stored.terminated[-1]
        lost = 0 if time[0] == 0 else self._reach - 1  # they reach back to overwritten slots
        short = (
            1 if stored.terminated[-1] else self._horizon
        )  # observations at the end where no window starts
        self._valid[rows[lost : max(len(rows) - short, 0)]] = True


def _zeros(shape: tuple[int, ...], device: torch.device) -> Tensor:
    if device.type == "cpu":  # NumPy asks the system for zero pages, which cost memory only once written
        return torch.from_numpy(np.zeros(shape, np.uint8))
    return torch.zeros(shape, dtype=torch.uint8, device=device)
