"""What the explorer learns: returns of the bonus, of nothing else, and what bonus to expect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from agent.actor_critic import ActorCritic
from agent.curious import CuriousAgent, make_agent
from configs.schema import Config
from envs.spec import EnvSpec
from world_model.batch import Batch

Make = Callable[..., CuriousAgent]
Floats = NDArray[np.float64]


@pytest.fixture
def make(env_spec: EnvSpec, tiny_config: Callable[..., Config]) -> Make:
    """Makes agents whose target critics disagree, and whose value targets have no noise."""

    def make(**training: float) -> CuriousAgent:
        torch.manual_seed(0)
        config = tiny_config(
            curiosity={"bonus": "contrastive", "memory": 50},
            actor_critic={"target_noise": 0.0, "trace": 0.6, "discount": 0.9},
            training=training,
        )
        agent = make_agent(env_spec, config, torch.device("cpu"))
        assert isinstance(agent, CuriousAgent)
        agent.advance(0)
        for learner in (agent.actor_critic, agent.explorer.actor_critic):
            torch.nn.init.normal_(learner.target_critics.layers[-1].weight, std=0.3)  # type: ignore[arg-type]
        return agent

    return make


@pytest.fixture
def batch(env_spec: EnvSpec, make_batch: Callable[..., Batch]) -> Batch:
    """Some of its windows end, one of them in the middle."""
    batch = make_batch(env_spec)
    terminated = batch.terminated.clone()
    terminated[2, -1], terminated[5, 1:] = True, True
    return replace(batch, terminated=terminated)


@torch.no_grad()
def values_by_hand(learner: ActorCritic, config: Config, state: Tensor) -> Floats:
    """Of each target critic at the policy's action: the mean of its bins, (N, ...)."""
    action = learner.policy(state).tanh()
    logits = learner.target_critics(torch.cat((state, action), dim=-1)).numpy().astype(np.float64)
    share = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    place = np.linspace(-config.world_model.symlog_limit, config.world_model.symlog_limit, logits.shape[-1])
    found: Floats = (share * np.sign(place) * (np.exp(np.abs(place)) - 1)).sum(axis=-1)
    return found


def returns_by_hand(
    bonus: Tensor, terminated: Tensor, value: Floats, discount: float, trace: float
) -> Floats:
    found = np.zeros(bonus.shape)
    rows, horizon = bonus.shape
    for row in range(rows):
        for k in reversed(range(horizon)):
            ahead = value[row, k]
            if k + 1 < horizon:
                ahead = (1 - trace) * ahead + trace * found[row, k + 1]
            found[row, k] = float(bonus[row, k]) + (0.0 if terminated[row, k] else discount * ahead)
    return found


def test_its_critics_learn_the_returns_of_the_bonus(
    make: Make, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of given bonuses, whatever the rewards, bootstrapped from the mean of its own critics."""
    agent, taught = make(), list[Tensor]()
    explorer = agent.explorer
    bonus = torch.randn(batch.reward.shape, generator=torch.Generator().manual_seed(1))
    latents = agent.model.encode(batch, torch.Generator().manual_seed(2))
    value = values_by_hand(explorer.actor_critic, agent.config, latents.state_key[:, 1:]).mean(axis=0)
    expected = returns_by_hand(bonus, batch.terminated, value, discount=0.9, trace=0.6)
    critic_loss = explorer.actor_critic.critic_loss

    def watched(state: Tensor, action: Tensor, target: Tensor) -> Tensor:
        taught.append(target.clone())
        return critic_loss(state, action, target)

    monkeypatch.setattr(explorer, "normalised_bonus", lambda *_: bonus)
    monkeypatch.setattr(explorer.actor_critic, "critic_loss", watched)
    agent.update(batch, torch.Generator().manual_seed(2), imagine=False)
    assert len(taught) == 1 + agent.config.curiosity.extra_updates
    for target in taught:
        np.testing.assert_allclose(target.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_its_targets_are_the_mean_of_critics_where_the_tasks_are_the_least(make: Make) -> None:
    agent, generator = make(), torch.Generator().manual_seed(0)
    state = torch.rand(6, 16 + 2, generator=generator)
    mine, tasks = (
        values_by_hand(learner, agent.config, state)
        for learner in (agent.explorer.actor_critic, agent.actor_critic)
    )
    found = agent.explorer.target_value(state, generator).numpy()
    np.testing.assert_allclose(found, mine.mean(axis=0), rtol=1e-4)
    found = agent.actor_critic.target_value(state, generator).numpy()
    np.testing.assert_allclose(found, tasks.min(axis=0), rtol=1e-4, atol=1e-5)
    assert (np.ptp(mine, axis=0) > 0.01).all(), "critics disagree"


def test_its_head_learns_to_expect_the_normalised_bonus(
    make: Make, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a bonus that follows from the action; beyond an end nothing counts."""
    agent = make(learning_rate=0.01)
    explorer, taken = agent.explorer, batch.alive[:, :-1].numpy()
    monkeypatch.setattr(explorer.bonus, "forward", lambda arrivals: 3 + 2 * arrivals.action[:, 0])
    for _ in range(80):
        agent.update(batch, torch.Generator().manual_seed(0), imagine=False)
    with torch.no_grad():
        latents = agent.model.encode(batch, torch.Generator().manual_seed(0))
        inputs = torch.cat((latents.state[:, :-1], batch.action), dim=-1)
        found = explorer.two_hot.decode(explorer.bonus_head(inputs)).numpy()[taken]
    raw = 3 + 2 * batch.action[..., 0].numpy()[taken]
    np.testing.assert_allclose(found, raw / raw.std(), atol=0.5)
    assert np.abs(found - raw / raw.std()).mean() < 0.15
