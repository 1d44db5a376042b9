"""Collecting from counting environments: what must come out the same, byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agent import checkpoint, load_agent
from agent.agent import Agent
from agent.behaviour import Behaviours, Policy
from agent.collecting import MAX_AHEAD, MAX_ATTEMPTS, Collector, Goal
from agent.seeding import Streams
from configs.behaviours import parse_behaviours
from configs.load import dump_yaml
from configs.schema import Config
from envs import supervision
from envs.counting import CountingEnv, decode_episode, decode_step
from envs.episodes import EpisodeStore
from envs.spec import StepResult, WorkerError
from envs.vector import SerialPool

NEVER = 10**9
SEED = 7


@dataclass
class Stop:
    requested: bool = False


class Unequal(CountingEnv):
    """Episodes of lengths that their seeds determine; some fail, at the decision that a table names."""

    def __init__(self, lengths: dict[int, int], fails: dict[int, list[int]], **options: Any) -> None:
        super().__init__(size=32, **options)
        self._lengths, self._fails, self._fails_at = lengths, fails, NEVER

    def reset(self, *, seed: int | None = None, **options: Any) -> tuple[np.ndarray, dict[str, Any]]:
        assert seed is not None
        self._fails_at = self._fails[seed].pop(0) if self._fails.get(seed) else NEVER
        if self._fails_at < 0:
            raise ValueError("out of joint")
        self.env_spec = replace(self.env_spec, episode_frames=self._lengths.get(seed, 3 + seed % 11))
        return super().reset(seed=seed, **options)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        if self._step == self._fails_at:
            raise ValueError("out of joint")
        return super().step(action)


class InterruptedPool(SerialPool):
    """Something happens once its environments have made so many calls."""

    def __init__(
        self, make: Callable[[int], CountingEnv], count: int, calls: int, event: Callable[[], None]
    ) -> None:
        super().__init__(make, count)
        self.calls, self.event = calls, event

    def step(self, actions: dict[int, np.ndarray]) -> dict[int, StepResult]:
        self.calls -= 1
        if self.calls == 0:
            self.event()
        return super().step(actions)


@dataclass
class Collection:
    """Collects into a directory each."""

    tmp_path: Path
    behaviour: str = "random=1,smooth-random=1"
    policy: Policy | None = None
    lengths: dict[int, int] = field(default_factory=dict)
    fails: dict[int, list[int]] = field(default_factory=dict)
    started: list[int] = field(default_factory=list)

    def run(
        self,
        name: str,
        goal: Goal,
        *,
        envs: int = 1,
        stop_after: int = NEVER,
        crash_after: int = NEVER,
    ) -> EpisodeStore:
        stop = Stop()

        def end() -> None:
            if crash_after < NEVER:
                raise KeyboardInterrupt
            stop.requested = True

        fails = {seed: [*times] for seed, times in self.fails.items()}
        calls = min(stop_after, crash_after)
        pool = InterruptedPool(lambda _: Unequal(self.lengths, fails), envs, calls, end)
        streams = Streams(SEED)
        behaviours = Behaviours(
            parse_behaviours(self.behaviour),
            streams,
            pool.env_spec,
            correlation_frames=5,
            policy=self.policy,
        )
        store = EpisodeStore(self.tmp_path / name)
        collector = Collector(pool, store, behaviours, streams, versions={"mujoco": "3"})
        is_met = collector.run(goal, stop, progress=False)
        assert is_met != stop.requested
        return store


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    return Collection(tmp_path)


def seed_of(episode: int, change: int = 0) -> int:
    return Streams(SEED).episode_seed("env", episode, change)


def contents(store: EpisodeStore) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store.path.iterdir()}


def test_episodes_are_numbered_by_the_seed(collection: Collection) -> None:
    store = collection.run("store", Goal(episodes=9), envs=2)
    assert store.ids() == list(range(9))
    assert store.verify() == []
    for number in store.ids():
        episode = store.read(number)
        assert (episode.info.episode, episode.info.lane) == (number, 0)
        assert episode.info.seed == seed_of(number)
        assert episode.info.frames == episode.steps == 3 + seed_of(number) % 11
        assert decode_step(episode.frame).tolist() == list(range(episode.steps + 1))
        assert set(decode_episode(episode.frame)) == {seed_of(number) % 256}
        assert episode.reward.tolist() == list(range(episode.steps))
        assert dict(episode.info.versions) == {"mujoco": "3"}


def test_actions_are_those_of_the_behaviour(collection: Collection) -> None:
    store = collection.run("store", Goal(episodes=8), envs=3)
    spec = CountingEnv(size=32).env_spec
    shares = parse_behaviours(collection.behaviour)
    behaviours = Behaviours(shares, Streams(SEED), spec, correlation_frames=5)
    names = []
    for number in store.ids():
        episode, expected = store.read(number), behaviours.start(number)
        names.append(episode.info.behaviour)
        assert names[-1] == behaviours.name(number)
        for action in episode.action:
            np.testing.assert_array_equal(action, expected.act(None))  # type: ignore[arg-type]
    assert sorted(set(names)) == ["random", "smooth-random"]


@pytest.mark.parametrize("goal", [Goal(episodes=12), Goal(frames=80)], ids=str)
def test_number_of_environments_makes_no_difference(collection: Collection, goal: Goal) -> None:
    collection.lengths = {seed_of(1): 60}
    alone = collection.run("alone", goal)
    for envs in (2, 5):
        assert contents(collection.run(f"with {envs}", goal, envs=envs)) == contents(alone)


@pytest.mark.parametrize("envs", [1, 3])
@pytest.mark.parametrize("cut", [{"stop_after": 11}, {"crash_after": 23}, {"stop_after": 1}], ids=str)
def test_cut_and_continued_is_the_same(collection: Collection, envs: int, cut: dict[str, int]) -> None:
    goal = Goal(episodes=10)
    whole = collection.run("whole", goal, envs=envs)
    try:
        half = collection.run("cut", goal, envs=envs, **cut)
    except KeyboardInterrupt:
        half = EpisodeStore(collection.tmp_path / "cut")
    assert len(half) < 10, "it was under way"
    assert contents(collection.run("cut", goal, envs=4 - envs)) == contents(whole)


@pytest.mark.parametrize("envs", [1, 4])
def test_as_many_episodes_as_it_takes(collection: Collection, envs: int) -> None:
    store = collection.run("store", Goal(frames=50), envs=envs)
    frames = [store.read(number).info.frames for number in store.ids()]
    assert sum(frames[:-1]) < 50 <= sum(frames)


def test_a_goal_may_be_raised_and_met_already(collection: Collection) -> None:
    small = contents(collection.run("store", Goal(episodes=3)))
    assert contents(collection.run("store", Goal(frames=2))) == small
    raised = collection.run("store", Goal(episodes=5))
    assert contents(raised) == contents(collection.run("whole", Goal(episodes=5)))


@pytest.mark.parametrize("envs", [1, 3])
def test_an_accident_changes_nothing(collection: Collection, envs: int) -> None:
    healthy = collection.run("healthy", Goal(episodes=6), envs=envs)
    collection.fails = {seed_of(1): [2], seed_of(3): [-1, 0], seed_of(4): [1]}
    assert contents(collection.run("failing", Goal(episodes=6), envs=envs)) == contents(healthy)


@pytest.mark.parametrize("envs", [1, 3])
def test_what_fails_each_time_gets_another_seed(collection: Collection, envs: int) -> None:
    collection.fails = {seed_of(1): [2] * MAX_ATTEMPTS}
    store = collection.run("store", Goal(episodes=3), envs=envs)
    seeds = [store.read(number).info.seed for number in store.ids()]
    assert seeds == [seed_of(0), seed_of(1, 1), seed_of(2)]


def test_what_always_fails_ends_the_collection_and_nothing_is_lost(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "MAX_RESTARTS", 2)
    collection.fails = {seed_of(2): [-1] * 9}
    with pytest.raises(WorkerError, match=r"failed .* times .*; 2 episodes are saved, the same command goes"):
        collection.run("store", Goal(episodes=4))
    assert EpisodeStore(collection.tmp_path / "store").ids() == [0, 1]


def test_a_long_episode_is_waited_for(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is over before it is kept in memory, and there is only so much of that."""
    collection.lengths = {seed_of(0): 400}
    most = 0
    commit = Collector._commit

    def watched(collector: Collector, goal: Goal) -> None:
        nonlocal most
        most = max(most, len(collector._over))
        commit(collector, goal)

    monkeypatch.setattr(Collector, "_commit", watched)
    store = collection.run("store", Goal(episodes=60), envs=2)
    assert store.read(0).steps == 400
    assert 2 < most <= MAX_AHEAD * 2


def test_no_more_is_begun_than_is_needed(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    reset = SerialPool.reset

    def watched(pool: SerialPool, seeds: dict[int, int]) -> Any:
        begun.extend(seeds.values())
        return reset(pool, seeds)

    monkeypatch.setattr(SerialPool, "reset", watched)
    collection.run("store", Goal(episodes=3), envs=5)
    assert begun == [seed_of(number) for number in range(3)]


def test_a_policy_is_the_agent_that_was_saved(
    collection: Collection, tiny_config: Callable[..., Config]
) -> None:
    torch.manual_seed(0)
    spec = CountingEnv(size=32).env_spec
    agent = Agent(spec, tiny_config(planner={"control": "policy"}), torch.device("cpu"))
    with torch.no_grad():
        for parameter in agent.actor_critic.parameters():  # its actions depend on what it sees
            parameter.normal_()
    run = collection.tmp_path / "run"
    state = {"env_spec": asdict(spec), "progress": {"frames": 5}, "agent": agent.state_dict()}
    checkpoint.save(checkpoint.numbered(run / "checkpoints", 5), state)
    (run / "config.yaml").write_text(dump_yaml(agent.config))
    collection.behaviour, collection.policy = "policy=1,random=1", Policy(load_agent(run).agent)

    alone, beside = (collection.run(f"{envs}", Goal(episodes=6), envs=envs) for envs in (1, 4))
    assert contents(alone) == contents(beside)
    loaded = load_agent(run)
    chosen = [number for number in alone.ids() if alone.read(number).info.behaviour == "policy"]
    assert len(chosen) == 3
    drawn = []
    for number in chosen:
        loaded.reset()
        episode = alone.read(number)
        for time, action in enumerate(episode.action):
            stack = [episode.frame[max(0, time - age)] for age in (2, 1, 0)]
            np.testing.assert_array_equal(action, loaded.act(np.concatenate(stack)))
            drawn.append(action.tolist())
    assert len({str(action) for action in drawn}) > 1
