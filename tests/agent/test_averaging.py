from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from agent.averaging import SteadyAverage


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))


def move(network: nn.Module) -> None:
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter))


def test_window_grows_with_training_up_to_its_limit(network: nn.Module) -> None:
    steady = SteadyAverage({"a": network}, tau=0.05)
    expected = [parameter.detach().clone() for parameter in network.parameters()]
    for update in range(600):
        move(network)
        steady.follow()
        step = max(0.05, 1 / (1 + 0.08 * update))
        expected = [e + step * (p.detach() - e) for e, p in zip(expected, network.parameters(), strict=True)]
        if update == 0:
            torch.testing.assert_close(list(steady.averages.parameters()), list(network.parameters()))
    torch.testing.assert_close([p.data for p in steady.averages.parameters()], expected)


def test_step_of_one_is_no_average(network: nn.Module) -> None:
    steady = SteadyAverage({"a": network}, tau=1.0)
    for _ in range(50):
        move(network)
        steady.follow()
    for average, parameter in zip(steady.averages.parameters(), network.parameters(), strict=True):
        assert torch.equal(average, parameter)


def test_acting_by_the_averages_leaves_both_as_they_were(network: nn.Module) -> None:
    steady = SteadyAverage({"a": network}, tau=0.05)
    move(network)
    online, slow = (copy.deepcopy(module.state_dict()) for module in (network, steady.averages["a"]))
    with pytest.raises(KeyboardInterrupt), steady.acting():
        torch.testing.assert_close(dict(network.state_dict()), dict(slow), rtol=0, atol=0)
        raise KeyboardInterrupt
    torch.testing.assert_close(dict(network.state_dict()), dict(online), rtol=0, atol=0)
    torch.testing.assert_close(dict(steady.averages["a"].state_dict()), dict(slow), rtol=0, atol=0)


def test_goes_on_from_its_state(network: nn.Module) -> None:
    steady = SteadyAverage({"a": network}, tau=0.001)
    for _ in range(30):
        move(network)
        steady.follow()
    other = SteadyAverage({"a": network}, tau=0.001)
    other.load_state_dict(copy.deepcopy(steady.state_dict()))
    move(network)
    for average in (steady, other):
        average.follow()
    torch.testing.assert_close(dict(other.state_dict()), dict(steady.state_dict()), rtol=0, atol=0)
