"""The update that the loop calls, as it is without a graph; see `tests/gpu` for the graph."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from agent.agent import Agent
from agent.update import make_update
from configs.schema import Config
from envs.spec import EnvSpec
from world_model.batch import Batch


def vector(network: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


@pytest.mark.parametrize("imagine", [True, False])
def test_steady_averages_follow_every_update(
    env_spec: EnvSpec, tiny_config: Callable[..., Config], make_batch: Callable[..., Batch], imagine: bool
) -> None:
    """With a step of 1 they are the acting networks themselves."""
    torch.manual_seed(0)
    agent = Agent(env_spec, tiny_config(evaluation={"average_tau": 1.0}), torch.device("cpu"))
    acting: dict[str, nn.Module] = {
        "encoder": agent.model.key_encoder,
        "model": agent.model.averaged,
        "critics": agent.actor_critic.target_critics,
        "policy": agent.actor_critic.averaged_policy,
    }
    before = {name: vector(network) for name, network in acting.items()}
    update = make_update(agent, torch.Generator().manual_seed(0))
    for seed in range(2):
        metrics = update(make_batch(env_spec, seed=seed), imagine=imagine)
        assert "loss/reward" in metrics
        for name, network in acting.items():
            followed = vector(agent.steady.averages[name])
            assert torch.equal(followed, vector(network)), name
            assert not torch.equal(followed, before[name]), f"{name} learns"
    assert agent.steady.get_extra_state() == 2
