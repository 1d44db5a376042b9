from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
import torch

from agent.agent import Agent
from agent.rollout import EpisodeResult, evaluate
from configs.control import ControlName
from configs.schema import Config
from envs.counting import CountingEnv, decode_episode, decode_step
from envs.spec import WorkerError
from envs.vector import SerialPool


class ActionSum(CountingEnv):
    """Rewards tell which actions were taken."""

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        obs, _, terminated, truncated, info = super().step(action)
        return obs, float(action.sum()), terminated, truncated, info


@pytest.fixture
def agent(tiny_config: Callable[..., Config]) -> Agent:
    torch.manual_seed(0)
    agent = Agent(CountingEnv(size=32).env_spec, tiny_config(), torch.device("cpu"))
    with torch.no_grad():  # values start at zero: there would be nothing to plan for
        for parameter in [*agent.model.parameters(), *agent.actor_critic.parameters()]:
            parameter.add_(0.3 * torch.randn_like(parameter))
    return agent


def pool(*lengths: int, kind: type[CountingEnv] = CountingEnv) -> SerialPool:
    return SerialPool(lambda i: kind(length=lengths[i], size=32), len(lengths))


def test_one_episode_for_each_seed(agent: Agent) -> None:
    results = evaluate(agent, pool(5, 5, 5), [3, 1, 7, 9], images=True)
    assert [result.seed for result in results] == [3, 1, 7, 9]
    for result in results:
        assert result.rewards == [0, 1, 2, 3, 4]
        assert (result.episode_return, result.decision_frames) == (10, 5 * [1])
        assert np.isfinite(result.start_value)
    images = np.stack(results[0].images)
    assert set(decode_episode(images)) == {3}
    assert decode_step(images).tolist() == [0, 1, 2, 3, 4]
    assert [len(result.images) for result in results[1:]] == [0, 0, 0]


def test_episodes_that_end_early_are_left_alone(agent: Agent) -> None:
    results = evaluate(agent, pool(4, 7), [1, 3])
    assert [len(result.rewards) for result in results] == [4, 7]


def test_results_repeat_whatever_follows_them(agent: Agent) -> None:
    before = copy.deepcopy(agent.state_dict())
    many = evaluate(agent, pool(5, 5, kind=ActionSum), [1, 3, 5, 7])
    torch.rand(3)
    few = evaluate(agent, pool(5, 5, kind=ActionSum), [1, 3])
    assert [result.rewards for result in few] == [result.rewards for result in many[:2]]
    torch.testing.assert_close(agent.state_dict(), before, rtol=0, atol=0)


class Failing(ActionSum):
    """Raises at the calls of `step` that are told, counted over all environments."""

    calls = 0
    fails_at: frozenset[int] = frozenset()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        Failing.calls += 1
        if Failing.calls in self.fails_at:
            raise ValueError("a bolt came off")
        return super().step(action)


def test_results_do_not_depend_on_failures(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of the first group and one of the second: what was cut short is made again from its seed."""
    healthy = evaluate(agent, pool(5, 5, kind=ActionSum), [1, 3, 5, 7], images=True)
    monkeypatch.setattr(Failing, "calls", 0)
    monkeypatch.setattr(Failing, "fails_at", frozenset([4, 5, 20]))
    failing = pool(5, 5, kind=Failing)
    results = evaluate(agent, failing, [1, 3, 5, 7], images=True)
    assert failing.restarts == 3
    for one, other in zip(results, healthy, strict=True):
        np.testing.assert_equal(vars(one), vars(other))


def test_what_fails_each_time_is_an_error(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Failing, "calls", 0)
    monkeypatch.setattr(Failing, "fails_at", frozenset(range(100)))
    failing = pool(5, kind=Failing)
    with pytest.raises(WorkerError, match=r"counting failed in 3 attempts to evaluate with the seeds \[7\]"):
        evaluate(agent, failing, [7])
    assert failing.restarts == 3


def test_kind_of_control_can_be_chosen(agent: Agent) -> None:
    returns = {
        control: evaluate(agent, pool(5, kind=ActionSum), [1], control=control)[0].episode_return
        for control in (None, *get_args(ControlName))
    }
    assert returns[None] == returns["mppi"]
    assert len(set(returns.values())) == len(get_args(ControlName)), "each acts in its own way"


def test_discounted_return() -> None:
    assert EpisodeResult(seed=0, rewards=[1.0, 2.0, 4.0]).discounted_return(0.5) == 3.0
