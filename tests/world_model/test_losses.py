"""InfoNCE against loops written from van den Oord et al. 2018, eq. 4, and DESIGN's definitions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from world_model.losses import info_nce

B, P, K = 7, 5, 4


def oracle(
    query: np.ndarray,
    key: np.ndarray,
    temperature: float,
    similarity: str,
    weight: np.ndarray | None = None,
    negatives: np.ndarray | None = None,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    def score(q: np.ndarray, k: np.ndarray) -> float:
        if similarity == "cosine":
            return float(np.dot(q, k) / (math.sqrt(np.dot(q, q)) * math.sqrt(np.dot(k, k))))
        if similarity == "dot":
            return float(np.dot(q, k))
        assert weight is not None
        return float(sum(q[a] * weight[a, b] * k[b] for a in range(len(q)) for b in range(len(k))))

    losses = []
    for i in range(len(query)):
        total = 0.0
        for j in range(len(key)):
            if mask is None or not mask[i, j]:
                total += math.exp(score(query[i], key[j]) / temperature)
        for negative in [] if negatives is None else negatives:
            total += math.exp(score(query[i], negative) / temperature)
        losses.append(math.log(total) - score(query[i], key[i]) / temperature)
    return np.array(losses)


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def inputs() -> tuple[Tensor, Tensor]:
    return draw(B, P, seed=1), draw(B, P, seed=2)


def some_mask() -> Tensor:
    mask = torch.rand(B, B, generator=torch.Generator().manual_seed(3)) < 0.4
    return mask.fill_diagonal_(False)


@pytest.mark.parametrize("tile", [None, 1, 3, B, 100])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("with_negatives", [False, True])
@pytest.mark.parametrize("similarity", ["cosine", "dot", "bilinear"])
def test_equals_loops(similarity: Any, with_negatives: bool, masked: bool, tile: int | None) -> None:
    query, key = inputs()
    weight = draw(P, P, seed=4) if similarity == "bilinear" else None
    negatives = draw(K, P, seed=5) if with_negatives else None
    mask = some_mask() if masked else None
    found = info_nce(
        query,
        key,
        temperature=0.7,
        similarity=similarity,
        weight=weight,
        negatives=negatives,
        mask=mask,
        tile=tile,
    )
    arrays = [None if value is None else value.numpy() for value in (weight, negatives, mask)]
    expected = oracle(query.numpy(), key.numpy(), 0.7, similarity, *arrays)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_tiles_have_the_same_gradients(similarity: Any) -> None:
    gradients = []
    for tile in (None, 2):
        leaves = [tensor.clone().requires_grad_() for tensor in (*inputs(), draw(K, P, seed=5))]
        query, key, negatives = leaves
        loss = info_nce(query, key, similarity=similarity, negatives=negatives, mask=some_mask(), tile=tile)
        gradients.append(torch.autograd.grad((loss * torch.arange(1, B + 1)).sum(), leaves))
    for plain, tiled in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, tiled, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("tile", [None, 1, 3])
def test_what_a_row_leaves_out_is_in_no_sum(tile: int | None) -> None:
    """Of keys and of negatives; what is said of its own key is not listened to."""
    left_out = torch.rand(B, B + K, generator=torch.Generator().manual_seed(6)) < 0.4
    left_out[2] = True
    query, key = inputs()
    negatives = draw(K, P, seed=5)
    found = info_nce(
        query,
        key,
        negatives=negatives,
        leave_out=lambda rows: left_out[rows].clone(),
        mask=some_mask(),
        tile=tile,
    )
    expected = []
    for i in range(B):
        mask = (some_mask() | left_out[:, :B]).fill_diagonal_(False).numpy()
        kept = negatives[~left_out[i, B:]].numpy()
        expected.append(oracle(query.numpy(), key.numpy(), 0.1, "cosine", negatives=kept, mask=mask)[i])
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10, atol=1e-13)
    assert found[2] == 0


def test_gradients_are_those_of_the_values() -> None:
    weight = draw(P, P, seed=4)
    leaves = [tensor.requires_grad_() for tensor in (*inputs(), weight)]
    assert torch.autograd.gradcheck(
        lambda q, k, w: info_nce(q, k, similarity="bilinear", weight=w, mask=some_mask()), leaves
    )
    assert torch.autograd.gradcheck(lambda q, k: info_nce(q, k, mask=some_mask()), leaves[:2])


def test_closed_forms() -> None:
    same = torch.ones(B, P, dtype=torch.float64)
    torch.testing.assert_close(info_nce(same, same), torch.full((B,), math.log(B), dtype=torch.float64))
    basis = torch.eye(P, dtype=torch.float64)
    expected = math.log(math.exp(2.0) + P - 1) - 2.0
    torch.testing.assert_close(
        info_nce(basis, 3 * basis, temperature=0.5), torch.full((P,), expected, dtype=torch.float64)
    )
    alone = ~torch.eye(B, dtype=torch.bool)  # only the positive is left
    torch.testing.assert_close(info_nce(*inputs(), mask=alone), torch.zeros(B, dtype=torch.float64))


def test_properties() -> None:
    query, key = inputs()
    loss = info_nce(query, key)
    order = torch.tensor([3, 1, 6, 0, 2, 5, 4])
    torch.testing.assert_close(info_nce(query[order], key[order]), loss[order])
    scales = torch.linspace(0.1, 9, B, dtype=torch.float64)[:, None]
    torch.testing.assert_close(info_nce(scales * query, scales.flip(0) * key), loss)
    more = info_nce(query, key, negatives=draw(K, P, seed=5))
    assert (more > loss).all()
    fewer = info_nce(query, key, mask=some_mask())
    assert ((fewer < loss) == some_mask().any(dim=1)).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    query, key = (tensor.to(dtype) for tensor in inputs())
    loss = info_nce(query, key)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, info_nce(query.float(), key.float()), rtol=0, atol=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(info_nce(query.float(), key.float()), loss, rtol=0, atol=0)


def test_inputs_stay_as_they_are() -> None:
    query, key = inputs()
    mask = some_mask()
    before = query.clone(), key.clone(), mask.clone()
    info_nce(query, key, mask=mask)
    assert all(torch.equal(old, new) for old, new in zip(before, (query, key, mask), strict=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"key": torch.zeros(B + 1, P)}, r"\(7, 5\) and \(8, 5\)"),
        ({"query": torch.zeros(B), "key": torch.zeros(B)}, r"\(B, P\)"),
        ({"temperature": 0.0}, "temperature > 0, found 0"),
        ({"temperature": math.nan}, "temperature > 0, found nan"),
        ({"similarity": "euclidean"}, "euclidean"),
        ({"similarity": "bilinear"}, "no weight"),
        ({"weight": torch.zeros(P, P)}, r"a weight \(5, 5\) with 'cosine'"),
        ({"similarity": "bilinear", "weight": torch.zeros(P, P + 1)}, r"found \(5, 6\)"),
        ({"negatives": torch.zeros(K, P + 1)}, r"\(K, 5\), found \(4, 6\)"),
        ({"mask": torch.zeros(B, B - 1, dtype=torch.bool)}, r"\(7, 7\).*\(7, 6\)"),
        ({"mask": torch.zeros(B, B)}, "torch.float32"),
        ({"mask": torch.eye(B, dtype=torch.bool)}, "diagonal"),
        ({"tile": 0}, "tile >= 1, found 0"),
    ],
)
def test_mistakes_are_named(changes: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"query": torch.zeros(B, P), "key": torch.zeros(B, P)} | changes
    with pytest.raises(ValueError, match=message):
        info_nce(**arguments)
