from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from agent import checkpoint
from agent.agent import Agent
from agent.controller import Controller
from agent.curious import CuriousAgent, Seeker, make_agent, weight_after
from configs.curiosity import BonusName, CuriosityOptions
from configs.schema import Config
from envs.spec import EnvSpec, Observation
from world_model.batch import Batch
from world_model.curiosity import Remembering

BONUSES = [name for name in get_args(BonusName) if name != "none"]
Make = Callable[..., Agent]


@pytest.fixture
def make(env_spec: EnvSpec, tiny_config: Callable[..., Config]) -> Make:
    def make(bonus: str = "contrastive", *, mode: str = "task", seed: int = 0, **options: Any) -> Agent:
        torch.manual_seed(seed)
        curiosity = {"bonus": bonus, "memory": 50, **options}
        return make_agent(env_spec, tiny_config(curiosity=curiosity, mode=mode), torch.device("cpu"))

    return make


@pytest.fixture
def batches(env_spec: EnvSpec, make_batch: Callable[..., Batch]) -> list[Batch]:
    return [make_batch(env_spec, seed=seed) for seed in range(5)]


def train(agent: Agent, batches: list[Batch]) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    agent.advance(0)
    return [agent.update(batch, generator) for batch in batches]


def curious(agent: Agent) -> CuriousAgent:
    assert isinstance(agent, CuriousAgent)
    return agent


@pytest.mark.parametrize("bonus", BONUSES)
def test_curiosity_does_not_touch_what_the_task_learns(make: Make, batches: list[Batch], bonus: str) -> None:
    """Neither the encoder nor anything else that is evaluated: the same to the bit after an update."""
    plain, other = make("none"), make(bonus)
    train(plain, batches[:1])
    train(other, batches[:1])
    found = other.state_dict()
    for name in ("model", "actor_critic", "steady"):
        torch.testing.assert_close(found[name], plain.state_dict()[name], rtol=0, atol=0)


@pytest.mark.parametrize("bonus", BONUSES)
def test_everything_that_explores_learns(make: Make, batches: list[Batch], bonus: str) -> None:
    agent = curious(make(bonus))
    before = {name: value.clone() for name, value in agent.explorer.state_dict().items()}
    metrics = train(agent, batches)
    after = agent.explorer.state_dict()
    still = {
        name for name in before if after[name].is_floating_point() and torch.equal(before[name], after[name])
    }
    assert not still
    assert {"loss/curiosity", "loss/curiosity_value"} <= metrics[-1].keys()
    assert all(value.isfinite() for step in metrics for value in step.values())


def test_updates_repeat_bit_for_bit_from_a_saved_state(
    make: Make, batches: list[Batch], tmp_path: Path
) -> None:
    agent, other = make(), make(seed=1)
    train(agent, batches)
    checkpoint.save(tmp_path / "state", agent.state_dict())
    other.load_state_dict(checkpoint.load(tmp_path / "state"))
    assert train(agent, batches) == train(other, batches)
    torch.testing.assert_close(agent.state_dict(), other.state_dict(), rtol=0, atol=0)


def test_an_explorer_does_not_look_at_rewards(make: Make, batches: list[Batch]) -> None:
    """With and without rewards it learns the same; an agent with a task does not."""
    rich = [replace(batch, reward=50 * batch.reward) for batch in batches]
    for mode, is_same in (("explore", True), ("task", False)):
        states = []
        for seen in (batches, rich):
            agent = make(mode=mode)
            train(agent, seen)
            states.append(torch.cat([p.detach().flatten() for p in agent.actor_critic.critics.parameters()]))
        assert torch.equal(*states) is is_same, mode


def test_bonuses_do_not_depend_on_rewards(make: Make, batches: list[Batch]) -> None:
    found = []
    for scale in (1.0, 100.0):
        agent = make()
        train(agent, [replace(batch, reward=scale * batch.reward) for batch in batches[:1]])
        found.append(curious(agent).explorer.normaliser.mean.item())
    assert found[0] == found[1]


def test_only_who_collects_explores(make: Make, env_spec: EnvSpec) -> None:
    rng = np.random.default_rng(0)
    obs = {
        0: Observation(
            rng.integers(0, 256, env_spec.obs_shape, dtype=np.uint8),
            rng.normal(size=env_spec.proprio_dim).astype(np.float32),
        )
    }
    actions: dict[tuple[str, bool, float], np.ndarray] = {}
    for bonus in ("none", "contrastive"):
        agent = make(bonus)
        for frames in (0, 1000):
            agent.advance(frames)
            for collects in (False, True):
                controller = Controller(agent, 1, torch.Generator().manual_seed(1), collects=collects)
                actions[bonus, collects, frames] = controller.act(obs)[0]
    explored = make(final_weight=0.0, frames=1000)
    explored.advance(1000)
    last = Controller(explored, 1, torch.Generator().manual_seed(1), collects=True).act(obs)[0]
    task = actions["none", False, 0]
    for name, action in actions.items():
        assert np.array_equal(action, task) == (name[:2] != ("contrastive", True)), name
    np.testing.assert_array_equal(last, task)


def test_weights_go_in_a_line(make: Make) -> None:
    options = CuriosityOptions(weight=2.0, final_weight=0.5, frames=1000)
    assert [weight_after(options, frames) for frames in (0, 500, 1000, 5000)] == [2.0, 1.25, 0.5, 0.5]
    agent = curious(make(weight=2.0, final_weight=0.5, frames=1000))
    agent.advance(500)
    assert agent.explorer.weight.item() == 1.25


def test_what_is_sought_is_reward_and_bonus_over_their_ranges(make: Make, env_spec: EnvSpec) -> None:
    agent = curious(make(weight=3.0))
    agent.advance(0)
    explorer = agent.explorer
    explorer.actor_critic.scale.fill_(4.0)
    agent.actor_critic.scale.fill_(0.5)  # less than 1 counts as 1
    for head in (explorer.averaged_reward, agent.model.averaged["reward"]):
        torch.nn.init.normal_(list(head.parameters())[-2])
    for network in (explorer.actor_critic.target_critics, agent.actor_critic.target_critics):
        torch.nn.init.normal_(network.layers[-1].weight)  # type: ignore[arg-type]
    z, action = torch.rand(6, 16 + 2), torch.rand(6, env_spec.action_dim) * 2 - 1
    seeker = Seeker(agent)
    _, reward, _ = agent.step(z, action)
    after, found, _ = seeker.step(z, action)
    torch.testing.assert_close(after, agent.step(z, action)[0])
    torch.testing.assert_close(found, reward + 3 / 4 * explorer.expected_reward(z, action))
    chosen = explorer.actor_critic.averaged_policy(z).tanh()
    inputs = torch.cat((z, chosen), dim=-1)
    worth = agent.actor_critic.two_hot.decode(agent.actor_critic.target_critics(inputs)).mean(dim=0)
    novelty = explorer.two_hot.decode(explorer.actor_critic.target_critics(inputs)).mean(dim=0)
    torch.testing.assert_close(seeker.value(z), worth + 3 / 4 * novelty)
    torch.testing.assert_close(seeker.act(z), chosen)


def test_the_exploring_policy_climbs_both_values(make: Make) -> None:
    """Gradients of its loss: those of the two values over their ranges, the bonus's times its weight."""
    agent = curious(make(weight=3.0))
    agent.advance(0)
    for actor_critic in (agent.actor_critic, agent.explorer.actor_critic):
        torch.nn.init.normal_(actor_critic.critics.layers[-1].weight)  # type: ignore[arg-type]
    state, explorer = torch.rand(5, 16 + 2), agent.explorer
    loss = explorer.policy_loss(state, torch.tensor([True, True, True, False, True]), agent.actor_critic)
    raw = explorer.actor_critic.policy(state)
    novelty = explorer.actor_critic.q_values(state, raw.tanh()).mean(dim=0) / explorer.actor_critic.range
    worth = agent.actor_critic.q_values(state, raw.tanh()).mean(dim=0) / agent.actor_critic.range
    penalty = agent.config.actor_critic.action_penalty * raw.square().mean(dim=1)
    expected = (penalty - 3 * novelty - worth) * torch.tensor([1.0, 1, 1, 0, 1])
    torch.testing.assert_close(loss, expected)
    assert agent.actor_critic.scale == 1.0, "the task's range is the task's own"


@pytest.mark.parametrize("bonus", BONUSES)
def test_it_says_how_novel_things_are(make: Make, batches: list[Batch], bonus: str) -> None:
    agent = make(bonus)
    train(agent, batches)
    metrics = agent.diagnose(batches[0], torch.Generator().manual_seed(0))
    assert {"curiosity/bonus", "curiosity/deviation", "curiosity/weight"} <= metrics.keys()
    assert ("curiosity/kept" in metrics) is (bonus != "disagreement")
    assert all(value.isfinite() for value in metrics.values())


def test_memory_holds_states_of_every_step_of_a_window(make: Make, batches: list[Batch]) -> None:
    agent = curious(make())
    train(agent, batches[:1])
    assert isinstance(agent.explorer.bonus, Remembering)
    memory, batch = agent.explorer.bonus.memory, batches[0]
    rows = len(batch.time)
    assert memory.episode[:rows].tolist() == batch.episode.tolist()
    assert memory.time[:rows].tolist() == [int(batch.time[i]) + i % 4 for i in range(rows)]
    assert memory.episode[rows:].unique().tolist() == [-1]


def test_mode_explore_needs_a_bonus(tiny_config: Callable[..., Config]) -> None:
    with pytest.raises(ValueError, match=r"learns from nothing but curiosity\.bonus"):
        tiny_config(mode="explore")
