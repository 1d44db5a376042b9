"""The training loop on the counting environment: what must come out the same, bit for bit."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import envs.supervision
from agent import checkpoint
from agent.loop import Loop
from agent.planners.base import Plan, PlanningModel
from agent.planners.mppi import MPPI
from agent.run_parts import exploration_std
from agent.seeding import Streams
from configs.schema import Config
from envs.counting import CountingEnv, decode_episode, decode_step
from envs.episodes import EpisodeStore
from envs.spec import Pool, StepResult, WorkerError
from envs.vector import ProcessPool, SerialPool
from tests.envs.conformance import MakeCounting
from world_model.divergence import DivergedError

NEVER = 10**9


@dataclass
class Stop:
    requested: bool = False


class FragileEnv(CountingEnv):
    """Fails in some episodes: seed -> decisions before that, -1 at the reset."""

    def __init__(self, fails: dict[int, int], **options: Any) -> None:
        super().__init__(**options)
        self._fails = fails
        self._fails_at = NEVER

    def reset(self, *, seed: int | None = None, **options: Any) -> tuple[np.ndarray, dict[str, Any]]:
        self._fails_at = self._fails.get(seed or 0, NEVER)
        if self._fails_at < 0:
            raise ValueError("out of joint")
        return super().reset(seed=seed, **options)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        if self._step == self._fails_at:
            raise ValueError("out of joint")
        return super().step(action)


class InterruptedPool(SerialPool):
    """Counting environments of different lengths; something happens once they have made so many calls."""

    def __init__(
        self,
        lengths: list[int],
        *,
        terminate: bool,
        fails: dict[int, int],
        calls: int = NEVER,
        event: Callable[[], None] | None = None,
    ) -> None:
        options: dict[str, Any] = {"terminate": terminate, "size": 32}
        super().__init__(lambda i: FragileEnv(fails, length=lengths[i], **options), len(lengths))
        self.calls, self.event = calls, event

    def step(self, actions: dict[int, np.ndarray]) -> dict[int, StepResult]:
        self.calls -= 1
        if self.calls == 0 and self.event:
            self.event()
        return super().step(actions)


@dataclass
class Runner:
    """Runs of one configuration in a directory each."""

    tmp_path: Path
    config: Config
    lengths: list[int] = field(default_factory=lambda: [10])
    terminate: bool = False
    fails: dict[int, int] = field(default_factory=dict)

    def fail(self, episode: int, decisions: int, lane: int = 0) -> None:
        """Let an episode fail after so many decisions, with -1 at its reset."""
        self.fails[Streams(self.config.seed).episode_seed("env", episode, lane)] = decisions

    def run(self, name: str, *, stop_after: int = NEVER, crash_after: int = NEVER, **changes: Any) -> Loop:
        """Train from where the directory stands, in a loop, pools and streams that are new."""
        config = Config.model_validate(self.config.model_dump() | changes)
        stop = Stop()

        def end() -> None:
            if crash_after < NEVER:
                raise KeyboardInterrupt
            stop.requested = True

        calls = min(stop_after, crash_after)
        pool = InterruptedPool(
            self.lengths, terminate=self.terminate, fails=self.fails, calls=calls, event=end
        )
        eval_pool = SerialPool(lambda i: CountingEnv(length=6, size=32), 1)
        directory = self.tmp_path / name
        streams = Streams(config.seed)
        with Loop(config, directory, torch.device("cpu"), pool, eval_pool, streams) as loop:
            loop.announce({})
            result = loop.run(stop)
        assert result.finished != stop.requested
        assert result.frames == loop.progress.frames
        return loop


@pytest.fixture
def runner(tmp_path: Path, tiny_config: Callable[..., Config]) -> Runner:
    config = tiny_config(
        frames=120,
        training={"random_frames": 20, "first_updates": 3, "exploration_frames": 20, "updates_per_step": 0.5},
        evaluation={"every_frames": NEVER, "episodes": 2, "videos": False},
        logging={"every_updates": 5, "checkpoint_every_frames": 30},
    )
    return Runner(tmp_path, config)


def records(loop: Loop) -> list[dict[str, Any]]:
    """`metrics.jsonl` without what depends on the clock."""
    lines = (loop.run_dir / "metrics.jsonl").read_text().splitlines()
    return [
        {name: value for name, value in json.loads(line).items() if not name.startswith(("time/", "seconds"))}
        for line in lines
    ]


def evaluations(loop: Loop) -> list[list[str]]:
    rows = [line.split(",") for line in (loop.run_dir / "eval.csv").read_text().splitlines()]
    return [row[:2] + row[3:] for row in rows]


def assert_same_training(one: Loop, other: Loop) -> None:
    """Networks, optimisers, counters, what is stored, and the next batch."""
    assert one.progress.frames == other.progress.frames
    assert one.progress.updates == other.progress.updates > 0
    torch.testing.assert_close(one.agent.state_dict(), other.agent.state_dict(), rtol=0, atol=0)
    assert one.store.ids() == other.store.ids()
    batches = [loop.replay.sample(16, loop.streams.numpy("replay")) for loop in (one, other)]
    torch.testing.assert_close(*[vars(batch) for batch in batches], rtol=0, atol=0)


def assert_same_run(one: Loop, other: Loop) -> None:
    assert_same_training(one, other)
    assert records(one) == records(other)
    assert evaluations(one) == evaluations(other)


def test_twice_as_long_equals_two_runs(runner: Runner) -> None:
    evaluation = runner.config.evaluation.model_copy(update={"every_frames": 60}).model_dump()
    whole = runner.run("whole", evaluation=evaluation)
    runner.run("halves", frames=60, evaluation=evaluation)
    halves = runner.run("halves", evaluation=evaluation)
    assert len(evaluations(whole)) == 3, "a header and two evaluations"
    assert_same_run(whole, halves)


def test_a_resumed_run_has_visited_what_it_visited(runner: Runner) -> None:
    """The counts of its first half are there again: as many as dictionaries find in all that was stored."""
    runner.lengths = [9, 14]
    whole = runner.run("whole")
    with pytest.raises(KeyboardInterrupt):
        runner.run("crashed", crash_after=40)
    crashed = runner.run("crashed")
    found = [
        [
            (each["explore/cells"], each["explore/entropy"])
            for each in records(loop)
            if "explore/cells" in each
        ]
        for loop in (whole, crashed)
    ]
    assert found[0] == found[1]
    assert len(found[0]) == len(whole.store) > 5
    # physics of this environment: decision and episode, of which nobody knows a range
    visits = Counter(
        tuple(int((value / (1 + value) + 1) / 2 * 30) for value in row)
        for identifier in whole.store.ids()
        for row in whole.store.read(identifier).physics.tolist()
    )
    shares = [count / visits.total() for count in visits.values()]
    assert found[0][-1] == (len(visits), pytest.approx(-sum(share * math.log(share) for share in shares)))
    assert len(visits) > 5


@pytest.mark.parametrize(
    ("lengths", "terminate", "stop_after"),
    [([9, 14, 5], True, 25), ([9, 14, 5], False, 25), ([10], False, 55)],
)
def test_a_stop_in_the_middle_loses_no_more_than_the_episodes_under_way(
    runner: Runner, lengths: list[int], terminate: bool, stop_after: int
) -> None:
    runner.lengths, runner.terminate = lengths, terminate
    whole = runner.run("whole")
    stopped = runner.run("stopped", stop_after=stop_after)
    assert stopped.obs, "episodes were under way"
    assert stopped.progress.updates > 0
    resumed = runner.run("stopped")
    assert_same_run(whole, resumed)
    ended = [resumed.store.read(i) for i in resumed.store.ids()]
    assert {episode.steps for episode in ended} == set(lengths)
    assert all(episode.terminated[-1] == terminate for episode in ended)


@pytest.mark.parametrize(("length", "stop_after", "saved"), [(9, 45, 45), (10, 50, 40)])
def test_a_stop_at_the_end_of_an_episode(runner: Runner, length: int, stop_after: int, saved: int) -> None:
    """It is kept, unless an update is still due: at 50 decisions one is, at 45 none."""
    runner.lengths = [length]
    whole = runner.run("whole")
    stopped = runner.run("stopped", stop_after=stop_after)
    path = checkpoint.latest(stopped.run_dir / "checkpoints")
    assert path is not None
    assert checkpoint.frames_of(path) == saved
    assert_same_run(whole, runner.run("stopped"))


@pytest.mark.parametrize(
    ("bonus", "mode"),
    [("contrastive", "task"), ("surprise", "task"), ("knn", "explore"), ("disagreement", "explore")],
)
def test_a_curious_run_goes_on_bit_for_bit(runner: Runner, bonus: str, mode: str) -> None:
    """Its memory, its normalisation and the weight of its bonus, too, while that changes with the frames."""
    options: dict[str, Any] = {"curiosity": {"bonus": bonus, "memory": 20, "frames": 60}, "mode": mode}
    options["frames"] = 80
    whole = runner.run("whole", **options)
    runner.run("cut", stop_after=45, **options)
    cut = runner.run("cut", **options)
    assert_same_run(whole, cut)
    logged = [each for each in records(whole) if "curiosity/weight" in each]
    before = [each["frames"] - 1 for each in logged]  # the decision that the update followed
    expected = [1 - 0.9 * min(1, frames / 60) for frames in before]
    assert [each["curiosity/weight"] for each in logged] == pytest.approx(expected)
    assert len(set(expected)) > 3


def test_learning_that_went_off_is_an_error(runner: Runner) -> None:
    rates = {"learning_rate": 1e30, "encoder_learning_rate": 1e30}
    training = runner.config.training.model_dump() | rates
    with pytest.raises(
        DivergedError, match=r"is (nan|inf) after \d+ updates: lower --training.learning-rate"
    ):
        runner.run("off", training=training)


@pytest.mark.parametrize(
    ("mode", "expected"), [("task", {"ExplorationModel", "CuriousAgent"}), ("explore", {"ExplorationModel"})]
)
def test_curious_runs_act_by_their_explorer(
    runner: Runner, monkeypatch: pytest.MonkeyPatch, mode: str, expected: set[str]
) -> None:
    """And by the agent itself in its share of the episodes; in evaluation by the agent alone."""
    asked: dict[bool, set[str]] = {True: set(), False: set()}
    plan = MPPI.plan

    def watched(self: MPPI, model: PlanningModel, state: Tensor, memory: Tensor, **options: Any) -> Plan:
        asked[options["noise_std"] > 0].add(type(model).__name__)
        return plan(self, model, state, memory, **options)

    monkeypatch.setattr(MPPI, "plan", watched)
    runner.run("curious", curiosity={"bonus": "contrastive", "memory": 20}, mode=mode)
    assert asked == {True: expected, False: {"CuriousAgent"}}


def test_a_crash_costs_what_came_after_the_last_checkpoint(runner: Runner) -> None:
    whole = runner.run("whole")
    with pytest.raises(KeyboardInterrupt):
        runner.run("crashed", crash_after=75)
    assert checkpoint.latest(runner.tmp_path / "crashed" / "checkpoints") is not None
    assert_same_run(whole, runner.run("crashed"))


def test_episodes_without_their_checkpoints_are_set_aside(runner: Runner) -> None:
    """Whoever deletes a damaged checkpoint, the only one, keeps the data."""
    whole = runner.run("whole")
    crashed = runner.run("deleted")
    for path in (crashed.run_dir / "checkpoints").iterdir():
        path.unlink()
    again = runner.run("deleted")
    assert_same_run(whole, again)
    kept = EpisodeStore(crashed.run_dir / "episodes-set-aside-1")
    assert kept.ids() == crashed.store.ids()
    assert not kept.verify()


def test_evaluation_does_not_disturb_training(runner: Runner) -> None:
    never = runner.run("never")
    options = runner.config.evaluation.model_copy(update={"every_frames": 30}).model_dump()
    often = runner.run("often", evaluation=options)
    assert len(evaluations(often)) > len(evaluations(never)) == 2, "once at the end in any case"
    assert_same_training(never, often)
    kept = [[entry for entry in records(loop) if "eval/start_value" not in entry] for loop in (never, often)]
    assert kept[0] == kept[1]


def test_evaluations_keep_to_multiples(runner: Runner) -> None:
    """Also after the end of a shorter run was evaluated between two multiples."""
    runner.lengths = [7]
    options = runner.config.evaluation.model_copy(update={"every_frames": 40}).model_dump()
    runner.run("run", frames=50, evaluation=options)
    loop = runner.run("run", evaluation=options)
    assert [row[0] for row in evaluations(loop)] == ["frames", "40", "50", "80", "120"]


def test_checkpoints_that_are_kept(runner: Runner) -> None:
    loop = runner.run(
        "run",
        logging=runner.config.logging.model_copy(
            update={"checkpoint_every_frames": 10, "keep_every_frames": 50}
        ).model_dump(),
    )
    frames = sorted(checkpoint.frames_of(path) for path in (loop.run_dir / "checkpoints").iterdir())
    assert frames == [50, 100, 110, 120], "two multiples, and the newest two"


def test_a_finished_run_stays_as_it_is(runner: Runner) -> None:
    finished = runner.run("run")
    before = {path: path.read_bytes() for path in (finished.run_dir / "checkpoints").iterdir()}
    again = runner.run("run")
    assert_same_training(finished, again)
    assert {path: path.read_bytes() for path in (again.run_dir / "checkpoints").iterdir()} == before


def test_each_evaluation_is_recorded_once(runner: Runner) -> None:
    """Also that of a run that was finished, or was stopped while it evaluated, and goes on."""
    changes: dict[str, Any] = {"frames": 60, "evaluation": runner.config.evaluation.model_dump()}
    changes["evaluation"]["every_frames"] = 30
    runner.run("run", stop_after=30, **changes)
    for _ in range(3):
        loop = runner.run("run", **changes)
        assert [row[0] for row in evaluations(loop)] == ["frames", "30", "60"]
        promised = [entry["frames"] for entry in records(loop) if "eval/start_value" in entry]
        assert promised == [30, 60]


def test_run_is_counted(runner: Runner) -> None:
    """Decisions, gradient steps and returns of a run, from the rules alone."""
    loop = runner.run("run")
    assert loop.progress.steps == loop.progress.frames == 120
    assert loop.progress.updates == 3 + (120 - 20) // 2
    seeds = [loop.store.read(i).info.seed for i in loop.store.ids()]
    assert seeds == [loop.streams.episode_seed("env", i) for i in range(12)]
    returns = [entry["train/episode_return"] for entry in records(loop) if "train/episode_return" in entry]
    assert returns == 12 * [sum(range(10))]
    logged = [entry["updates"] for entry in records(loop) if "loss/reward" in entry]
    assert logged == list(range(5, 54, 5))
    assert evaluations(loop)[1] == ["120", "53", f"{sum(range(6))}", "0", "2"]


@pytest.mark.parametrize("fails", [{3: 7, 4: -1, 6: 0}, {1: 7, 2: 9, 9: 9}])
def test_episodes_that_fail_are_left_out(runner: Runner, fails: dict[int, int]) -> None:
    """Of the store, of replay, of returns, and of what is counted; also while actions are random."""
    for episode, decisions in fails.items():
        runner.fail(episode, decisions)
    loop = runner.run("run")
    stored = [loop.store.read(i) for i in loop.store.ids()]
    seeds = [loop.streams.episode_seed("env", i) for i in range(15) if i not in fails]
    assert [episode.info.seed for episode in stored] == seeds
    assert all(episode.physics[:, 0].tolist() == list(range(11)) for episode in stored)

    progress = loop.progress
    assert progress.frames == progress.steps == sum(episode.steps for episode in stored) == 120
    assert (progress.random_steps, progress.updates) == (20, 3 + (120 - 20) // 2)
    returns = [entry["train/episode_return"] for entry in records(loop) if "train/episode_return" in entry]
    assert returns == 12 * [sum(range(10))]
    frames = [entry["frames"] for entry in records(loop)]
    assert frames == sorted(frames)
    restarts = [entry["train/restarts"] for entry in records(loop) if "train/restarts" in entry]
    assert restarts[-1] == progress.restarts == 3

    loop.replay.check_invariants()
    assert len(loop.replay) == 12 * (10 - 3 + 1)
    drawn = loop.replay.sample(512, loop.streams.numpy("replay"))
    assert set(drawn.episode.tolist()) == {episode.info.episode for episode in stored}


def test_a_failure_leaves_the_other_environments_alone(runner: Runner) -> None:
    runner.lengths = [10, 7, 9]
    runner.fail(episode=1, decisions=4, lane=1)
    loop = runner.run("run")
    stored = [loop.store.read(i) for i in loop.store.ids()]
    for lane, (length, left_out) in enumerate(zip(runner.lengths, ([], [1], []), strict=True)):
        mine = [episode for episode in stored if episode.info.lane == lane]
        numbers = [i for i in range(len(mine) + len(left_out)) if i not in left_out]
        assert [episode.info.seed for episode in mine] == [
            loop.streams.episode_seed("env", i, lane) for i in numbers
        ]
        assert len(mine) > 2 and {episode.steps for episode in mine} == {length}
    loop.replay.check_invariants()


@pytest.mark.parametrize("stop_after", [16, 22, 25, 31, 40, 47])
def test_a_run_with_failures_goes_on_bit_for_bit(runner: Runner, stop_after: int) -> None:
    """In a ring that is short enough for episodes that failed to have overwritten others."""
    runner.lengths = [9, 14, 5]
    for lane, episode, decisions in ((1, 1, 6), (2, 2, -1), (0, 2, 8), (0, 3, 0), (1, 2, 13)):
        runner.fail(episode, decisions, lane)
    replay = runner.config.replay.model_copy(update={"capacity": 60}).model_dump()
    evaluation = runner.config.evaluation.model_copy(update={"every_frames": 40}).model_dump()
    whole = runner.run("whole", replay=replay, evaluation=evaluation)
    assert whole.progress.restarts == 5
    stopped = runner.run("stopped", stop_after=stop_after, replay=replay, evaluation=evaluation)
    assert 0 < stopped.progress.frames < 120
    resumed = runner.run("stopped", replay=replay, evaluation=evaluation)
    assert_same_run(whole, resumed)
    assert resumed.progress.restarts == 5
    whole.replay.check_invariants()


def test_what_is_owed_at_the_goal_is_made_up_for(runner: Runner) -> None:
    """The run does not end, and is not evaluated, before as much has been kept as was asked for."""
    runner.lengths = [10, 6]
    runner.fail(episode=6, decisions=3)  # in the very step in which the other environment reaches the goal
    loop = runner.run("run", frames=119)
    under_way = sum(len(builder.discard()) for builder in loop.builders)
    kept = sum(loop.store.read(i).steps for i in loop.store.ids())
    assert loop.progress.frames == kept + under_way == 120
    assert [row[0] for row in evaluations(loop)] == ["frames", "120"]


def test_a_run_that_fails_too_often_is_saved(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = runner.run("whole")
    monkeypatch.setattr(envs.supervision, "MAX_RESTARTS", 2)
    for episode in range(4, 9):
        runner.fail(episode, decisions=5)
    with pytest.raises(
        WorkerError,
        match=r"environment 0 of counting failed 3 times .* last time: ValueError: out of joint .*; "
        "the run is saved at 40 frames, the same command goes on from there",
    ):
        runner.run("failed")
    runner.fails.clear()
    assert_same_run(whole, runner.run("failed"))


@pytest.mark.parametrize("kind", [SerialPool, ProcessPool])
@pytest.mark.parametrize("terminate", [True, False])
def test_episodes_hold_their_own_steps_alone(
    tmp_path: Path, tiny_config: Callable[..., Config], kind: Callable[..., Pool], terminate: bool
) -> None:
    """No transition leads from one episode to the next, as those of environments that reset themselves do."""
    lengths = (9, 4, 6)
    config = tiny_config(frames=90, training={"random_frames": 90, "first_updates": 1})
    eval_pool = SerialPool(lambda i: CountingEnv(length=6, size=32), 1)
    with (
        kind(MakeCounting(lengths, terminate), 3) as pool,
        Loop(config, tmp_path, torch.device("cpu"), pool, eval_pool, Streams(1)) as loop,
    ):
        loop.announce({})
        loop.run(Stop())
    for episode in (loop.store.read(identifier) for identifier in loop.store.ids()):
        length = lengths[episode.info.lane]
        np.testing.assert_array_equal(decode_step(episode.frame), np.arange(length + 1))
        assert set(decode_episode(episode.frame)) == {episode.info.seed % 256}
        np.testing.assert_array_equal(episode.reward, np.arange(length))
        ends = episode.terminated if terminate else episode.truncated
        np.testing.assert_array_equal(ends, np.arange(length) == length - 1)
    batch = loop.replay.sample(64, np.random.default_rng(0))
    names, steps = decode_episode(batch.frames.numpy()), decode_step(batch.frames.numpy())
    assert (names == names[:, :1]).all()
    assert set(np.unique(np.diff(steps))) <= {0, 1}
    np.testing.assert_array_equal(steps[:, batch.stack - 1], batch.time)
    taken = batch.alive[:, :-1].numpy()
    np.testing.assert_array_equal(batch.reward.numpy()[taken], steps[:, batch.stack - 1 : -1][taken])
    assert bool(batch.terminated.any()) == terminate


def test_behaviour_gets_less_random(tiny_config: Callable[..., Config]) -> None:
    config = tiny_config(
        training={
            "random_frames": 100,
            "exploration_std": 0.9,
            "exploration_final_std": 0.1,
            "exploration_frames": 400,
        }
    )
    assert [exploration_std(config.training, frames) for frames in (100, 300, 500, 9000)] == pytest.approx(
        [0.9, 0.5, 0.1, 0.1]
    )
