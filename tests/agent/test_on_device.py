"""What a CUDA graph asks of an update: nothing of it is computed or looked at on the host.

On torch's meta device, whose tensors hold no numbers: reading one raises, and mixing it with one of the host.
Numbers are for `tests/gpu`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from agent.curious import make_agent
from agent.planners.registry import PLANNERS
from configs.control import ControlName
from configs.curiosity import BonusName
from configs.schema import Config
from envs.spec import EnvSpec
from tests.objectives import EVERY_OBJECTIVE
from world_model import checks
from world_model.batch import Batch

META = torch.device("meta")
ALONE = {"extra_updates": 0, "imagined_updates": 0}  # no further ones of critics and policy


class Draws(torch.Generator):
    """A random stream that says it is on the device; nothing is drawn there."""

    device = META


@pytest.fixture(autouse=True)
def what_this_device_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Autocasting, several tensors at once in a kernel, and steps of the optimiser."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)
    monkeypatch.setattr(checks, "_may_read", lambda _: False)  # as while a graph is captured
    clip = nn.utils.clip_grad_norm_
    monkeypatch.setattr(nn.utils, "clip_grad_norm_", lambda leaves, norm, **_: clip(leaves, norm))
    monkeypatch.setattr(torch.optim.Adam, "step", lambda _: None)


@pytest.mark.parametrize(
    "options",
    [
        {},
        *({"world_model": options, "actor_critic": ALONE} for options in EVERY_OBJECTIVE),
        *({"curiosity": {"bonus": name, "memory": 30}} for name in get_args(BonusName)),
        *({"obs": obs, "actor_critic": ALONE} for obs in ("state", "pixels+state")),
        {"actor_critic": {**ALONE, "planner_weight": 0.5}},
    ],
    ids=str,
)
def test_an_update_stays_on_its_device(
    options: dict[str, Any],
    env_spec: EnvSpec,
    tiny_config: Callable[..., Config],
    make_batch: Callable[..., Batch],
) -> None:
    agent = make_agent(env_spec, tiny_config(**options), META)
    agent.advance(0)
    batch = make_batch(env_spec).to(META)
    metrics = agent.update(batch, Draws())
    assert {value.device for value in metrics.values()} == {META}


@pytest.mark.parametrize(
    ("control", "bonus"),
    [
        *((control, "contrastive") for control in get_args(ControlName)),
        *(("mppi", bonus) for bonus in get_args(BonusName) if bonus != "contrastive"),
    ],
)
def test_a_plan_stays_on_its_device(
    control: str, bonus: str, env_spec: EnvSpec, tiny_config: Callable[..., Config]
) -> None:
    agent = make_agent(env_spec, tiny_config(curiosity={"bonus": bonus, "memory": 30}), META)
    agent.advance(0)
    planner = PLANNERS[control](agent.config.planner)
    memory = planner.start(2, env_spec.action_dim, META)
    state = torch.zeros(2, agent.config.world_model.latent_dim + env_spec.action_dim, device=META)
    for model in (agent, agent.behaviour):
        plan = planner.plan(model, state, memory, noise_std=0.1, generator=Draws())
        held: list[Tensor] = [plan.action, plan.memory, plan.advantage]
        assert {tensor.device for tensor in held} == {META}
