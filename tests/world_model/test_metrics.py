"""Metrics against loops written from their papers."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from world_model.metrics import alignment, rank_me, retrieval_accuracy, uniformity


def draw(rows: int, width: int, seed: int) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit(rows: Tensor) -> np.ndarray:
    array = rows.numpy()
    return array / np.sqrt((array**2).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("alpha", [1, 2, 3])
def test_alignment_is_a_mean_of_distances(alpha: int) -> None:
    x, y = draw(6, 4, 0), draw(6, 4, 1)
    distances = [math.dist(a, b) ** alpha for a, b in zip(unit(x), unit(y), strict=True)]
    assert alignment(x, y, alpha).item() == pytest.approx(sum(distances) / 6, rel=1e-12)
    assert alignment(x, 7 * x).item() == pytest.approx(0, abs=1e-20)
    assert alignment(x, -x).item() == pytest.approx(4)


@pytest.mark.parametrize("t", [1, 2])
def test_uniformity_is_the_logarithm_of_a_mean_over_pairs(t: int) -> None:
    x = draw(6, 4, 0)
    rows = unit(x)
    pairs = [math.exp(-t * math.dist(rows[i], rows[j]) ** 2) for i in range(6) for j in range(i)]
    assert uniformity(x, t).item() == pytest.approx(math.log(sum(pairs) / len(pairs)), rel=1e-12)
    assert uniformity(torch.ones(5, 3)).item() == pytest.approx(0, abs=1e-6)
    assert uniformity(torch.tensor([[1.0, 0], [-3, 0]])).item() == pytest.approx(-8)


def test_rank_me_counts_dimensions() -> None:
    x = draw(9, 4, 0)
    sigma = np.linalg.svd(x.numpy(), compute_uv=False)
    p = sigma / sigma.sum() + 1e-7
    assert rank_me(x).item() == pytest.approx(math.exp(-sum(q * math.log(q) for q in p)), rel=1e-10)
    assert rank_me(torch.eye(8)).item() == pytest.approx(8, rel=1e-4)
    assert rank_me(5 * torch.eye(8)[:, :3]).item() == pytest.approx(3, rel=1e-4)
    assert rank_me(torch.ones(8, 4)).item() == pytest.approx(1, rel=1e-3)
    assert rank_me(torch.ones(8, 4) + 1e-3 * draw(8, 4, 1).float()).item() < 1.1  # not centred
    assert rank_me(torch.zeros(8, 4)).isfinite()
    for value in (math.nan, math.inf):
        assert rank_me(torch.eye(8).fill_diagonal_(value)).isnan()


def test_retrieval_counts_rows_that_find_their_own_key() -> None:
    basis = torch.eye(4)
    assert retrieval_accuracy(basis, 3 * basis).item() == 1
    assert retrieval_accuracy(basis, basis.roll(1, 0)).item() == 0
    assert retrieval_accuracy(basis, basis[[0, 1, 3, 2]]).item() == 0.5
    x, y = draw(40, 3, 0), draw(40, 3, 1)
    cosine = unit(x) @ unit(y).T
    hits = [cosine[i, i] > max(cosine[i, j] for j in range(40) if j != i) for i in range(40)]
    assert (
        retrieval_accuracy(x, x + y).item() > retrieval_accuracy(x, y).item() == pytest.approx(np.mean(hits))
    )


def test_ties_are_misses() -> None:
    """A collapsed encoder scores 0, however its equal cosines are rounded."""
    row = draw(1, 37, 0).float()
    assert retrieval_accuracy(row.expand(64, -1), row.expand(64, -1)).item() == 0
    assert retrieval_accuracy(torch.eye(3), torch.eye(3)[[0, 1, 1]]).item() == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    "metric", [lambda x: alignment(x, x), uniformity, rank_me, lambda x: retrieval_accuracy(x, x)]
)
def test_one_number_in_float32_or_wider(metric: Callable[[Tensor], Tensor]) -> None:
    x = draw(8, 3, 0)
    for dtype, expected in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
        value = metric(x.to(dtype))
        assert (value.shape, value.dtype) == ((), expected)


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=r"x and y of one shape .* \(4, 3\) and \(5, 3\)"):
        alignment(torch.ones(4, 3), torch.ones(5, 3))
    with pytest.raises(ValueError, match=r"query and key of one shape .* \(4, 3\) and \(4, 2\)"):
        retrieval_accuracy(torch.ones(4, 3), torch.ones(4, 2))
    with pytest.raises(ValueError, match=r"B >= 2, found \(1, 3\)"):
        uniformity(torch.ones(1, 3))
    with pytest.raises(ValueError, match=r"\(B, P\).*\(3,\)"):
        rank_me(torch.ones(3))
