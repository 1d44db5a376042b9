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
from agent.actor_critic import ActorCritic
from agent.agent import Agent
from agent.controller import Controller
from agent.curious import CuriousAgent, ExplorationModel, make_agent, weight_after
from agent.reporting import layout
from configs.curiosity import BonusName, CuriosityOptions
from configs.schema import Config
from envs.spec import EnvSpec, Observation
from world_model.batch import Batch
from world_model.curiosity import Arrivals, MemoryBonus

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
    assert still == {"actor_critic.scale"}, "the explorer divides by deviations of its own"
    assert {"loss/curiosity", "loss/curiosity_value"} <= metrics[-1].keys()
    assert all(value.isfinite() for step in metrics for value in step.values())


@pytest.mark.parametrize("bonus", BONUSES)
def test_updates_repeat_bit_for_bit_from_a_saved_state(
    make: Make, batches: list[Batch], tmp_path: Path, bonus: str
) -> None:
    agent, other = make(bonus), make(bonus, seed=1)
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


@pytest.mark.parametrize("scale", [0.1, 20.0])
def test_what_is_sought_does_not_depend_on_the_scale_of_rewards(make: Make, scale: float) -> None:
    """Once the running deviation has followed, the exploring policy's gradient is the same."""
    states, alive = torch.rand(40, 16 + 2, generator=torch.Generator().manual_seed(0)), torch.ones(40).bool()

    class Scaled:
        def __init__(self, task: ActorCritic, factor: float) -> None:
            self.task, self.factor = task, factor

        def q_values(self, state: Tensor, action: Tensor) -> Tensor:
            return self.factor * self.task.q_values(state, action)

    found = []
    for factor in (1.0, scale):
        agent = curious(make())
        agent.advance(0)
        torch.nn.init.normal_(agent.actor_critic.critics.layers[-1].weight)  # type: ignore[arg-type]
        task: Any = Scaled(agent.actor_critic, factor)
        for _ in range(1500):
            loss = agent.explorer.policy_loss(states, alive, task).mean()
        found.append(torch.autograd.grad(loss, list(agent.explorer.actor_critic.policy.parameters())))
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-6)


def test_the_agent_has_a_share_of_the_episodes_once_rewards_were_seen(
    make: Make, batches: list[Batch]
) -> None:
    dull, same = (
        [replace(batch, reward=torch.full_like(batch.reward, value)) for batch in batches[:2]]
        for value in (0.0, 1.0)
    )
    for mode, share, seen, expected in (
        ("task", 0.25, dull, [True] * 8),
        ("task", 0.25, same, [True] * 8),  # nothing can be done better
        ("task", 0.25, batches[:2], [True, True, True, False] * 2),
        ("task", 0.0, batches[:1], [True] * 8),
        ("task", 1.0, batches[:1], [False] * 8),
        ("explore", 0.25, batches[:2], [True] * 8),
    ):
        agent = make(mode=mode, own_share=share)
        train(agent, seen)
        train(agent, dull)  # what was seen once stays seen
        assert [agent.explores(episode) for episode in range(8)] == expected, (mode, share)
    assert [make("none").explores(episode) for episode in range(3)] == [True] * 3


def test_who_acts_is_chosen_for_each_environment(make: Make, env_spec: EnvSpec) -> None:
    """Environments that explore and those that do the task, side by side: the actions of each alone."""
    agent = curious(make(own_share=0.5))
    agent.advance(0)
    agent.explorer.was_rewarded.fill_(True)
    rng = np.random.default_rng(0)
    obs = {
        env: Observation(
            rng.integers(0, 256, env_spec.obs_shape, dtype=np.uint8),
            rng.normal(size=env_spec.proprio_dim).astype(np.float32),
        )
        for env in range(4)
    }
    controller = Controller(agent, 4, torch.Generator().manual_seed(0), control="policy", collects=True)
    for env in obs:
        controller.reset(env, episode=env)
    found = controller.act(obs)
    for env, model in enumerate((agent.behaviour, agent, agent.behaviour, agent)):
        pixels, proprio = (torch.from_numpy(part)[None] for part in obs[env])
        state = agent.encode(pixels, proprio, torch.zeros(1, env_spec.action_dim))
        np.testing.assert_allclose(found[env], model.act(state)[0].detach().numpy(), atol=1e-6)


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


@pytest.mark.parametrize("bonus", BONUSES)
def test_what_is_planned_for_is_reward_and_bonus_over_their_deviations(
    make: Make, env_spec: EnvSpec, batches: list[Batch], bonus: str
) -> None:
    agent = curious(make(bonus, weight=3.0))
    train(agent, batches)
    explorer = agent.explorer
    explorer.bonus_deviation.fill_(4.0)
    explorer.task_deviation.fill_(0.001)  # less than 0.01 counts as that
    torch.nn.init.normal_(list(explorer.averaged_bonus_head.parameters())[-2])
    for network in (explorer.actor_critic.target_critics, agent.actor_critic.target_critics):
        torch.nn.init.normal_(network.layers[-1].weight)  # type: ignore[arg-type]
    state, action = torch.rand(6, 16 + 2), torch.rand(6, env_spec.action_dim) * 2 - 1
    world = ExplorationModel(agent)
    expected, reward, _ = agent.step(state, action)
    following, found, _ = world.step(state, action)
    torch.testing.assert_close(following, expected)
    if bonus == "surprise":  # what is imagined surprises nobody: a head knows what to expect
        novelty = explorer.two_hot.decode(explorer.averaged_bonus_head(torch.cat((state, action), dim=-1)))
    else:
        nowhere = torch.full((6,), -1)
        latent = following[:, :16]
        key = torch.nn.functional.normalize(agent.model.objective.key(latent), dim=-1)
        arrivals = Arrivals(state, action, latent, key, nowhere, nowhere)
        novelty = explorer.normaliser(explorer.bonus(arrivals))
    torch.testing.assert_close(found, reward / 0.01 + 3 / 4 * novelty)
    chosen = explorer.actor_critic.averaged_policy(state).tanh()
    inputs = torch.cat((state, chosen), dim=-1)
    worth = agent.actor_critic.two_hot.decode(agent.actor_critic.target_critics(inputs)).mean(dim=0)
    novelty = explorer.two_hot.decode(explorer.actor_critic.target_critics(inputs)).mean(dim=0)
    torch.testing.assert_close(world.value(state), worth / 0.01 + 3 / 4 * novelty)
    torch.testing.assert_close(world.act(state), chosen)
    deep = world.step(state.expand(3, 6, -1), action.expand(3, 6, -1))  # candidates of several environments
    torch.testing.assert_close(deep[1], found.expand(3, 6))


def test_the_exploring_policy_climbs_both_values(make: Make) -> None:
    """Its loss: the two values over their deviations, the bonus's times its weight; it takes them in."""
    agent = curious(make(weight=3.0))
    agent.advance(0)
    for actor_critic in (agent.actor_critic, agent.explorer.actor_critic):
        torch.nn.init.normal_(actor_critic.critics.layers[-1].weight)  # type: ignore[arg-type]
    state, explorer = torch.rand(5, 16 + 2), agent.explorer
    alive = torch.tensor([True, True, True, False, True])
    loss = explorer.policy_loss(state, alive, agent.actor_critic)
    raw = explorer.actor_critic.policy(state)
    deviations = {}
    values = {}
    for name, actor_critic in (("task", agent.actor_critic), ("bonus", explorer.actor_critic)):
        values[name] = actor_critic.q_values(state, raw.tanh()).mean(dim=0)
        deviations[name] = 0.99 + 0.01 * float(np.std(values[name].detach().numpy()[alive.numpy()]))
    penalty = agent.config.actor_critic.action_penalty * raw.square().mean(dim=1)
    sought = 3 * values["bonus"] / deviations["bonus"] + values["task"] / deviations["task"]
    torch.testing.assert_close(loss, (penalty - sought) * alive)
    assert explorer.task_deviation.item() == pytest.approx(deviations["task"])
    assert agent.actor_critic.scale == 1.0, "the task's range is the task's own"


@pytest.mark.parametrize("bonus", BONUSES)
def test_it_says_how_novel_things_are(make: Make, batches: list[Batch], bonus: str) -> None:
    agent = make(bonus)
    train(agent, batches)
    metrics = agent.diagnose(batches[0], torch.Generator().manual_seed(0))
    assert {"curiosity/bonus", "curiosity/deviation", "curiosity/weight"} <= metrics.keys()
    charts = layout(agent.config)["exploration"]
    arranged = {tag for _, tags in charts.values() for tag in tags if tag.startswith("curiosity/")}
    assert arranged == {name for name in metrics if name.startswith("curiosity/")}
    assert all(value.isfinite() for value in metrics.values())


def test_memory_holds_states_of_every_step_of_a_window(make: Make, batches: list[Batch]) -> None:
    agent = curious(make())
    train(agent, batches[:1])
    assert isinstance(agent.explorer.bonus, MemoryBonus)
    memory, batch = agent.explorer.bonus.memory, batches[0]
    rows = len(batch.time)
    assert memory.episode[:rows].tolist() == batch.episode.tolist()
    assert memory.time[:rows].tolist() == [int(batch.time[i]) + i % 4 for i in range(rows)]
    assert memory.episode[rows:].unique().tolist() == [-1]


def test_mode_explore_needs_a_bonus(tiny_config: Callable[..., Config]) -> None:
    with pytest.raises(ValueError, match=r"learns from nothing but curiosity\.bonus"):
        tiny_config(mode="explore")
