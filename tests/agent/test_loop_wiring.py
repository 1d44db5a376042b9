"""What the loop hands from one part to another: seeds, noise, actions, averages, time, metrics."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch

import agent.loop
import agent.metering
from agent.loop import Loop
from agent.rollout import EpisodeResult
from agent.seeding import Streams
from configs.schema import Config
from envs.counting import CountingEnv
from envs.spec import Observation, StepResult
from envs.vector import SerialPool

STEPS = 10  # an episode's

MakeLoop = Callable[..., Loop]


class Stop:
    requested = False


class RecordingPool(SerialPool):
    """A counting environment that remembers how it was reset; something may happen at each decision."""

    def __init__(self, length: int) -> None:
        super().__init__(lambda _: CountingEnv(length=length, size=32), 1)
        self.seeds: list[int] = []
        self.at_each_step: Callable[[], None] = lambda: None

    def reset(self, seeds: dict[int, int]) -> dict[int, tuple[Observation, np.ndarray]]:
        self.seeds += seeds.values()
        return super().reset(seeds)

    def step(self, actions: dict[int, np.ndarray]) -> dict[int, StepResult]:
        self.at_each_step()
        return super().step(actions)


@pytest.fixture
def make_loop(tmp_path: Path, tiny_config: Callable[..., Config]) -> Iterator[MakeLoop]:
    """Makes loops that have yet to run; options are added to those of a short run, group by group."""
    base: dict[str, Any] = {
        "frames": 6 * STEPS,
        "training": {"random_frames": 20, "first_updates": 3, "updates_per_step": 0.5},
        "evaluation": {"every_frames": 30, "episodes": 3, "videos": False},
        "logging": {"every_updates": 5, "progress": False, "tensorboard": False},
    }
    with ExitStack() as stack:

        def make(**options: Any) -> Loop:
            groups = {
                name: base[name] | value if isinstance(value, dict) and name in base else value
                for name, value in options.items()
            }
            config = tiny_config(**base | groups)
            pools = RecordingPool(STEPS), RecordingPool(6)
            device, streams = torch.device("cpu"), Streams(config.seed)
            loop = stack.enter_context(Loop(config, tmp_path / "run", device, *pools, streams))
            loop.announce({})
            return loop

        yield make


def test_records_say_why_it_learns_how_it_plans_and_where_time_goes(make_loop: MakeLoop) -> None:
    loop = make_loop()
    loop.run(Stop())
    lines = (loop.run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    last = [record for record in map(json.loads, lines) if "loss/reward" in record][-1]
    assert last.keys() >= {"loss/value", "train/gradient_norm_model", "replay/windows"}
    assert last.keys() >= {"train/rank_me", "train/reward_error_at_horizon"}, "diagnosed"
    assert last["train/plan_policy_gap"] >= 0
    assert 0 <= last["train/plan_preferred"] <= 1
    shares = {name: share for name, share in last.items() if name.startswith("time/")}
    activities = ("environment", "acting", "sampling", "update", "saving", "logging")
    assert shares.keys() >= {f"time/{activity}_share" for activity in activities}
    assert sum(shares.values()) == pytest.approx(1)


def test_training_and_evaluation_have_seeds_of_their_own(make_loop: MakeLoop) -> None:
    loop = make_loop(training={"random_frames": 60})
    loop.run(Stop())
    pools = {"env": loop.pool, "eval": loop.eval_pool}
    seeds = {name: pool.seeds for name, pool in pools.items() if isinstance(pool, RecordingPool)}
    evaluation = [loop.streams.episode_seed("eval", i) for i in range(3)]
    assert seeds["eval"] == 2 * evaluation, "the same episodes each time"
    assert seeds["env"] == [loop.streams.episode_seed("env", i) for i in range(6)]


def test_actions_are_explored_around_as_scheduled(
    make_loop: MakeLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = {"exploration_std": 0.8, "exploration_final_std": 0.2, "exploration_frames": 20}
    loop = make_loop(training=schedule | {"random_frames": 20, "first_updates": 0, "updates_per_step": 0.01})
    act = Mock(wraps=loop.controller.act)
    monkeypatch.setattr(loop.controller, "act", act)
    loop.run(Stop())
    expected = [0.8 - 0.6 * k / 20 for k in range(20)] + 20 * [0.2]
    assert [call.args[1] for call in act.call_args_list] == pytest.approx(expected)


def test_controller_knows_the_action_before_also_a_random_one(
    make_loop: MakeLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state that it plans from holds that action; random actions end in the middle of an episode."""
    loop = make_loop(training={"random_frames": 25, "first_updates": 0, "updates_per_step": 0.01})
    known: list[np.ndarray] = []
    act = loop.controller.act

    def recorded(*arguments: Any, **options: Any) -> dict[int, np.ndarray]:
        known.append(loop.controller.last_action[0].numpy().copy())
        return act(*arguments, **options)

    monkeypatch.setattr(loop.controller, "act", recorded)
    loop.run(Stop())
    episodes = [loop.store.read(identifier).action for identifier in loop.store.ids()]
    before = np.concatenate([np.concatenate((np.zeros_like(each[:1]), each[:-1])) for each in episodes])
    np.testing.assert_array_equal(known, before[25:])


def test_steady_averages_are_evaluated(make_loop: MakeLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = make_loop()
    acted: list[dict[str, torch.Tensor]] = []
    evaluate = agent.loop.evaluate

    def recorded(*arguments: Any, **options: Any) -> list[EpisodeResult]:
        policy = loop.agent.actor_critic.averaged_policy.state_dict()
        acted.append({name: value.clone() for name, value in policy.items()})
        return evaluate(*arguments, **options)

    monkeypatch.setattr(agent.loop, "evaluate", recorded)
    loop.run(Stop())
    steady = loop.agent.steady.averages["policy"].state_dict()
    torch.testing.assert_close(acted[-1], dict(steady), rtol=0, atol=0)
    learnt = loop.agent.actor_critic.averaged_policy.state_dict()
    assert not all(torch.equal(steady[name], value) for name, value in learnt.items()), "there is a choice"


def test_time_of_evaluation_is_no_training_time(make_loop: MakeLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that goes on by a second with each decision, of training and evaluation alike."""
    now = 0.0

    def tick() -> None:
        nonlocal now
        now += 1

    monkeypatch.setattr(agent.metering, "time", SimpleNamespace(perf_counter=lambda: now))
    loop = make_loop()
    for pool in (loop.pool, loop.eval_pool):
        assert isinstance(pool, RecordingPool)
        pool.at_each_step = tick
    result = loop.run(Stop())
    assert now == 60 + 2 * 3 * 6
    assert (result.seconds, loop.progress.seconds) == (60, 60)
    rows = [row.split(",") for row in (loop.run_dir / "eval.csv").read_text().splitlines()[1:]]
    assert [(row[0], float(row[2])) for row in rows] == [("30", 30), ("60", 60)]


def test_pairs_of_a_batch_are_as_configured(make_loop: MakeLoop) -> None:
    """A pair is of one episode, and starts further apart than the near window and the horizon together."""
    model = {"horizon": 2, "near_window": 1}
    loop = make_loop(training={"random_frames": 60}, world_model=model, replay={"pair_share": 1.0})
    loop.run(Stop())
    batch = loop.replay.sample(200, loop.streams.numpy("replay"))
    episode, time = batch.episode.view(2, 100), batch.time.view(2, 100)
    assert torch.equal(episode[0], episode[1])
    apart = (time[0] - time[1]).abs()
    assert apart.min() == 1 + 2 + 1
    assert batch.action.shape[1] == 2


@pytest.mark.parametrize("chosen", ["videos", "tensorboard", "progress", None])
def test_what_a_run_shows_is_chosen(
    make_loop: MakeLoop, chosen: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    loop = make_loop(
        frames=20,
        evaluation={"videos": chosen == "videos"},
        logging={"tensorboard": chosen == "tensorboard", "progress": chosen == "progress"},
        training={"random_frames": 60},
    )
    loop.run(Stop())
    shown = {
        "videos": any(loop.run_dir.glob("videos/*.gif")),
        "tensorboard": any(loop.run_dir.glob("tensorboard/*")),
        "progress": "frame" in capsys.readouterr().err,
    }
    assert [name for name, is_shown in shown.items() if is_shown] == ([chosen] if chosen else [])
