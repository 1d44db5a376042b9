"""What `nearfar bench` times is what its options ask for."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch

import envs
from agent.agent import Agent
from agent.controller import Controller
from agent.replay import Replay
from configs.schema import Config
from envs.counting import CountingEnv
from scripts import bench
from world_model.model import WorldModel


def test_parts_are_timed_as_configured(tiny_config: Callable[..., Config]) -> None:
    config = tiny_config(
        task="counting",
        size=40,
        look="original",
        action_repeat=4,
        training={"batch_size": 6, "exploration_std": 0.7, "updates_per_step": 0.5},
    )
    with (
        mock.patch.object(envs, "make_env", wraps=envs.make_env) as make_env,
        mock.patch.object(Replay, "sample", autospec=True, side_effect=Replay.sample) as sample,
        mock.patch.object(Controller, "act", autospec=True, side_effect=Controller.act) as act,
    ):
        result = bench.measure(config, torch.device("cpu"))
    drawn = make_env.call_args.kwargs
    assert (drawn["size"], drawn["look"], drawn["action_repeat"]) == (40, "original", 1), "single frames"
    assert {call.args[1] for call in sample.call_args_list} == {6}
    assert {call.args[2] for call in act.call_args_list} == {0.7}
    (obs,) = act.call_args.args[1].values()
    assert obs.pixels.shape == (9, 40, 40)
    assert (result["batch_size"], result["horizon"], result["envs"]) == (6, 3, 1)


class Clock:
    """Time goes by only where it is spent."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def perf_counter(self) -> float:
        return self.seconds

    def spend(self, patch: pytest.MonkeyPatch, owner: Any, name: str, cost: Callable[..., float]) -> None:
        """Let a function take so many seconds, by its arguments, besides those of what it calls."""
        function = getattr(owner, name)

        def slow(*arguments: Any, **options: Any) -> Any:
            self.seconds += cost(*arguments)
            return function(*arguments, **options)

        patch.setattr(owner, name, slow)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A frame takes 2 s to draw, one of physics 3 s, a batch 5 s, each frame augmented 1 s, and so on."""
    clock = Clock()
    monkeypatch.setattr(bench, "time", clock)
    monkeypatch.setattr(bench, "REPEATS", 3)
    clock.spend(monkeypatch, CountingEnv, "step", lambda env, action: 2.0 + 3.0 * env.env_spec.action_repeat)
    clock.spend(monkeypatch, CountingEnv, "frame", lambda env: 2.0)
    clock.spend(monkeypatch, Replay, "sample", lambda *_: 5.0)
    clock.spend(monkeypatch, WorldModel, "augment", lambda model, frames, *_: float(frames.shape[1]))
    clock.spend(monkeypatch, Agent, "learn", lambda *_: 40.0)
    clock.spend(monkeypatch, Controller, "act", lambda *_: 7.0)
    return clock


@pytest.mark.parametrize(("action_repeat", "physics"), [(1, 3.0), (4, 12.0)])
def test_shares_are_those_of_what_is_spent(
    tiny_config: Callable[..., Config], clock: Clock, action_repeat: int, physics: float
) -> None:
    """An update augments three frames of each query and, for windows of three decisions, six of the keys."""
    config = tiny_config(
        task="counting", action_repeat=action_repeat, training={"batch_size": 6, "updates_per_step": 0.5}
    )
    result = bench.measure(config, torch.device("cpu"))
    assert result["render_fps"] == 1 / 2
    assert result["env_steps_per_s"] == pytest.approx(1 / (2 + physics))
    assert (result["sample_ms"], result["act_ms"]) == (5000, 7000)
    assert (result["augment_ms"], result["update_ms"]) == (9000, 49000)
    assert result["updates_per_s"] == pytest.approx(1 / 54)
    whole = 2 + physics + 7 + (5 + 9 + 40) / 2
    assert result["shares"] == pytest.approx(
        {
            "rendering": 2 / whole,
            "physics": physics / whole,
            "acting": 7 / whole,
            "sampling": 2.5 / whole,
            "augmentation": 4.5 / whole,
            "update": 20 / whole,
        }
    )


def test_what_is_not_drawn_has_no_share(tiny_config: Callable[..., Config], clock: Clock) -> None:
    result = bench.measure(tiny_config(task="counting", obs="state"), torch.device("cpu"))
    assert result["render_fps"] is None
    assert result["shares"]["rendering"] == 0 < result["shares"]["physics"]


def test_memory_is_split(tiny_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a process that took 100 MiB, 25 are the replay's and 12 the networks'; none is counted twice."""
    mib = torch.zeros(2**18)
    networks = {
        "model": {"a": torch.zeros(2**20), "b": mib, "again": mib.detach()},
        "optimizers": {"x": [mib.clone()]},
    }
    optimizers = {"policy": {"state": {0: {"step": 3, "exp_avg": torch.zeros(3, 2, 2**18)}}}}
    monkeypatch.setattr(Agent, "state_dict", lambda agent: networks | {"others": optimizers})
    monkeypatch.setattr(Replay, "occupied_bytes", lambda replay, device: 25 * 2**20)
    usage = SimpleNamespace(ru_maxrss=100 * 2**10)
    monkeypatch.setattr(bench.resource, "getrusage", lambda who: usage)
    result = bench.measure(tiny_config(task="counting"), torch.device("cpu"))
    assert result["memory_mb"] == {"replay": 25, "networks": 12, "rest": 63}
    assert result["memory_shares"] == {"replay": 0.25, "networks": 0.12, "rest": 0.63}


def test_networks_are_all_that_is_learnt(tiny_config: Callable[..., Config]) -> None:
    """Parameters, the averages that act and those that are evaluated, and two moments of what is learnt."""
    result = bench.measure(tiny_config(task="counting"), torch.device("cpu"))
    spec = CountingEnv(size=32).env_spec
    agent = Agent(spec, tiny_config(task="counting"), torch.device("cpu"))
    parts = [agent.model, agent.actor_critic, agent.steady]
    parameters = [parameter for part in parts for parameter in part.parameters()]
    learnt = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    floats = sum(parameter.numel() for parameter in parameters) + 2 * learnt
    assert result["memory_mb"]["networks"] == pytest.approx(4 * floats / 2**20, rel=0.02)
