"""Options of the agent and of its planner that do what they say."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from agent.agent import Agent
from agent.controller import Controller
from agent.planners.mppi import MPPI
from agent.planners.registry import PLANNERS
from configs.control import ControlName, PlannerOptions
from configs.schema import Config
from envs.spec import EnvSpec
from world_model.batch import Batch


def vector(parameters: Iterable[nn.Parameter]) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in parameters])


@pytest.mark.parametrize(("encoder_rate", "other_rate"), [(1e-3, 1e-4), (1e-5, 1e-4)])
def test_encoder_has_a_learning_rate_of_its_own(
    env_spec: EnvSpec,
    tiny_config: Callable[..., Config],
    make_batch: Callable[..., Batch],
    encoder_rate: float,
    other_rate: float,
) -> None:
    """Adam's first step is the rate itself, wherever there is a gradient."""
    torch.manual_seed(0)
    rates = {"encoder_learning_rate": encoder_rate, "learning_rate": other_rate}
    agent = Agent(env_spec, tiny_config(training=rates), torch.device("cpu"))
    encoder = list(agent.model.encoder.parameters())
    ours = {id(parameter) for parameter in encoder}
    others = [p for p in agent.model.parameters() if p.requires_grad and id(p) not in ours]
    before = vector(encoder), vector(others)
    agent.update(make_batch(env_spec), torch.Generator().manual_seed(0))
    steps = [(vector(encoder) - before[0]).abs().max(), (vector(others) - before[1]).abs().max()]
    assert [step.item() for step in steps] == pytest.approx([encoder_rate, other_rate], rel=0.05)


@pytest.mark.parametrize("control", get_args(ControlName))
def test_control_is_as_configured_unless_it_is_replaced(
    env_spec: EnvSpec, tiny_config: Callable[..., Config], control: ControlName
) -> None:
    agent = Agent(env_spec, tiny_config(planner={"control": control}), torch.device("cpu"))
    assert type(Controller(agent, 1, torch.Generator()).planner) is PLANNERS[control]
    replaced = Controller(agent, 1, torch.Generator(), control="cem")
    assert type(replaced.planner) is PLANNERS["cem"]


@pytest.mark.parametrize("temperature", [0.05, 0.5, 3.0])
def test_temperature_of_mppi_is_in_units_of_the_spread_of_returns(temperature: float) -> None:
    rng = np.random.default_rng(0)
    offsets, returns = rng.normal(size=(2, 6, 3, 1)), 40 * rng.normal(size=(2, 6))
    options = PlannerOptions(temperature=temperature, min_std=1e-6, max_std=9.0)
    found = MPPI(options).fit(torch.from_numpy(offsets), torch.from_numpy(returns))
    for env in range(2):
        scores = returns[env] / (temperature * np.std(returns[env], ddof=1))
        weights = np.exp(scores - scores.max())
        weights /= weights.sum()
        mean = sum(weight * each for weight, each in zip(weights, offsets[env], strict=True))
        variance = sum(w * (each - mean) ** 2 for w, each in zip(weights, offsets[env], strict=True))
        np.testing.assert_allclose(found[0][env], mean, rtol=1e-5)
        np.testing.assert_allclose(found[1][env], np.maximum(np.sqrt(variance), 1e-6), rtol=1e-5)
