"""Runs that start from another one: what they take over, what they begin with, and going on bit for bit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from agent.agent import Agent
from agent.carried_episodes import carry_over, open_carried_store
from agent.checkpoint import CheckpointError
from agent.curious import CuriousAgent, make_agent
from agent.loading import read_predecessor
from agent.loop import Loop
from agent.replay import Replay
from agent.seeding import Streams
from agent.warm_start import check_run_fits, earns_the_same, start_from_run
from configs.load import ConfigError, save_config
from configs.schema import Config
from envs.counting import CountingEnv
from envs.episodes import EARLIER, EpisodeStore
from envs.recording import Episode, EpisodeBuilder
from envs.spec import EnvSpec, Observation, StepResult, Transition
from envs.vector import SerialPool
from world_model.curiosity import MemoryBonus

CPU = torch.device("cpu")
OTHER = "counting-other"

MakeConfig = Callable[..., Config]


@dataclass
class Stop:
    requested: bool = False


class CountedPool(SerialPool):
    """Environments after so many calls of which a run is asked to stop."""

    def __init__(self, task: str, lengths: Sequence[int], stop: Stop, calls: int) -> None:
        super().__init__(lambda i: Task(task, length=lengths[i]), len(lengths))
        self.stop, self.calls = stop, calls

    def step(self, actions: dict[int, np.ndarray]) -> dict[int, StepResult]:
        self.calls -= 1
        self.stop.requested = self.calls == 0
        return super().step(actions)


class Task(CountingEnv):
    """Counting under another name."""

    def __init__(self, task: str, **options: Any) -> None:
        super().__init__(size=32, **options)
        self.env_spec = replace(self.env_spec, task=task)


def relabelled(episode: Episode) -> Episode:
    """Rewards of the other task: minus those of this one."""
    return replace(episode, reward=-episode.reward, info=replace(episode.info, task=OTHER))


@pytest.fixture
def make_config(tiny_config: MakeConfig) -> MakeConfig:
    def make(**options: Any) -> Config:
        training = {
            "random_frames": 20,
            "first_updates": 3,
            "exploration_frames": 20,
            "updates_per_step": 0.5,
        }
        return tiny_config(
            **{"task": "counting", "frames": 60} | options,
            training=training,
            evaluation={"every_frames": 1000, "episodes": 1, "videos": False},
            logging={
                "every_updates": 5,
                "checkpoint_every_frames": 20,
                "tensorboard": False,
                "progress": False,
            },
        )

    return make


def run(
    config: Config,
    directory: Path,
    lengths: Sequence[int] = (10,),
    *,
    starts: bool = True,
    stop_after: int = 10**9,
) -> Loop:
    """Train from where the directory stands; `starts`: take over what the configuration says."""
    stop = Stop()
    pool = CountedPool(config.task, lengths, stop, stop_after)
    eval_pool = SerialPool(lambda i: Task(config.task, length=6), 1)
    predecessor = None
    if starts and config.from_run is not None:
        predecessor = read_predecessor(config.from_run)
        check_run_fits(predecessor, pool.env_spec, config)
        if config.from_replay == "all":
            relabel = None if config.task == "counting" else relabelled
            carry_over(predecessor, directory, config, relabel, stop)
    streams = Streams(config.seed)
    with Loop(config, directory, CPU, pool, eval_pool, streams, predecessor=predecessor) as loop:
        save_config(config, directory / "config.yaml")
        loop.announce({"versions": {}, **({"from": predecessor.facts} if predecessor else {})})
        loop.run(stop)
    return loop


MADE: list[Path] = []  # the one run that all tests start from


@pytest.fixture
def source(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, make_config: MakeConfig) -> Path:
    """A copy of a run of six episodes of ten decisions."""
    if not MADE:
        directory = tmp_path_factory.mktemp("made") / "source"
        run(make_config(), directory)
        MADE.append(directory)
    return shutil.copytree(MADE[0], tmp_path / "source")


def started(source: Path, config: Config) -> Agent:
    """An agent that has taken over what it may, and has not learnt yet."""
    torch.manual_seed(0)
    agent = Agent(Task(config.task).env_spec, config, CPU)
    start_from_run(agent, read_predecessor(source))
    return agent


def loaded(source: Path) -> Agent:
    """The source's own agent."""
    predecessor = read_predecessor(source)
    agent = Agent(predecessor.env_spec, predecessor.config, CPU)
    agent.load_state_dict(predecessor.agent)
    return agent


def parts(agent: Agent) -> dict[str, nn.Module]:
    model, actor_critic, steady = agent.model, agent.actor_critic, agent.steady.averages
    assert isinstance(steady["model"], nn.ModuleDict)
    return {
        "encoder": model.encoder,
        "key encoder": model.key_encoder,
        "dynamics": model.dynamics,
        "averaged dynamics": model.averaged["dynamics"],
        "objective": model.objective,
        "steady encoder": steady["encoder"],
        "steady dynamics": steady["model"]["dynamics"],
        "reward": model.reward,
        "averaged reward": model.averaged["reward"],
        "steady reward": steady["model"]["reward"],
        "critics": actor_critic.critics,
        "target critics": actor_critic.target_critics,
        "steady critics": steady["critics"],
        "policy": actor_critic.policy,
        "averaged policy": actor_critic.averaged_policy,
        "steady policy": steady["policy"],
    }


OF_THE_BODY = list(range(7))  # of these parts, the first ones


def is_same(one: nn.Module, other: nn.Module) -> bool:
    tensors = [[*each.state_dict().values()] for each in (one, other)]
    assert len(tensors[0]) == len(tensors[1]) > 0
    return all(torch.equal(a, b) for a, b in zip(*tensors, strict=True))


@pytest.mark.parametrize("task", ["counting", OTHER])
def test_the_model_is_taken_over_and_what_is_about_the_task_only_with_it(
    source: Path, make_config: MakeConfig, task: str
) -> None:
    agent = started(source, make_config(task=task, from_run=str(source)))
    theirs, ours = parts(loaded(source)), parts(agent)
    found = [is_same(ours[name], theirs[name]) for name in ours]
    expected = [task == "counting" or i in OF_THE_BODY for i in range(len(ours))]
    assert dict(zip(ours, found, strict=True)) == dict(zip(ours, expected, strict=True))
    updates = read_predecessor(source).agent["steady"]["_extra_state"]
    assert agent.steady.get_extra_state() == (updates if task == "counting" else 0) < updates + 1
    assert updates > 0
    assert not any(optimizer.state for optimizer in agent.optimizers.values()), "optimisers are fresh"


def test_a_queue_begins_empty_because_its_keys_are_of_other_episodes(
    tmp_path: Path, make_config: MakeConfig
) -> None:
    config = make_config(world_model={"queue": 24})
    run(config, tmp_path / "source")
    agent = started(tmp_path / "source", config.model_copy(update={"from_run": "it"}))
    queues = [
        {name: value for name, value in each.model.state_dict().items() if ".queue." in name}
        for each in (agent, loaded(tmp_path / "source"))
    ]
    assert [
        int(sum((v >= 0).sum() for n, v in each.items() if n.endswith("episode"))) for each in queues
    ] == [
        0,
        24,
    ]


def curious(config: Config, seed: int) -> CuriousAgent:
    """An agent that has not learnt yet, with a key in its memory."""
    torch.manual_seed(seed)
    agent = make_agent(Task(config.task).env_spec, config, CPU)
    assert isinstance(agent, CuriousAgent)
    if isinstance(agent.explorer.bonus, MemoryBonus):
        agent.explorer.bonus.memory.episode[0] = seed
    return agent


@pytest.mark.parametrize(
    ("options", "is_taken"),
    [
        ({}, True),
        ({"curiosity": {"bonus": "contrastive", "memory": 4}}, False),
        ({"mode": "explore"}, False),
        ({"task": OTHER}, False),
        ({"task": OTHER, "world_model": {"symlog_limit": 8}}, False),
        ({"task": OTHER, "world_model": {"bins": 31}, "actor_critic": {"critics": 3}}, False),
    ],
)
def test_an_explorer_is_taken_over_where_rewards_and_bonus_are_the_same(
    source: Path, make_config: MakeConfig, options: dict[str, Any], is_taken: bool
) -> None:
    """Without its memory, whose episodes have other numbers here; else it is as it was drawn."""
    base: dict[str, Any] = {"from_run": str(source), "curiosity": {"bonus": "knn", "memory": 4}}
    old = curious(make_config(**base), 1)
    predecessor = replace(read_predecessor(source), config=old.config, agent=old.state_dict())
    config = make_config(**base | options)
    check_run_fits(predecessor, Task(config.task).env_spec, config)
    agent = curious(config, 2)
    own = {name: each.clone() for name, each in agent.explorer.state_dict().items()}
    start_from_run(agent, predecessor)
    memory = {name: each for name, each in own.items() if "memory" in name}
    expected = old.explorer.state_dict() | memory if is_taken else own
    torch.testing.assert_close(agent.explorer.state_dict(), expected, rtol=0, atol=0)
    assert len(memory) == 3


def test_what_does_not_fit_of_an_explorer_is_named(source: Path, make_config: MakeConfig) -> None:
    base: dict[str, Any] = {"from_run": str(source), "curiosity": {"bonus": "disagreement"}}
    old = curious(make_config(**base), 1)
    predecessor = replace(read_predecessor(source), config=old.config, agent=old.state_dict())
    base["curiosity"]["members"] = 3
    with pytest.raises(ConfigError, match=r"other parts or sizes .*: pass --curiosity\.members 5$"):
        start_from_run(curious(make_config(**base), 2), predecessor)
    start_from_run(curious(make_config(**base, task=OTHER), 2), predecessor)
    start_from_run(Agent(Task("counting").env_spec, make_config(from_run=str(source)), CPU), predecessor)


def test_what_explored_knows_nothing_of_rewards(source: Path, make_config: MakeConfig) -> None:
    """Of the same task, too: its critics never saw them."""
    predecessor = read_predecessor(source)
    config = make_config(from_run=str(source), task=predecessor.env_spec.task)
    assert earns_the_same(predecessor, config)
    explored = replace(predecessor, config=predecessor.config.model_copy(update={"mode": "explore"}))
    assert not earns_the_same(explored, config)
    agent = Agent(Task(predecessor.env_spec.task).env_spec, config, CPU)
    own = {name: each.clone() for name, each in agent.actor_critic.state_dict().items()}
    start_from_run(agent, explored)
    torch.testing.assert_close(agent.actor_critic.state_dict(), own, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("task", "replay", "lengths"),
    [(OTHER, "all", [9, 14]), ("counting", "all", [10]), (OTHER, "none", [10])],
)
def test_it_goes_on_bit_for_bit_without_the_run_it_started_from(
    source: Path, tmp_path: Path, make_config: MakeConfig, task: str, replay: str, lengths: list[int]
) -> None:
    config = make_config(
        task=task, from_run=str(source), from_replay=replay, seed=5, envs=len(lengths), frames=80
    )
    whole = run(config, tmp_path / "whole", lengths)
    cut = run(config, tmp_path / "cut", lengths, stop_after=45 // len(lengths))
    assert 0 < cut.progress.updates < whole.progress.updates and cut.obs, "in the middle of an episode"
    shutil.rmtree(source)
    resumed = run(config, tmp_path / "cut", lengths, starts=False)
    assert vars(whole.progress) | {"seconds": 0} == vars(resumed.progress) | {"seconds": 0}
    assert whole.progress.updates > 20
    torch.testing.assert_close(whole.agent.state_dict(), resumed.agent.state_dict(), rtol=0, atol=0)
    assert whole.store.ids() == resumed.store.ids()
    batches = [loop.replay.sample(32, loop.streams.numpy("replay")) for loop in (whole, resumed)]
    torch.testing.assert_close(*[vars(batch) for batch in batches], rtol=0, atol=0)
    earlier = 6 if replay == "all" else 0  # own ones count on from there
    assert whole.store.read(0).info.episode == earlier
    assert (tmp_path / "whole" / EARLIER).exists() == bool(earlier)


def test_it_learns_at_once_from_what_was_recorded_before(
    source: Path, tmp_path: Path, make_config: MakeConfig
) -> None:
    """No random start: 3 updates at the first decision; and its frames, steps and files are its own."""
    config = make_config(task=OTHER, from_run=str(source), frames=10)
    loop = run(config, tmp_path / "run")
    progress = loop.progress
    assert (progress.frames, progress.steps, progress.random_steps) == (10, 10, 0)
    assert progress.updates == 3 + 10 // 2
    assert len(loop.store) == 1 and loop.store.read(0).info.task == OTHER
    assert len(EpisodeStore(tmp_path / "run" / EARLIER)) == 6
    loop.replay.check_invariants()
    assert loop.replay.observations == 7 * 11
    batch = loop.replay.sample(400, np.random.default_rng(0))
    assert set(batch.episode.tolist()) == set(range(7))
    old = batch.episode < 6
    steps = batch.time[:, None] + torch.arange(batch.horizon)
    torch.testing.assert_close(batch.reward[old], -steps[old].float())
    torch.testing.assert_close(batch.reward[~old], steps[~old].float())


def test_without_replay_it_starts_at_random_as_configured(
    source: Path, tmp_path: Path, make_config: MakeConfig
) -> None:
    config = make_config(task=OTHER, from_run=str(source), from_replay="none", frames=30)
    loop = run(config, tmp_path / "run")
    assert (loop.progress.random_steps, loop.replay.observations) == (20, 33)
    assert open_carried_store(config, tmp_path / "run") is None


def carried(run_dir: Path) -> list[tuple[str, int, float]]:
    """Task, number and first non-zero reward of the episodes that a run has taken over."""
    store = EpisodeStore(run_dir / EARLIER)
    episodes = [store.read(identifier) for identifier in store.ids()]
    return [(each.info.task, each.info.episode, float(each.reward[1])) for each in episodes]


def test_the_newest_episodes_are_taken_that_find_room(
    source: Path, tmp_path: Path, make_config: MakeConfig
) -> None:
    config = make_config(from_run=str(source), task=OTHER, replay={"capacity": 35})
    predecessor = read_predecessor(source)
    assert carry_over(predecessor, tmp_path / "run", config, relabelled, Stop()) == 3
    theirs, ours = EpisodeStore(source / "episodes"), EpisodeStore(tmp_path / "run" / EARLIER)
    for mine, other in zip(ours.ids(), [3, 4, 5], strict=True):
        one, two = ours.read(mine), theirs.read(other)
        np.testing.assert_array_equal(one.frame, two.frame)
        np.testing.assert_array_equal(one.reward, -two.reward)
        assert (one.info.episode, one.info.seed) == (mine, two.info.seed)
    few = config.model_copy(update={"replay": config.replay.model_copy(update={"capacity": 10})})
    with pytest.raises(
        ConfigError, match=r"finds room in replay\.capacity 10: raise it, or .* --from-replay none"
    ):
        carry_over(predecessor, tmp_path / "run", few, relabelled, Stop())
    assert not ours.file(0).exists(), "what was there is dropped first"


def test_what_a_run_has_taken_over_is_handed_on(
    source: Path, tmp_path: Path, make_config: MakeConfig
) -> None:
    """A second start takes what the first one took and recorded, up to its checkpoint."""
    config = make_config(task=OTHER, from_run=str(source), frames=20)
    run(config, tmp_path / "second")
    third = make_config(task=OTHER, from_run=str(tmp_path / "second"), frames=10)
    predecessor = read_predecessor(tmp_path / "second")
    carry_over(replace(predecessor, stored_episodes=1), tmp_path / "third", third, None, Stop())
    expected = [(OTHER, i, -1.0) for i in range(6)] + [(OTHER, 6, 1.0)]
    assert carried(tmp_path / "third") == expected
    without = predecessor.config.model_copy(
        update={"from_replay": "none"}
    )  # what lies there is no part of it
    assert carry_over(replace(predecessor, config=without), tmp_path / "third", third, None, Stop()) == 2
    assert predecessor.frames == 60 + 20, "frames of both"
    manifest = json.loads((tmp_path / "second" / "manifest.json").read_text())
    assert manifest["from"] == {
        "path": str(source),
        "checkpoint": "checkpoint-000000060.safetensors",
        "fingerprint": read_predecessor(source).fingerprint,
        "task": "counting",
        "frames": 60,
    }


def test_a_start_that_was_interrupted_is_made_anew(
    source: Path, tmp_path: Path, make_config: MakeConfig
) -> None:
    config = make_config(task=OTHER, from_run=str(source))
    done: list[Episode] = []

    def interrupted(episode: Episode) -> Episode:
        if len(done) == 4:
            raise KeyboardInterrupt
        done.append(episode)
        return replace(relabelled(episode), reward=episode.reward + 99)

    with pytest.raises(KeyboardInterrupt):
        carry_over(read_predecessor(source), tmp_path / "run", config, interrupted, Stop())
    carry_over(read_predecessor(source), tmp_path / "run", config, relabelled, Stop())
    assert carried(tmp_path / "run") == [(OTHER, i, -1.0) for i in range(6)]


def test_a_run_without_episodes_has_no_replay(source: Path, tmp_path: Path, make_config: MakeConfig) -> None:
    shutil.rmtree(source / "episodes")
    config = make_config(task=OTHER, from_run=str(source))
    with pytest.raises(ConfigError, match=r"source/episodes holds no episodes: .* --from-replay none$"):
        carry_over(read_predecessor(source), tmp_path / "run", config, relabelled, Stop())


def test_a_start_that_fails_leaves_no_episodes(source: Path, tmp_path: Path, make_config: MakeConfig) -> None:
    def failing(episode: Episode) -> Episode:
        if episode.info.episode == 2:
            raise ConfigError("no rewards")
        return relabelled(episode)

    config = make_config(task=OTHER, from_run=str(source))
    with pytest.raises(ConfigError, match="no rewards"):
        carry_over(read_predecessor(source), tmp_path / "run", config, failing, Stop())
    assert not (tmp_path / "run" / EARLIER).exists()


def test_a_stop_is_heeded_between_episodes(source: Path, tmp_path: Path, make_config: MakeConfig) -> None:
    config = make_config(task=OTHER, from_run=str(source))
    stop = Stop()

    def stopping(episode: Episode) -> Episode:
        stop.requested = episode.info.episode == 2
        return relabelled(episode)

    predecessor = read_predecessor(source)
    assert carry_over(predecessor, tmp_path / "run", config, stopping, stop) == 3
    pool, eval_pool = (SerialPool(lambda i: Task(OTHER), 1) for _ in range(2))
    with Loop(config, tmp_path / "run", CPU, pool, eval_pool, Streams(1), predecessor=predecessor) as loop:
        loop.announce({})
        assert not loop.run(stop).finished
    assert is_same(loop.agent.model.dynamics, loaded(source).model.dynamics), "nothing was learnt yet"
    assert not list((tmp_path / "run").glob("checkpoints/*")), "it starts anew"


@pytest.mark.parametrize(
    ("task", "options", "spec", "expected"),
    [
        ("paper-task", {}, {}, "is of counting, another domain than paper-task: take a run of paper"),
        (OTHER, {"size": 48}, {"frame_shape": (3, 48, 48)}, "--size 32, not 48: pass --size 32"),
        (OTHER, {"stack": 4}, {"stack": 4}, "--stack 3, not 4"),
        (OTHER, {"world_model": {"latent_dim": 32}}, {}, "pass --world-model.latent-dim 16"),
        (OTHER, {"world_model": {"hidden_dim": 32}}, {}, "or sizes than this run's: pass --world"),
        (OTHER, {"world_model": {"objective": "predictive"}}, {}, "pass --world-model.objective contrastive"),
        ("counting", {"world_model": {"bins": 31}}, {}, "pass --world-model.bins 21"),
        ("counting", {"world_model": {"symlog_limit": 8}}, {}, "--world-model.symlog-limit 7.0, not 8.0"),
        ("counting", {"actor_critic": {"critics": 3}}, {}, "pass --actor-critic.critics 2"),
        (OTHER, {"action_repeat": 2}, {"action_repeat": 2}, "1, not 2: pass --action-repeat 1"),
        (OTHER, {}, {"action_dim": 3}, "actions of length 2, not 3: take another one"),
        (OTHER, {"obs": "state"}, {}, "pass --obs pixels"),
        (OTHER, {"look": "original"}, {}, "pass --look fast, or carry no replay over: --from-replay none"),
    ],
)  # fmt: skip
def test_a_run_that_does_not_fit(
    source: Path,
    make_config: MakeConfig,
    task: str,
    options: dict[str, Any],
    spec: dict[str, Any],
    expected: str,
) -> None:
    config = make_config(task=task, from_run="some/run", **options)
    env_spec = replace(Task(task).env_spec, **spec)
    with pytest.raises(ConfigError) as caught:
        check_run_fits(read_predecessor(source), env_spec, config)
    assert expected in str(caught.value)
    assert "some/run" in str(caught.value) and "\n" not in str(caught.value)


def test_what_makes_no_difference_is_not_asked_for(source: Path, make_config: MakeConfig) -> None:
    """Heads of another task may have other bins; the look matters to episodes alone."""
    for options in (
        {"world_model": {"bins": 31, "symlog_limit": 8}},
        {"look": "original", "from_replay": "none"},
    ):
        config = make_config(task=OTHER, from_run=str(source), **options)
        check_run_fits(read_predecessor(source), Task(OTHER).env_spec, config)


def test_a_place_without_a_run(tmp_path: Path, source: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no checkpoint: train there first"):
        read_predecessor(tmp_path / "absent")
    (source / "config.yaml").unlink()
    with pytest.raises(ConfigError, match=r"cannot read .*config\.yaml"):
        read_predecessor(source)


def lived(spec: EnvSpec, number: int, steps: int, terminates: bool) -> Episode:
    """An episode in which every number tells of which decision it is."""
    builder = EpisodeBuilder(spec, lane=0, versions={})
    shape = spec.frame_shape
    first = np.full(shape, number, np.uint8)
    builder.start(Observation(first, np.full(2, number, np.float32)), np.zeros(2), episode=number, seed=0)
    for t in range(steps):
        step = Transition(
            frame=np.full(shape, 16 * number + t, np.uint8),
            proprio=np.array([number, t], np.float32),
            action=np.full(2, t / 10, np.float32),
            reward=float(t),
            terminated=terminates and t == steps - 1,
            truncated=not terminates and t == steps - 1,
            physics=np.zeros(2),
            frames=1,
        )
        episode = builder.add(step)
    assert episode is not None
    return episode


def tensors(replay: Replay) -> dict[str, Tensor]:
    return vars(replay.sample(64, np.random.default_rng(0)))


@settings(max_examples=30, deadline=None)
@given(
    episodes=st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=9),
    lanes=st.integers(1, 3),
    capacity=st.integers(18, 60),
)
def test_a_laid_out_replay_is_one_that_was_lived(
    tmp_path_factory: pytest.TempPathFactory,
    episodes: list[tuple[int, bool]],
    lanes: int,
    capacity: int,
) -> None:
    spec = EnvSpec("paper", (3, 2, 2), 2, 2, 1, 50, True, 2, "fast", proprio_dim=2)
    store = EpisodeStore(tmp_path_factory.mktemp("store"))
    replays = [
        Replay(spec, capacity=capacity, lanes=lanes, horizon=2, pair_share=0.5, min_gap=1, device=CPU)
        for _ in range(2)
    ]
    written = [0] * lanes
    for number, (steps, terminates) in enumerate(episodes):
        episode = lived(spec, number, steps, terminates)
        store.commit(episode)
        lane = written.index(min(written))
        written[lane] += steps + 1
        replays[0].start(lane, Observation(episode.frame[0], episode.proprio[0]))
        for t in range(steps):
            step = Transition(
                frame=episode.frame[t + 1],
                proprio=episode.proprio[t + 1],
                action=episode.action[t],
                reward=float(episode.reward[t]),
                terminated=bool(episode.terminated[t]),
                truncated=bool(episode.truncated[t]),
                physics=episode.physics[t + 1],
                frames=1,
            )
            replays[0].add(lane, step)
    replays[1].restore(store, replays[1].laid_out([steps for steps, _ in episodes]))
    replays[1].check_invariants()
    assert replays[0].state_dict() == replays[1].state_dict()
    assert len(replays[0]) == len(replays[1])
    if len(replays[0]):
        torch.testing.assert_close(*map(tensors, replays), rtol=0, atol=0)
