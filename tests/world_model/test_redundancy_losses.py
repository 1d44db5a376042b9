"""Barlow Twins and VICReg against loops from their papers' formulas."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from world_model.losses import barlow_twins, vicreg

B, P = 8, 5


def draw(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def barlow_oracle(x: np.ndarray, y: np.ndarray, off_diagonal: float) -> float:
    def standard(column: np.ndarray) -> np.ndarray:
        mean = sum(column) / len(column)
        variance = sum((value - mean) ** 2 for value in column) / len(column)
        return np.array([(value - mean) / math.sqrt(variance + 1e-5) for value in column])

    total = 0.0
    for i in range(x.shape[1]):
        for j in range(y.shape[1]):
            a, b = standard(x[:, i]), standard(y[:, j])
            correlation = sum(p * q for p, q in zip(a, b, strict=True)) / len(a)
            total += (1 - correlation) ** 2 if i == j else off_diagonal * correlation**2
    return total


def vicreg_oracle(
    x: np.ndarray, y: np.ndarray, similarity: float, variance: float, covariance: float
) -> float:
    rows, width = x.shape
    invariance = sum((x[b, j] - y[b, j]) ** 2 for b in range(rows) for j in range(width)) / (rows * width)
    spread = redundant = 0.0
    for view in (x, y):
        mean = [sum(view[:, j]) / rows for j in range(width)]
        for i in range(width):
            for j in range(width):
                products = [(view[b, i] - mean[i]) * (view[b, j] - mean[j]) for b in range(rows)]
                cov = sum(products) / (rows - 1)
                if i == j:
                    spread += max(0.0, 1 - math.sqrt(cov + 1e-4)) / width
                else:
                    redundant += cov**2 / width
    return similarity * invariance + variance * spread / 2 + covariance * redundant


@pytest.mark.parametrize("off_diagonal", [5e-3, 0.0, 0.7])
def test_barlow_twins_equals_loops(off_diagonal: float) -> None:
    x, y = draw(B, P, seed=1), draw(B, P, seed=2)
    found = barlow_twins(x, y, off_diagonal=off_diagonal)
    assert found.ndim == 0
    np.testing.assert_allclose(float(found), barlow_oracle(x.numpy(), y.numpy(), off_diagonal), rtol=1e-10)


@pytest.mark.parametrize("weights", [(25.0, 25.0, 1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)])
def test_vicreg_equals_loops(weights: tuple[float, float, float]) -> None:
    x, y = 0.8 * draw(B, P, seed=1), 0.8 * draw(B, P, seed=2)  # some deviations below one, some above
    similarity, variance, covariance = weights
    found = vicreg(x, y, similarity=similarity, variance=variance, covariance=covariance)
    assert found.ndim == 0
    np.testing.assert_allclose(float(found), vicreg_oracle(x.numpy(), y.numpy(), *weights), rtol=1e-10)


def test_barlow_twins_knows_no_scale_and_no_offset() -> None:
    x, y = draw(B, P, seed=1), draw(B, P, seed=2)
    loss = barlow_twins(x, y)
    scale = torch.tensor([2.0, 5.0, 3.0, 4.0, 9.0])
    torch.testing.assert_close(barlow_twins(scale * x + 4, y - 1), loss, rtol=1e-4, atol=0)
    torch.testing.assert_close(barlow_twins(y, x), loss)


def test_barlow_twins_is_zero_where_features_agree_and_differ_from_one_another() -> None:
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]).double()
    assert float(barlow_twins(signs, signs)) < 1e-8
    redundant = signs[:, :1].expand(-1, 2)
    assert float(barlow_twins(redundant, redundant, off_diagonal=0.5)) == pytest.approx(1.0, rel=1e-4)


def test_collapsed_features_cost() -> None:
    same = torch.ones(B, P).double()
    assert float(barlow_twins(same, same)) == pytest.approx(P)
    assert float(vicreg(same, same)) == pytest.approx(25 * (1 - 0.01))


def test_collapsed_features_have_finite_gradients() -> None:
    for loss in (barlow_twins, vicreg):
        x = torch.ones(B, P, requires_grad=True)
        loss(x, x.detach().clone()).backward()
        assert x.grad is not None and x.grad.isfinite().all()


@pytest.mark.parametrize("loss", [barlow_twins, vicreg])
def test_gradients_are_those_of_the_values(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    inputs = [draw(5, 3, seed=seed).requires_grad_() for seed in (1, 2)]
    assert torch.autograd.gradcheck(loss, inputs)


@pytest.mark.parametrize("loss", [barlow_twins, vicreg])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_precision(loss: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype) -> None:
    x, y = draw(B, P, seed=1, dtype=dtype), draw(B, P, seed=2, dtype=dtype)
    plain = loss(x, y)
    assert plain.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(loss(x, y), plain)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: barlow_twins(x, x[:-1]), r"x and y of one shape .* \(8, 5\) and \(7, 5\)"),
        (lambda x: barlow_twins(x, x, off_diagonal=-1.0), "off_diagonal >= 0, found -1.0"),
        (lambda x: vicreg(x, x[:, :2]), "x and y of one shape"),
        (lambda x: vicreg(x[:1], x[:1]), "B >= 2, found 1"),
    ],
)
def test_mistakes_are_named(call: Callable[[Tensor], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(torch.ones(B, P))
