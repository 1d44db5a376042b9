from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from agent import checkpoint
from agent.actor_critic import ActorCritic
from agent.agent import Agent
from configs.schema import Config
from envs.spec import EnvSpec
from tests.objectives import EVERY_OBJECTIVE
from world_model.batch import Batch

MakeAgent = Callable[..., Agent]


@pytest.fixture
def make_agent(env_spec: EnvSpec, tiny_config: Callable[..., Config]) -> MakeAgent:
    def make(seed: int = 0, **options: Any) -> Agent:
        torch.manual_seed(seed)
        return Agent(env_spec, tiny_config(**options), torch.device("cpu"))

    return make


@pytest.fixture
def batches(env_spec: EnvSpec, make_batch: Callable[..., Batch]) -> list[Batch]:
    return [make_batch(env_spec, seed=seed) for seed in range(3)]


def train(agent: Agent, batches: list[Batch]) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [agent.update(batch, generator) for batch in batches]


def assert_same_state(one: Agent, other: Agent) -> None:
    torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=0, atol=0)


def test_updates_repeat_bit_for_bit_from_a_saved_state(
    make_agent: MakeAgent, batches: list[Batch], tmp_path: Path
) -> None:
    """Also through a checkpoint file, into an agent that was initialised otherwise."""
    agent, other = make_agent(), make_agent(seed=1)
    train(agent, batches)
    checkpoint.save(tmp_path / "state", agent.state_dict())
    other.load_state_dict(checkpoint.load(tmp_path / "state"))
    assert_same_state(agent, other)
    assert train(agent, batches) == train(other, batches)
    assert_same_state(agent, other)


def test_memory_layout_of_gradients_does_not_matter(
    make_agent: MakeAgent, batches: list[Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Convolutions are kept channels last, and a backend may return their gradients otherwise."""
    agent, other = make_agent(), make_agent()
    train(agent, batches)
    original = torch.autograd.grad
    changed: list[Tensor] = []

    def contiguous(*arguments: Any, **options: Any) -> list[Tensor | None]:
        gradients = original(*arguments, **options)
        changed.extend(g for g in gradients if g is not None and not g.is_contiguous())
        return [g if g is None else g.contiguous() for g in gradients]

    monkeypatch.setattr(torch.autograd, "grad", contiguous)
    train(other, batches)
    assert changed
    assert_same_state(agent, other)


def test_state_holds_everything_that_updates_change(make_agent: MakeAgent, batches: list[Batch]) -> None:
    agent = make_agent()
    train(agent, batches)
    state = copy.deepcopy(agent.state_dict())
    train(agent, batches)
    fresh = make_agent(seed=1)
    fresh.load_state_dict(state)
    train(fresh, batches)
    assert_same_state(agent, fresh)


def test_networks_alone_can_be_loaded(make_agent: MakeAgent, batches: list[Batch]) -> None:
    agent, actor = make_agent(), make_agent(seed=1)
    train(agent, batches)
    actor.load_state_dict(agent.state_dict(), optimizers=False)
    torch.testing.assert_close(actor.model.state_dict(), agent.model.state_dict(), rtol=0, atol=0)
    assert not any(optimizer.state for optimizer in actor.optimizers.values())


def test_every_loss_needs_a_weight(
    make_agent: MakeAgent, batches: list[Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = make_agent()
    original = agent.model.objective.forward
    extra = {"surplus": torch.zeros(8)}
    monkeypatch.setattr(agent.model.objective, "forward", lambda *arguments: original(*arguments) | extra)
    with pytest.raises(AssertionError, match="surplus"):
        train(agent, batches)


def test_weights_of_losses_are_obeyed(make_agent: MakeAgent, batches: list[Batch]) -> None:
    """A loss of weight zero leaves its head alone and is still reported."""
    agent = make_agent(world_model={"reward_weight": 0.0})
    before = copy.deepcopy(agent.model.reward.state_dict())
    metrics = train(agent, batches)
    torch.testing.assert_close(agent.model.reward.state_dict(), before, rtol=0, atol=0)
    assert metrics[0]["loss/reward"] > 0


@pytest.mark.parametrize("imagined", [0, 1, 2])
def test_extra_updates_are_those_of_critics_and_policy(
    make_agent: MakeAgent, batches: list[Batch], imagined: int
) -> None:
    agent, more = (
        make_agent(actor_critic={"extra_updates": extra, "imagined_updates": min(extra, imagined)})
        for extra in (0, 2)
    )
    train(agent, batches[:1])
    train(more, batches[:1])
    torch.testing.assert_close(agent.model.state_dict(), more.model.state_dict(), rtol=0, atol=0)
    steps = [
        [
            int(next(iter(each.optimizers[name].state.values()))["step"])
            for name in ("model", "critics", "policy")
        ]
        for each in (agent, more)
    ]
    assert steps == [[1, 1, 1], [1, 3, 3]]


def test_imagined_updates_replace_recorded_ones_when_asked_for(
    make_agent: MakeAgent, batches: list[Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    targets: list[tuple[int, ...]] = []
    agent = make_agent(actor_critic={"extra_updates": 3, "imagined_updates": 1})
    original = agent.actor_critic.critic_loss

    def recorded(state: Tensor, action: Tensor, target: Tensor) -> Tensor:
        targets.append(tuple(target.shape))
        return original(state, action, target)

    monkeypatch.setattr(agent.actor_critic, "critic_loss", recorded)
    window = tuple(batches[0].reward.shape)
    for imagine, last in ((False, window), (True, (window[0] * (window[1] + 1),))):
        targets.clear()
        agent.update(batches[0], torch.Generator().manual_seed(0), imagine=imagine)
        assert targets == [window, window, window, last]


def test_planner_weight_pulls_the_policy_alone(make_agent: MakeAgent, batches: list[Batch]) -> None:
    free, pulled = (
        make_agent(
            actor_critic={
                "extra_updates": 0,
                "imagined_updates": 0,
                "planner_weight": weight,
                "planner_filter": False,
            }
        )
        for weight in (0.0, 10.0)
    )
    train(free, batches[:1])
    train(pulled, batches[:1])
    for name, parameters in free.state_dict()["actor_critic"].items():
        is_same = torch.equal(parameters, pulled.state_dict()["actor_critic"][name])
        assert is_same == ("policy" not in name), name
    torch.testing.assert_close(free.model.state_dict(), pulled.model.state_dict(), rtol=0, atol=0)
    losses = [metrics["loss/imitation"] for metrics in train(pulled, 50 * batches[:1])]
    assert losses[-1] < 0.8 * losses[0]


def test_without_planner_weight_recorded_actions_are_not_looked_at(
    make_agent: MakeAgent, batches: list[Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(ActorCritic, "imitation_loss")
    assert "loss/imitation" not in train(make_agent(), batches)[-1]


def test_diagnosing_changes_nothing(make_agent: MakeAgent, batches: list[Batch]) -> None:
    agent, observed = make_agent(), make_agent()
    generator, metrics = torch.Generator().manual_seed(0), {}
    train(agent, batches)
    for batch in batches:
        observed.update(batch, generator)
        metrics = observed.diagnose(batch, torch.Generator().manual_seed(9))
    assert_same_state(agent, observed)
    assert all(value.ndim == 0 and value.isfinite() for value in metrics.values()), metrics
    assert metrics.keys() >= {"train/retrieval_3", "train/rank_me", "train/reward_error_at_horizon"}


def test_diagnosing_needs_no_episode_as_long_as_a_window(make_agent: MakeAgent, batches: list[Batch]) -> None:
    batch = replace(batches[0], terminated=torch.ones_like(batches[0].terminated))
    metrics = make_agent().diagnose(batch, torch.Generator().manual_seed(0))
    assert all(value.isfinite() for value in metrics.values()), metrics
    assert [name for name in sorted(metrics) if "retrieval" in name] == [
        "train/retrieval_0",
        "train/retrieval_1",
    ]


def test_share_of_values_beyond_the_bins(make_agent: MakeAgent, batches: list[Batch]) -> None:
    """Of decisions that were taken: the last two of the second window come after an episode's end."""
    agent, first = make_agent(), batches[0]
    rewards, terminated = torch.zeros_like(first.reward), torch.zeros_like(first.terminated)
    rewards[0, 0], rewards[1, 2] = -2000.0, 2000.0
    terminated[1] = True
    batch = replace(first, reward=rewards, terminated=terminated)
    taken = batch.alive[:, :-1].sum().item()
    assert taken == rewards.numel() - 2
    metrics = agent.diagnose(batch, torch.Generator().manual_seed(0))
    assert metrics["train/values_clamped"].item() == pytest.approx(1 / taken)


def test_metrics_are_detached_scalars(make_agent: MakeAgent, batches: list[Batch]) -> None:
    metrics = train(make_agent(), batches)[-1]
    assert all(value.ndim == 0 and not value.requires_grad and value.isfinite() for value in metrics.values())


def test_gradients_are_clipped(make_agent: MakeAgent, batches: list[Batch]) -> None:
    agent = make_agent(training={"gradient_norm": 1e-3})
    norm = train(agent, batches[:1])[0]["train/gradient_norm_model"]
    gradients = [p.grad for group in agent.optimizers["model"].param_groups for p in group["params"]]
    clipped = torch.stack([gradient.norm() for gradient in gradients if gradient is not None]).norm()
    assert norm > 0.01, "as it was before"
    assert clipped.item() == pytest.approx(1e-3, rel=1e-3)


def test_bfloat16_stays_close_to_float32(make_agent: MakeAgent, batches: list[Batch]) -> None:
    exact = train(make_agent(), batches)
    agent = make_agent(world_model={"encoder": {"precision": "bfloat16"}})
    reduced = train(agent, batches)
    for name, value in exact[0].items():
        assert reduced[0][name].item() == pytest.approx(value.item(), rel=0.05, abs=0.02), name
    dtypes = {tensor.dtype for tensor in agent.model.state_dict().values()}
    assert dtypes == {torch.float32}


@pytest.mark.parametrize("options", EVERY_OBJECTIVE, ids=str)
def test_what_stands_beyond_the_end_of_an_episode_is_not_learnt_from(
    make_agent: MakeAgent, batches: list[Batch], options: dict[str, Any]
) -> None:
    """Whatever a window that reaches beyond it holds there."""
    terminated = batches[0].terminated.clone()
    terminated[:3, 1:] = True  # the last of three decisions was never taken
    batch = replace(batches[0], terminated=terminated)
    other = replace(batch, **{name: getattr(batch, name).clone() for name in ("frames", "action", "reward")})
    other.frames[:3, -1] = 255 - other.frames[:3, -1]
    other.action[:3, 2] *= -1
    other.reward[:3, 2] += 5
    agents = [make_agent(world_model=options) for _ in range(2)]
    # the second batch meets the keys of the first where there is a queue
    losses = [train(agent, [each, batches[1]]) for agent, each in zip(agents, (batch, other), strict=True)]
    torch.testing.assert_close(*losses)
    for part in ("model", "actor_critic"):
        one, two = (dict(getattr(agent, part).named_parameters()) for agent in agents)
        torch.testing.assert_close(one, two)
