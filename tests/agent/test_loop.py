"""The training loop on the counting environment: what must come out the same, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agent import checkpoint
from agent.loop import Loop, exploration_std
from agent.seeding import Streams
from configs.schema import Config
from envs.counting import CountingEnv, decode_episode, decode_step
from envs.episodes import EpisodeStore
from envs.spec import Pool, StepResult
from envs.vector import ProcessPool, SerialPool, WorkerError
from tests.envs.conformance import MakeCounting

NEVER = 10**9


@dataclass
class Stop:
    requested: bool = False


class InterruptedPool(SerialPool):
    """Counting environments of different lengths; something happens once they have made so many calls."""

    def __init__(
        self,
        lengths: list[int],
        *,
        terminate: bool,
        calls: int = NEVER,
        event: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(lambda i: CountingEnv(length=lengths[i], terminate=terminate, size=32), len(lengths))
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

    def run(self, name: str, *, stop_after: int = NEVER, crash_after: int = NEVER, **changes: Any) -> Loop:
        """Train from where the directory stands, in a loop, pools and streams that are new."""
        config = Config.model_validate(self.config.model_dump() | changes)
        stop = Stop()

        def end() -> None:
            if crash_after < NEVER:
                raise WorkerError("broken")
            stop.requested = True

        pool = InterruptedPool(
            self.lengths, terminate=self.terminate, calls=min(stop_after, crash_after), event=end
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


def test_a_crash_costs_what_came_after_the_last_checkpoint(runner: Runner) -> None:
    whole = runner.run("whole")
    with pytest.raises(WorkerError):
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
