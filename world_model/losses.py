"""Losses of representations: pure functions of tensors, one value per row unless they say otherwise.

Nothing is detached inside. float32 and float64 are computed as they come; lower precisions, and anything
under autocast, in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from world_model.checks import check_info_nce, check_multi_positive, check_pair, check_scale, check_tile
from world_model.tiles import tiled_cross_entropy

Similarity = Literal["cosine", "dot", "bilinear"]
LeaveOut = Callable[[slice], Tensor]
"""Keys that some rows leave out of their denominators, slice of n rows -> bool (n, keys), newly made."""


def info_nce(
    query: Tensor,
    key: Tensor,
    *,
    temperature: float = 0.1,
    similarity: Similarity = "cosine",
    weight: Tensor | None = None,
    negatives: Tensor | None = None,
    mask: Tensor | None = None,
    leave_out: LeaveOut | None = None,
    tile: int | None = None,
) -> Tensor:
    """Score each query against all keys; row i's positive is key i.

    loss_i = logsumexp(row i's unmasked logits and negatives) - logit_ii

    Args:
        query: projections, (B, P).
        key: projections, (B, P); the caller detaches.
        temperature: divides the logits of every similarity, > 0 (CURL: 1).
        similarity: `cosine` (rows L2-normalised here), `dot`, or `bilinear` (query @ weight @ key.T).
        weight: bilinear form, (P, P); with `bilinear` only.
        negatives: further keys for every row, (K, P), scored in the same way and never masked.
        mask: bool (B, B), True leaves that key out of that row's denominator.
        leave_out: the same for keys and negatives, (n, B + K), a few rows at a time; what it says of a row's
            positive is not looked at.
        tile: rows scored at a time. Logits are then recomputed in the backward pass: same values and
            gradients, memory linear in B, differentiable once.

    Returns:
        Loss per row in nats, (B,). Chance level is log(B).

    Raises:
        ValueError: shapes do not fit, temperature or tile is not positive, `weight` is missing or
            superfluous, the similarity is unknown, or the mask hides a positive. (The last is not
            looked at while a CUDA graph is captured or the code compiled: it would need the value.)

    Source: van den Oord et al. 2018, arXiv:1807.03748, eq. 4; bilinear: CURL, arXiv:2004.04136.
    """
    check_info_nce(query, key, temperature, similarity, weight, negatives, mask, tile)
    keys = key if negatives is None else torch.cat(at_least_float32(key, negatives))
    with torch.autocast(query.device.type, enabled=False):
        if weight is None:
            query, keys = at_least_float32(query, keys)
        else:
            query, keys, weight = at_least_float32(query, keys, weight)
            query = query @ weight
        if similarity == "cosine":
            query, keys = F.normalize(query, dim=1, eps=1e-12), F.normalize(keys, dim=1, eps=1e-12)
        query = query / temperature  # (B, P) is cheaper to divide than (B, B + K)
        positive = torch.arange(len(query), device=query.device)

        def hide(logits: Tensor, start: int) -> None:
            if mask is not None:
                logits[:, : len(mask)].masked_fill_(mask[start : start + len(logits)], -torch.inf)
            if leave_out is not None:
                hidden = leave_out(slice(start, start + len(logits)))
                hidden.diagonal(start).fill_(False)
                logits.masked_fill_(hidden, -torch.inf)

        if tile is not None:
            return tiled_cross_entropy(query, keys, positive, tile, hide)
        logits = query @ keys.T
        hide(logits, 0)
        return F.cross_entropy(logits, positive, reduction="none")


def nt_xent(
    view_1: Tensor,
    view_2: Tensor,
    *,
    temperature: float = 0.5,
    decoupled: bool = False,
    leave_out: LeaveOut | None = None,
    tile: int | None = None,
) -> Tensor:
    """Each of 2B views has to find the other view of its image among all other views.

    loss_i = logsumexp_{j != i}(logit_ij) - logit_ip, where p is the other view; decoupled: p is left out
    of the sum, too.

    Args:
        view_1: projections, (B, P); L2-normalised here.
        view_2: projections of other augmentations of the same images, (B, P).
        temperature: divides the cosines, > 0.
        decoupled: leave the positive out of the denominator; needs B >= 2.
        leave_out: further views that rows leave out, (n, 2B), in the order of the result; what it says of a
            row's positive is not looked at. A decoupled row of which nothing is left costs nothing.
        tile: rows scored at a time. Logits are then recomputed in the backward pass: same values and
            gradients, memory linear in B, differentiable once.

    Returns:
        Loss per view in nats, (2B,): rows of view_1, then of view_2. Chance level is log(2B - 1).

    Raises:
        ValueError: shapes differ, temperature or tile is not positive, or nothing is left to tell apart.

    Source: SimCLR, Chen et al. 2020, arXiv:2002.05709, eq. 1; decoupled: Yeh et al. 2022, arXiv:2110.06848,
    eq. 6 without its weights.
    """
    check_pair("view_1", view_1, "view_2", view_2)
    check_scale("temperature", temperature)
    check_tile(tile)
    rows = len(view_1)
    if decoupled and rows < 2:
        raise ValueError(f"expected B >= 2 with decoupled (else there are no negatives), found {rows}")
    with torch.autocast(view_1.device.type, enabled=False):
        views = F.normalize(torch.cat(at_least_float32(view_1, view_2)), dim=1, eps=1e-12)
        queries = views / temperature

        other = torch.arange(2 * rows, device=views.device).roll(rows)

        def hide(logits: Tensor, start: int) -> None:
            chosen = slice(start, start + len(logits))
            logits.diagonal(start).fill_(-torch.inf)
            if leave_out is not None:
                logits.masked_fill_(
                    _hidden_views(leave_out(chosen), other[chosen], start, decoupled), -torch.inf
                )
            elif decoupled:
                logits.scatter_(1, other[chosen, None], -torch.inf)

        if tile is not None:
            return tiled_cross_entropy(queries, views, other, tile, hide)
        logits = queries @ views.T
        above_own = logits - logits.gather(
            1, other[:, None]
        )  # before the sum: small losses keep their digits
        hide(above_own, 0)
        return above_own.logsumexp(dim=1)


def _hidden_views(left_out: Tensor, other: Tensor, start: int, decoupled: bool) -> Tensor:
    """Views that rows from `start` on do not sum over, given their positives; each row keeps one at least."""
    left_out.diagonal(start).fill_(True)
    left_out.scatter_(1, other[:, None], True)
    keeps_positive = left_out.all(dim=1) if decoupled else torch.ones_like(other, dtype=torch.bool)
    return left_out.scatter_(1, other[:, None], ~keeps_positive[:, None])


def multi_positive_info_nce(
    query: Tensor,
    key: Tensor,
    positive: Tensor,
    *,
    temperature: float = 0.1,
    ignore: Tensor | None = None,
    decoupled: bool = False,
    hardness: float = 0.0,
) -> Tensor:
    """Score each query against all keys, any number of which are its positives.

    loss_i = -mean_{j positive}(logit_ij - logsumexp over all keys of row i that are not ignored)

    Args:
        query: projections, (B, P); L2-normalised here.
        key: projections, (K, P); L2-normalised here; the caller detaches.
        positive: bool (B, K); a row without any costs nothing and gets no gradient.
        temperature: divides the cosines, > 0.
        ignore: bool (B, K), neither positive nor negative.
        decoupled: leave the positives out of the sum; a row without negatives costs nothing then.
        hardness: beta >= 0; each negative counts in the sum in proportion to exp(beta · logit), N of them
            N times in all. 0 counts them alike.

    Returns:
        Loss per row in nats, (B,).

    Raises:
        ValueError: shapes do not fit, temperature is not positive, hardness is negative, or a key is both
            positive and ignored. (The last is not looked at while a CUDA graph is captured or the code
            compiled.)

    Source: Khosla et al. 2020, arXiv:2004.11362, eq. 2 (the sum outside of the logarithm), where the
    positives lie near in time here; decoupled: arXiv:2110.06848; hardness: Robinson et al. 2021,
    arXiv:2010.04592, eq. 4, without its correction for false negatives (tau+ = 0).
    """
    check_multi_positive(query, key, positive, temperature, ignore)
    if not hardness >= 0:
        raise ValueError(f"expected hardness >= 0, found {hardness}")
    with torch.autocast(query.device.type, enabled=False):
        query, key = (F.normalize(rows, dim=1, eps=1e-12) for rows in at_least_float32(query, key))
        logits = (query / temperature) @ key.T
        negative = ~positive if ignore is None else ~(positive | ignore)
        total = _log_sum(logits, negative)
        if hardness:
            weighted = _log_sum((1 + hardness) * logits, negative) - _log_sum(hardness * logits, negative)
            count = negative.sum(dim=1).to(total.dtype)
            total = torch.where(count > 0, weighted + count.clamp_min(1).log(), total)
        if not decoupled:
            total = torch.logaddexp(total, _log_sum(logits, positive))
        mean_positive = torch.where(positive, logits, 0.0).sum(dim=1) / positive.sum(dim=1).clamp_min(1)
        counts = positive.any(dim=1) & (negative.any(dim=1) if decoupled else True)
        return torch.where(counts, total - mean_positive, 0.0)


def _log_sum(logits: Tensor, chosen: Tensor) -> Tensor:
    """The logsumexp of each row's chosen entries, (B, K) -> (B,); of none: very low, without gradient."""
    some = chosen.any(dim=1, keepdim=True)
    # a row of -inf alone would have a gradient that is not a number
    total = logits.masked_fill(~chosen & some, -torch.inf).logsumexp(dim=1)
    return torch.where(some.squeeze(1), total, torch.finfo(logits.dtype).min / 2)


def margin_contrastive(x: Tensor, y: Tensor, is_negative: Tensor, *, margin: float = 1.0) -> Tensor:
    """Pull positive pairs together, push negative ones apart up to a margin.

    loss_i = d_i² for positives, max(0, margin - d_i)² for negatives, d_i = ‖x_i - y_i‖

    Args:
        x: features, (B, P), not normalised.
        y: features, (B, P), not normalised.
        is_negative: bool (B,).
        margin: distance beyond which negatives cost nothing, > 0.

    Returns:
        Loss per pair, (B,); no gradient where d = 0.

    Raises:
        ValueError: shapes do not fit, or margin is not positive.

    Source: Hadsell et al. 2006, "Dimensionality reduction by learning an invariant mapping", eq. 4, without
    its factors of one half.
    """
    check_pair("x", x, "y", y)
    check_scale("margin", margin)
    if is_negative.shape != x.shape[:1] or is_negative.dtype != torch.bool:
        raise ValueError(
            f"expected is_negative ({len(x)},) of torch.bool, "
            f"found {tuple(is_negative.shape)} of {is_negative.dtype}"
        )
    distance = _distance(x, y)
    return torch.where(is_negative, (margin - distance).clamp_min(0), distance).square()


def triplet(anchor: Tensor, positive: Tensor, negative: Tensor, *, margin: float = 1.0) -> Tensor:
    """The positive has to be nearer than the negative, by a margin: max(0, d(a, p) - d(a, n) + margin).

    Args:
        anchor: features, (B, P), not normalised.
        positive: features, (B, P).
        negative: features, (B, P).
        margin: by how much, in Euclidean distance (not squared), > 0.

    Returns:
        Loss per row, (B,).

    Raises:
        ValueError: shapes differ, or margin is not positive.

    Source: Schroff et al. 2015, arXiv:1503.03832, eq. 3, with distances instead of their squares.
    """
    check_pair("anchor", anchor, "positive", positive)
    check_pair("anchor", anchor, "negative", negative)
    check_scale("margin", margin)
    return (_distance(anchor, positive) - _distance(anchor, negative) + margin).clamp_min(0)


def byol(prediction: Tensor, target: Tensor) -> Tensor:
    """Squared distance of unit vectors, 2 - 2 cos(prediction, target).

    Args:
        prediction: (B, P); L2-normalised here.
        target: (B, P); L2-normalised here; the caller detaches.

    Returns:
        Loss per row, (B,), between 0 and 4.

    Raises:
        ValueError: shapes differ.

    Source: Grill et al. 2020, arXiv:2006.07733, eq. 2.
    """
    check_pair("prediction", prediction, "target", target)
    with torch.autocast(prediction.device.type, enabled=False):
        x, y = (F.normalize(rows, dim=1, eps=1e-12) for rows in at_least_float32(prediction, target))
        return 2 - 2 * (x * y).sum(dim=1)


def barlow_twins(x: Tensor, y: Tensor, *, off_diagonal: float = 5e-3) -> Tensor:
    """Cross-correlation of two views' features towards the identity.

    Σ_i (1 - C_ii)² + off_diagonal · Σ_{i≠j} C_ij², C = xᵀy / B of columns standardised over the batch.

    Args:
        x: features, (B, P).
        y: features of other views of the same things, (B, P).
        off_diagonal: weight of the redundancy, >= 0.

    Returns:
        0-d.

    Raises:
        ValueError: shapes differ, or off_diagonal is negative.

    Source: Zbontar et al. 2021, arXiv:2103.03230, eq. 1 and 2 (biased variance, eps 1e-5).
    """
    check_pair("x", x, "y", y)
    if not off_diagonal >= 0:
        raise ValueError(f"expected off_diagonal >= 0, found {off_diagonal}")
    with torch.autocast(x.device.type, enabled=False):
        x, y = (standardised(features) for features in at_least_float32(x, y))
        correlation = x.T @ y / len(x)
        diagonal = correlation.diagonal()
        return (1 - diagonal).square().sum() + off_diagonal * _off_diagonal_squares(correlation)


def vicreg(
    x: Tensor,
    y: Tensor,
    *,
    similarity: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
) -> Tensor:
    """Views alike, every feature spread out, no two features alike.

    similarity · mean (x - y)² + variance · ½ Σ_views mean_j max(0, 1 - sqrt(var_j + 1e-4))
    + covariance · Σ_views Σ_{i≠j} Cov_ij² / P

    Args:
        x: features, (B, P), B >= 2.
        y: features of other views of the same things, (B, P).
        similarity: weight of the invariance, a mean over B and P.
        variance: weight of the spread.
        covariance: weight of the redundancy.

    Returns:
        0-d.

    Raises:
        ValueError: shapes differ, or there are not two rows at least.

    Source: Bardes et al. 2022, arXiv:2105.04906, eq. 1 to 6; ½ makes the spread a mean over both views, as in
    its published code. Variances and covariances divide by B - 1.
    """
    check_pair("x", x, "y", y)
    if len(x) < 2:
        raise ValueError(f"expected B >= 2, found {len(x)}")
    with torch.autocast(x.device.type, enabled=False):
        x, y = at_least_float32(x, y)
        spread, redundant = x.new_zeros(()), x.new_zeros(())
        for features in (x, y):
            centred = features - features.mean(dim=0)
            variances = centred.square().sum(dim=0) / (len(features) - 1)
            spread = spread + (1 - (variances + 1e-4).sqrt()).clamp_min(0).mean() / 2
            covariances = centred.T @ centred / (len(features) - 1)
            redundant = redundant + _off_diagonal_squares(covariances) / features.shape[1]
        return similarity * F.mse_loss(x, y) + variance * spread + covariance * redundant


def at_least_float32(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in their common floating type, float32 or wider."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return tuple(tensor.to(dtype) for tensor in tensors)


def _distance(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distance of rows, (B, P), (B, P) -> (B,); its gradient where it is zero is zero."""
    x, y = at_least_float32(x, y)
    distance: Tensor = torch.linalg.vector_norm(x - y, dim=1)
    return distance


def standardised(features: Tensor) -> Tensor:
    """Columns with mean 0 and variance 1 over the rows (biased, eps 1e-5), (B, P) -> (B, P)."""
    centred = features - features.mean(dim=0)
    return centred * (centred.square().mean(dim=0) + 1e-5).rsqrt()


def _off_diagonal_squares(matrix: Tensor) -> Tensor:
    """Sum of the squared entries beside the diagonal, (P, P) -> 0-d."""
    # not by subtracting the diagonal's: what is left of a difference of large sums is rounding error
    diagonal = torch.eye(len(matrix), dtype=torch.bool, device=matrix.device)
    return matrix.masked_fill(diagonal, 0.0).square().sum()
