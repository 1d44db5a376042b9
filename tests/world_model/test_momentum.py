from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from world_model.momentum import ema_update


def pair() -> tuple[nn.Module, nn.Module]:
    target = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    online = copy.deepcopy(target)
    with torch.no_grad():
        for tensor in (*online.parameters(), *online.buffers()):
            tensor.add_(3)
    return target, online


@pytest.mark.parametrize("tau", [0.0, 0.25, 1.0])
def test_moves_parameters_and_floating_buffers(tau: float) -> None:
    target, online = pair()
    before, goal = copy.deepcopy(target).state_dict(), copy.deepcopy(online).state_dict()
    assert ema_update(target, online, tau) is None
    for name, tensor in target.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, (1 - tau) * before[name] + tau * goal[name])
        else:
            assert torch.equal(tensor, goal[name]), f"{name} is an integer: copied"
    assert all(torch.equal(tensor, goal[name]) for name, tensor in online.state_dict().items())


def test_in_place_and_without_gradient() -> None:
    target, online = pair()
    tensors = [id(parameter) for parameter in target.parameters()]
    versions = [parameter._version for parameter in target.parameters()]
    ema_update(target, online, 0.5)
    assert [id(parameter) for parameter in target.parameters()] == tensors
    assert [parameter._version for parameter in target.parameters()] != versions
    assert all(parameter.grad is None and parameter.is_leaf for parameter in target.parameters())
    sum(parameter.sum() for parameter in target.parameters()).backward()  # type: ignore[union-attr]
    assert all(parameter.grad is None for parameter in online.parameters())


@pytest.mark.parametrize(
    ("online", "message"),
    [
        (nn.Sequential(nn.Linear(3, 4)), "only in target"),
        (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(1, 1)), "only in online"),
        (nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5)), r"\(4, 3\).*\(5, 3\)"),
        (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double(), "float64"),
    ],
)
def test_modules_that_differ_change_nothing(online: nn.Module, message: str) -> None:
    target, _ = pair()
    before = copy.deepcopy(target).state_dict()
    with pytest.raises(ValueError, match=message):
        ema_update(target, online, 0.5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items())


@pytest.mark.parametrize("tau", [-0.1, 1.1, float("nan")])
def test_tau_is_a_share(tau: float) -> None:
    with pytest.raises(ValueError, match=r"tau in \[0, 1\]"):
        ema_update(*pair(), tau)
