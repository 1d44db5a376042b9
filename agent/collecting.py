"""Recording episodes without learning: several environments side by side, one order of episodes.

Episode k follows from the seed and k alone, and episodes are committed in the order of their numbers. So a
store has the same bytes with any number of environments, and whether or not it was cut and continued.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from agent.behaviour import Behaviour, Behaviours
from agent.seeding import Streams
from agent.stopping import StopRequest
from envs.episodes import EpisodeStore
from envs.recording import Episode, EpisodeBuilder
from envs.spec import Observation, Pool, Transition, WorkerError

MAX_ATTEMPTS = 3
"""Times that an episode is begun with one seed: what fails each time is no accident, and gets another."""
MAX_AHEAD = 4
"""Episodes for each environment that may be over before one that was started earlier is."""


@dataclass(frozen=True)
class Goal:
    """How much to record; one of the two is None.

    Attributes:
        episodes: so many.
        frames: as many episodes as it takes to have so many frames.
    """

    episodes: int | None = None
    frames: int | None = None

    def is_met(self, episodes: int, frames: int) -> bool:
        """Whether so many episodes with so many frames are enough."""
        return episodes >= (self.episodes or 0) and frames >= (self.frames or 0)


@dataclass
class _Take:
    """An episode under way in one of the environments."""

    number: int
    behaviour: Behaviour
    obs: Observation
    frames: int = 0


class Collector:
    """Fills a store up to a goal.

    Attributes:
        store: what is recorded.
        frames: frames in the store.
    """

    def __init__(
        self,
        pool: Pool,
        store: EpisodeStore,
        behaviours: Behaviours,
        streams: Streams,
        *,
        versions: Mapping[str, str],
    ) -> None:
        """Go on with what the store holds.

        Args:
            pool: environments.
            store: empty, or with the first episodes of the same collection.
            behaviours: choose the actions.
            streams: of the collection's seed.
            versions: of the software that matters for pixels and physics, by name.

        Raises:
            EpisodeError: an episode in the store is damaged.
        """
        self.store = store
        self.frames = sum(store.read(identifier).info.frames for identifier in store.ids())
        self._pool, self._behaviours, self._streams = pool, behaviours, streams
        # Environments are none of an episode's facts, so all of them count as the first.
        self._builders = [EpisodeBuilder(pool.env_spec, lane=0, versions=versions) for _ in range(pool.count)]
        self._takes: dict[int, _Take] = {}
        self._over: dict[int, Episode] = {}  # and not committed yet
        self._next_commit = self._next_start = max(store.ids(), default=-1) + 1
        self._again: list[int] = []  # numbers of episodes that failed
        self._failures: dict[int, int] = {}

    def run(self, goal: Goal, stop: StopRequest, *, progress: bool) -> bool:
        """Record until the goal is met, or until asked to stop.

        Args:
            goal: how much, with what is there already.
            stop: checked after every decision; the episodes under way are lost, and made again another time.
            progress: draw a progress bar.

        Returns:
            Whether the goal is met.

        Raises:
            WorkerError: an environment fails too often.
            OSError: the store cannot be written.
        """
        bar = tqdm(
            initial=self.frames, unit="frame", unit_scale=True, disable=not progress, dynamic_ncols=True
        )
        with bar, logging_redirect_tqdm():
            try:
                while not (self._is_met(goal) or stop.requested):
                    self._start(goal)
                    self._step()
                    self._commit(goal)
                    bar.total = self._expected_frames(goal)
                    bar.set_postfix_str(f"{self._next_commit} episodes", refresh=False)
                    bar.update(self._lived() - bar.n)
            except WorkerError as error:
                saved = f"{self._next_commit} episodes are saved, the same command goes on from there"
                raise WorkerError(f"{error}; {saved}") from error
        return self._is_met(goal)

    def _is_met(self, goal: Goal) -> bool:
        return goal.is_met(self._next_commit, self.frames)

    def _lived(self) -> int:
        """Frames of all episodes that were started, and did not fail."""
        over = sum(episode.info.frames for episode in self._over.values())
        return self.frames + over + sum(take.frames for take in self._takes.values())

    def _expected_frames(self, goal: Goal) -> int:
        if goal.frames is not None:
            return max(goal.frames, self.frames)
        mean = self.frames / self._next_commit if self._next_commit else self._pool.env_spec.episode_frames
        return round(mean * max(goal.episodes or 0, self._next_commit))

    def _start(self, goal: Goal) -> None:
        """Begin episodes in environments that have none, as far as they are needed."""
        chosen: dict[int, int] = {}
        for lane in range(self._pool.count):
            number = None if lane in self._takes else self._next_number(goal)
            if number is None:
                continue
            chosen[lane] = number
        seeds = {lane: self._seed(number) for lane, number in chosen.items()}
        started = self._pool.reset(seeds)
        for lane, number in chosen.items():
            if lane not in started:
                self._fail(number)
                continue
            obs, physics = started[lane]
            name = self._behaviours.name(number)
            self._builders[lane].start(obs, physics, episode=number, seed=seeds[lane], behaviour=name)
            self._takes[lane] = _Take(number, self._behaviours.start(number), obs)

    def _next_number(self, goal: Goal) -> int | None:
        """The first episode that is to be begun; None where those that were begun are enough for now.

        An episode is needed where those before it do not meet the goal. They have the frames that were lived
        so far, at least.
        """
        if self._again:
            self._again.sort()
            return self._again.pop(0)
        number = self._next_start
        is_far_ahead = number >= self._next_commit + MAX_AHEAD * self._pool.count
        if is_far_ahead or goal.is_met(number, self._lived()):
            return None
        self._next_start += 1
        return number

    def _seed(self, number: int) -> int:
        """What an episode's environment is reset with."""
        return self._streams.episode_seed("env", number, self._failures.get(number, 0) // MAX_ATTEMPTS)

    def _step(self) -> None:
        """One decision in every environment that runs."""
        actions = {lane: take.behaviour.act(take.obs) for lane, take in self._takes.items()}
        steps = self._pool.step(actions)
        for lane, action in actions.items():
            take = self._takes[lane]
            if lane not in steps:
                self._builders[lane].discard()
                del self._takes[lane]
                self._fail(take.number)
                continue
            step = steps[lane]
            take.obs, take.frames = step.obs, take.frames + step.frames
            episode = self._builders[lane].add(Transition.of(action, step))
            if episode is not None:
                self._over[take.number] = episode
                del self._takes[lane]

    def _fail(self, number: int) -> None:
        self._failures[number] = self._failures.get(number, 0) + 1
        self._again.append(number)

    def _commit(self, goal: Goal) -> None:
        """Write what is over, in the order of numbers, and no more than the goal asks for."""
        while self._next_commit in self._over and not self._is_met(goal):
            episode = self._over.pop(self._next_commit)
            self.store.commit(episode)
            self.frames += episode.info.frames
            self._next_commit += 1
