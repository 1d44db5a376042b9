"""Which parameters learn from which loss, and which never learn by gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import Tensor

from agent.actor_critic import ActorCritic
from agent.agent import Agent
from configs.schema import Config, ObsName
from configs.world_model import ObjectiveName
from envs.spec import EnvSpec
from world_model.batch import Batch

# what each loss trains; everything else must be left alone
TRAINS = {
    "augmentation": {"encoder", "projection"},
    "temporal": {"encoder", "dynamics", "projection"},
    "consistency": {"encoder", "dynamics"},
    "reward": {"encoder", "dynamics", "reward"},
    "continuation": {"encoder", "dynamics", "continuation"},
    "value": {"encoder", "dynamics", "critics"},
}
AVERAGES = {
    "key_encoder": "encoder",
    "key_projection": "projection",
    "target_critics": "critics",
    "averaged_policy": "policy",
    "averaged_dynamics": "dynamics",
    "averaged_reward": "reward",
    "averaged_continuation": "continuation",
}

MakeAgent = Callable[..., Agent]


@pytest.fixture
def make_agent(env_spec: EnvSpec, tiny_config: Callable[..., Config]) -> MakeAgent:
    def make(
        objective: ObjectiveName = "contrastive", obs: ObsName = "pixels", **world_model: object
    ) -> Agent:
        torch.manual_seed(0)
        config = tiny_config(
            obs=obs,
            world_model={"objective": objective, **world_model},
            actor_critic={"extra_updates": 0, "imagined_updates": 0},
        )
        agent = Agent(env_spec, config, torch.device("cpu"))
        with torch.no_grad():  # outputs that start at zero hide what lies before them
            for parameter in [*agent.model.parameters(), *agent.actor_critic.parameters()]:
                parameter.add_(0.1 * torch.randn_like(parameter))
        return agent

    return make


@pytest.fixture
def batch(env_spec: EnvSpec, make_batch: Callable[..., Batch]) -> Batch:
    return make_batch(env_spec)


def parts(agent: Agent) -> dict[str, list[Tensor]]:
    """All parameters by the part they belong to."""
    found: dict[str, list[Tensor]] = {}
    for module in (agent.model, agent.actor_critic):
        for name, parameter in module.named_parameters():
            part = name.removeprefix("objective.").replace("averaged.", "averaged_").partition(".")[0]
            found.setdefault(part, []).append(parameter)
    return found


def snapshot(agent: Agent) -> dict[str, list[Tensor]]:
    return {name: [tensor.detach().clone() for tensor in tensors] for name, tensors in parts(agent).items()}


def changed(before: dict[str, list[Tensor]], after: dict[str, list[Tensor]]) -> set[str]:
    """Parts of which every tensor differs; a part may not differ in some of its tensors only."""
    found = set()
    for name, tensors in before.items():
        differs = {not torch.equal(old, new) for old, new in zip(tensors, after[name], strict=True)}
        assert len(differs) == 1, f"{name} changed in part"
        if differs == {True}:
            found.add(name)
    return found


def reached(agent: Agent, loss: Tensor) -> set[str]:
    """Parts that receive gradient from a loss."""
    learning = {name: [p for p in leaves if p.requires_grad] for name, leaves in parts(agent).items()}
    leaves = [leaf for group in learning.values() for leaf in group]
    gradients = iter(torch.autograd.grad(loss, leaves, allow_unused=True))
    return {
        name
        for name, group in learning.items()
        for _ in group
        if (g := next(gradients)) is not None and g.any()
    }


@pytest.mark.parametrize("loss_name", TRAINS)
def test_each_loss_trains_its_parts_alone(loss_name: str, make_agent: MakeAgent, batch: Batch) -> None:
    agent, generator = make_agent(), torch.Generator().manual_seed(0)
    latents = agent.model.encode(batch, generator)
    target = agent.value_target(batch, latents, generator)
    losses, _ = agent.model.losses(batch, latents)
    losses["value"] = agent.actor_critic.critic_loss(latents.state[:, :-1], batch.action, target)
    assert reached(agent, agent.model.reduce(losses[loss_name])) == TRAINS[loss_name]


@pytest.mark.parametrize(
    ("loss_name", "trained"),
    [
        ("label", {"encoder", "head"}),
        ("future_label", {"encoder", "dynamics", "head"}),
        ("consistency", {"encoder", "dynamics"}),
    ],
)
def test_labels_train_their_head_and_what_lies_before_it(
    loss_name: str, trained: set[str], make_agent: MakeAgent, batch: Batch
) -> None:
    agent = make_agent("supervised")
    losses, _ = agent.model.losses(batch, agent.model.encode(batch, torch.Generator().manual_seed(0)))
    assert reached(agent, agent.model.reduce(losses[loss_name])) == trained


@pytest.mark.parametrize("obs", get_args(ObsName))
def test_an_update_trains_the_encoder_of_whatever_is_seen(
    obs: ObsName, make_agent: MakeAgent, batch: Batch
) -> None:
    agent = make_agent(obs=obs)
    before = snapshot(agent)
    agent.update(batch, torch.Generator().manual_seed(0))
    assert changed(before, parts(agent)) == before.keys()
    seen = {name.partition(".")[0] for name, _ in agent.model.encoder.named_parameters()}
    assert seen - {"linear", "norm"} == {part.replace("state", "proprio") for part in obs.split("+")}


def test_averages_never_require_gradient(make_agent: MakeAgent, batch: Batch) -> None:
    agent = make_agent()
    agent.update(batch, torch.Generator().manual_seed(0))
    for average in AVERAGES:
        assert all(p.grad is None and not p.requires_grad for p in parts(agent)[average])
    assert not agent.model.encode(batch, torch.Generator()).z_key.requires_grad


def test_averages_move_a_little_towards_what_was_learnt(make_agent: MakeAgent, batch: Batch) -> None:
    agent = make_agent()
    before = snapshot(agent)
    agent.update(batch, torch.Generator().manual_seed(0))
    after = {name: [tensor.detach() for tensor in tensors] for name, tensors in parts(agent).items()}
    key_tau, critic_tau = agent.config.world_model.key_tau, agent.config.actor_critic.critic_tau
    for average, online in AVERAGES.items():
        tau = critic_tau if online in ("critics", "policy") else key_tau
        for old, learnt, found in zip(before[average], after[online], after[average], strict=True):
            torch.testing.assert_close(found, old.lerp(learnt, tau))


@pytest.mark.parametrize("objective", get_args(ObjectiveName))
def test_an_update_trains_everything_that_the_objective_needs(
    objective: ObjectiveName, make_agent: MakeAgent, batch: Batch
) -> None:
    agent = make_agent(objective)
    before = snapshot(agent)
    agent.update(batch, torch.Generator().manual_seed(0))
    assert changed(before, parts(agent)) == before.keys()


def test_bilinear_weight_is_learnt(make_agent: MakeAgent, batch: Batch) -> None:
    agent = make_agent("augmentation", similarity="bilinear")
    before = snapshot(agent)
    agent.update(batch, torch.Generator().manual_seed(0))
    assert "bilinear" in changed(before, parts(agent))


def test_policy_loss_reaches_the_policy_alone(
    make_agent: MakeAgent, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its sign turned, one update leaves the same world model and critics, and another policy."""
    agent, turned = make_agent(), make_agent()
    agent.update(batch, torch.Generator().manual_seed(0))
    original = ActorCritic.policy_loss
    monkeypatch.setattr(ActorCritic, "policy_loss", lambda *arguments: -original(*arguments))
    turned.update(batch, torch.Generator().manual_seed(0))
    assert changed(parts(agent), parts(turned)) == {"policy", "averaged_policy"}


def test_imitation_reaches_the_policy_alone(make_agent: MakeAgent, batch: Batch) -> None:
    agent = make_agent()
    latents = agent.model.encode(batch, torch.Generator().manual_seed(0))
    loss = agent.actor_critic.imitation_loss(latents.state[:, :-1].detach(), batch.action)
    assert reached(agent, loss.mean()) == {"policy"}


def test_value_loss_does_not_reach_the_policy(
    make_agent: MakeAgent, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = make_agent()
    monkeypatch.setattr(ActorCritic, "policy_loss", lambda self, z, _: 0.0 * self.policy(z).mean(dim=-1))
    before = snapshot(agent)
    agent.update(batch, torch.Generator().manual_seed(0))
    assert changed(before, parts(agent)) == before.keys() - {"policy"}
