"""NT-Xent, multi-positive InfoNCE, BYOL, margin and triplet against loops from their papers' formulas."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from world_model.losses import byol, info_nce, margin_contrastive, multi_positive_info_nce, nt_xent, triplet

B, K, P = 6, 9, 5


def draw(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.dot(a, b) / math.sqrt(np.dot(a, a) * np.dot(b, b)))


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return math.sqrt(sum((float(p) - float(q)) ** 2 for p, q in zip(a, b, strict=True)))


# NT-Xent.


@pytest.mark.parametrize("tile", [None, 1, 5, 2 * B, 100])
@pytest.mark.parametrize("decoupled", [False, True])
def test_nt_xent_equals_loops(decoupled: bool, tile: int | None) -> None:
    first, second = draw(B, P, seed=1), draw(B, P, seed=2)
    views = [*first.numpy(), *second.numpy()]
    expected = []
    for i, view in enumerate(views):
        partner = i + B if i < B else i - B
        others = [j for j in range(2 * B) if j != i and not (decoupled and j == partner)]
        total = sum(math.exp(cosine(view, views[j]) / 0.3) for j in others)
        expected.append(-math.log(math.exp(cosine(view, views[partner]) / 0.3) / total))
    found = nt_xent(first, second, temperature=0.3, decoupled=decoupled, tile=tile)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize("decoupled", [False, True])
def test_nt_xent_in_tiles_has_the_same_gradients(decoupled: bool) -> None:
    gradients = []
    for tile in (None, 5):
        views = [draw(B, P, seed=seed).requires_grad_() for seed in (1, 2)]
        loss = nt_xent(*views, decoupled=decoupled, tile=tile)
        gradients.append(torch.autograd.grad((loss * draw(2 * B, seed=3)).sum(), views))
    for plain, tiled in zip(*gradients, strict=True):
        torch.testing.assert_close(tiled, plain, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("tile", [None, 1, 5])
@pytest.mark.parametrize("decoupled", [False, True])
def test_nt_xent_leaves_out_what_it_is_told_to(decoupled: bool, tile: int | None) -> None:
    """Row 2 leaves out all others, row 3 its own positive: which is not listened to."""
    left_out = torch.rand(2 * B, 2 * B, generator=torch.Generator().manual_seed(4)) < 0.3
    left_out[2], left_out[3, 3 + B] = True, True
    views = [draw(B, P, seed=seed).requires_grad_() for seed in (1, 2)]
    arrays = [*views[0].detach().numpy(), *views[1].detach().numpy()]
    expected = []
    for i in range(2 * B):
        partner = i + B if i < B else i - B
        kept = [j for j in range(2 * B) if j not in (i, partner) and not left_out[i, j]]
        summed = kept if decoupled and kept else [*kept, partner]
        total = sum(math.exp(cosine(arrays[i], arrays[j]) / 0.3) for j in summed)
        expected.append(math.log(total) - cosine(arrays[i], arrays[partner]) / 0.3)
    found = nt_xent(
        *views, temperature=0.3, decoupled=decoupled, leave_out=lambda rows: left_out[rows].clone(), tile=tile
    )
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-10, atol=1e-14)
    assert found[2].item() == pytest.approx(0)
    gradients = torch.autograd.grad(found[2], views)
    assert all(gradient.abs().max() < 1e-12 for gradient in gradients), "and it is no infinity"


@pytest.mark.parametrize("tile", [None, 5])
def test_nt_xent_keeps_the_digits_of_small_losses(tile: int | None) -> None:
    """As precise as log(1 + x) is in float32; a difference of two logits of about 50 is 10 times less so."""
    views = [torch.eye(50).double() + 0.15 * draw(50, 50, seed=seed) for seed in (1, 2)]
    exact = nt_xent(*views, temperature=0.01)
    single = nt_xent(*(view.float() for view in views), temperature=0.01, tile=tile)
    torch.testing.assert_close(single.double(), exact, rtol=3e-5, atol=3e-7)


def test_keys_that_need_no_gradient_get_none_in_tiles() -> None:
    query, key = draw(B, P, seed=1).requires_grad_(), draw(B, P, seed=2)
    gradients = [torch.autograd.grad(info_nce(query, key, tile=tile).sum(), query)[0] for tile in (None, 2)]
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-10, atol=1e-14)


def test_nt_xent_of_views_that_are_all_alike_is_chance() -> None:
    same = torch.ones(B, P)
    torch.testing.assert_close(nt_xent(same, same), torch.full((2 * B,), math.log(2 * B - 1)))
    torch.testing.assert_close(nt_xent(same, same, decoupled=True), torch.full((2 * B,), math.log(2 * B - 2)))


def test_nt_xent_knows_no_order_of_views_and_no_lengths() -> None:
    first, second = draw(B, P, seed=1), draw(B, P, seed=2)
    loss = nt_xent(first, second)
    torch.testing.assert_close(nt_xent(second, first), loss.roll(B))
    torch.testing.assert_close(nt_xent(7 * first, second / 3), loss)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    torch.testing.assert_close(nt_xent(first[order], second[order])[:B], loss[:B][order])


def test_nt_xent_of_one_pair_is_zero_and_cannot_be_decoupled() -> None:
    torch.testing.assert_close(nt_xent(draw(1, P, seed=1), draw(1, P, seed=2)), torch.zeros(2).double())
    with pytest.raises(ValueError, match="B >= 2 with decoupled"):
        nt_xent(draw(1, P, seed=1), draw(1, P, seed=2), decoupled=True)


# Multi-positive InfoNCE.


def multi_positive_oracle(
    query: np.ndarray, key: np.ndarray, positive: np.ndarray, ignore: np.ndarray | None, temperature: float
) -> list[float]:
    losses = []
    for i in range(len(query)):
        seen = [j for j in range(len(key)) if ignore is None or not ignore[i, j]]
        total = math.log(sum(math.exp(cosine(query[i], key[j]) / temperature) for j in seen) or 1.0)
        terms = [
            total - cosine(query[i], key[j]) / temperature for j in range(len(key)) if bool(positive[i, j])
        ]
        losses.append(sum(terms) / len(terms) if terms else 0.0)
    return losses


def some_sets() -> tuple[Tensor, Tensor]:
    """Positives and ignored keys that exclude one another; row 0 has no positive, row 1 ignores the rest."""
    kinds = torch.randint(3, (B, K), generator=torch.Generator().manual_seed(5))
    kinds[0][kinds[0] == 1] = 0
    kinds[1] = 2
    kinds[1, 3] = 1
    kinds[2] = 2
    return kinds == 1, kinds == 2


@pytest.mark.parametrize("ignoring", [False, True])
def test_multi_positive_equals_loops(ignoring: bool) -> None:
    query, key = draw(B, P, seed=1), draw(K, P, seed=2)
    positive, ignore = some_sets()
    found = multi_positive_info_nce(
        query, key, positive, temperature=0.4, ignore=ignore if ignoring else None
    )
    arrays = (positive.numpy(), ignore.numpy() if ignoring else None)
    expected = multi_positive_oracle(query.numpy(), key.numpy(), *arrays, 0.4)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10, atol=1e-14)
    assert found[0] == 0


def test_multi_positive_with_one_positive_a_row_is_info_nce() -> None:
    from world_model.losses import info_nce

    query, key = draw(B, P, seed=1), draw(B, P, seed=2)
    found = multi_positive_info_nce(query, key, torch.eye(B, dtype=torch.bool))
    torch.testing.assert_close(found, info_nce(query, key))


def test_a_row_without_positives_gets_no_gradient() -> None:
    query, key = draw(B, P, seed=1).requires_grad_(), draw(K, P, seed=2)
    positive, ignore = some_sets()
    multi_positive_info_nce(query, key, positive, ignore=ignore).sum().backward()
    assert query.grad is not None and query.grad.isfinite().all()
    lonely = ~positive.any(dim=1)
    assert lonely.tolist() == [True, False, True, False, False, False]
    assert (query.grad[lonely] == 0).all() and (query.grad[3:] != 0).any(dim=1).all()


def test_ignored_keys_do_not_matter() -> None:
    query, key = draw(B, P, seed=1), draw(K, P, seed=2)
    positive = torch.zeros(B, K, dtype=torch.bool)
    positive[:, 0] = True
    ignore = torch.zeros_like(positive)
    ignore[:, 4] = True
    loss = multi_positive_info_nce(query, key, positive, ignore=ignore)
    other = key.clone()
    other[4] = query[0]
    torch.testing.assert_close(multi_positive_info_nce(query, other, positive, ignore=ignore), loss)
    assert (multi_positive_info_nce(query, other, positive) != loss).any()


# BYOL, margin, triplet.


def test_byol_equals_loops_and_its_bounds() -> None:
    x, y = draw(B, P, seed=1), draw(B, P, seed=2)
    expected = [2 - 2 * cosine(a, b) for a, b in zip(x.numpy(), y.numpy(), strict=True)]
    np.testing.assert_allclose(byol(x, y).numpy(), expected, rtol=1e-10)
    torch.testing.assert_close(byol(x, 5 * x), torch.zeros(B).double())
    torch.testing.assert_close(byol(x, -x), torch.full((B,), 4.0).double())


def test_margin_equals_loops() -> None:
    x, y = draw(B, P, seed=1), draw(B, P, seed=2)
    is_negative = torch.tensor([True, False, True, False, True, False])
    expected = []
    for a, b, negative in zip(x.numpy(), y.numpy(), is_negative.tolist(), strict=True):
        d = distance(a, b)
        expected.append(max(0.0, 3.0 - d) ** 2 if negative else d**2)
    found = margin_contrastive(x, y, is_negative, margin=3.0)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10)
    assert (margin_contrastive(x, y, is_negative, margin=1e-3)[is_negative] == 0).all()


def test_triplet_equals_loops() -> None:
    anchor, positive, negative = draw(B, P, seed=1), draw(B, P, seed=2), draw(B, P, seed=3)
    triples = zip(anchor.numpy(), positive.numpy(), negative.numpy(), strict=True)
    expected = [max(0.0, distance(a, p) - distance(a, n) + 0.5) for a, p, n in triples]
    found = triplet(anchor, positive, negative, margin=0.5)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10)
    assert 0 < (found == 0).sum() < B, "both sides of the hinge are to be seen"


@pytest.mark.parametrize("is_negative", [True, False])
def test_no_distance_has_no_gradient(is_negative: bool) -> None:
    x = draw(2, P, seed=1).requires_grad_()
    margin_contrastive(x, x.detach().clone(), torch.full((2,), is_negative)).sum().backward()
    assert x.grad is not None and (x.grad == 0).all()


def test_an_anchor_on_its_positive_has_a_finite_gradient() -> None:
    x = draw(2, P, seed=1).requires_grad_()
    triplet(x, x.detach().clone(), x.detach() + 0.1).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all() and x.grad.any()


@pytest.mark.parametrize(
    "loss",
    [
        lambda x, y: nt_xent(x, y),
        lambda x, y: nt_xent(x, y, decoupled=True),
        lambda x, y: nt_xent(x, y, tile=2),
        lambda x, y: multi_positive_info_nce(x, y, torch.ones(3, 3, dtype=torch.bool).triu()),
        lambda x, y: byol(x, y),
        lambda x, y: margin_contrastive(x, y, torch.tensor([True, False, True]), margin=9.0),
        lambda x, y: triplet(x, y, y.flip(0), margin=9.0),
    ],
)
def test_gradients_are_those_of_the_values(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    inputs = [draw(3, 4, seed=seed).requires_grad_() for seed in (1, 2)]
    assert torch.autograd.gradcheck(loss, inputs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_precision(dtype: torch.dtype) -> None:
    x, y = draw(B, P, seed=1, dtype=dtype), draw(B, P, seed=2, dtype=dtype)
    eye = torch.eye(B, dtype=torch.bool)
    expected = torch.float64 if dtype == torch.float64 else torch.float32
    losses = [
        nt_xent(x, y),
        multi_positive_info_nce(x, y, eye),
        byol(x, y),
        margin_contrastive(x, y, eye[0]),
        triplet(x, y, y.flip(0)),
    ]
    for loss in losses:
        assert loss.dtype == expected
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(nt_xent(x, y), losses[0])
        torch.testing.assert_close(multi_positive_info_nce(x, y, eye), losses[1])
        torch.testing.assert_close(byol(x, y), losses[2])


X, Y, EYE = torch.ones(B, P), torch.ones(B, P), torch.eye(B, dtype=torch.bool)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nt_xent(X, Y[:-1]), r"view_1 and view_2 of one shape .*\(6, 5\) and \(5, 5\)"),
        (lambda: nt_xent(X, Y, temperature=0.0), "temperature > 0, found 0.0"),
        (lambda: nt_xent(X, Y, tile=0), "tile >= 1, found 0"),
        (lambda: nt_xent(X[:0], Y[:0]), "B >= 1"),
        (lambda: multi_positive_info_nce(X, Y[:, :3], EYE), r"found \(6, 5\) and \(6, 3\)"),
        (
            lambda: multi_positive_info_nce(X, Y, EYE[:, :3]),
            r"positive \(6, 6\) of torch.bool, found \(6, 3\)",
        ),
        (lambda: multi_positive_info_nce(X, Y, EYE.float()), "torch.float32"),
        (lambda: multi_positive_info_nce(X, Y, EYE, ignore=EYE[0]), r"ignore \(6, 6\) of torch.bool"),
        (lambda: multi_positive_info_nce(X, Y, EYE, ignore=EYE), r"both positive and ignored.*\[0, 1"),
        (lambda: multi_positive_info_nce(X, Y, EYE, temperature=-1), "temperature > 0, found -1"),
        (lambda: byol(X, Y[:, :2]), "prediction and target of one shape"),
        (lambda: margin_contrastive(X, Y, EYE), r"is_negative \(6,\) of torch.bool, found \(6, 6\)"),
        (lambda: margin_contrastive(X, Y, EYE[0], margin=0.0), "margin > 0, found 0.0"),
        (lambda: margin_contrastive(X, Y[0], EYE[0]), "x and y of one shape"),
        (lambda: triplet(X, Y, Y[:-1]), "anchor and negative of one shape"),
        (lambda: triplet(X, Y[:-1], Y), "anchor and positive of one shape"),
        (lambda: triplet(X, Y, Y, margin=float("nan")), "margin > 0, found nan"),
    ],
)
def test_mistakes_are_named(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
