"""Contrastive losses: pure functions of tensors, one value per row, nothing detached inside.

float32 and float64 are computed as they come; lower precisions, and anything under autocast, in float32.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Similarity = Literal["cosine", "dot", "bilinear"]


def info_nce(
    query: Tensor,
    key: Tensor,
    *,
    temperature: float = 0.1,
    similarity: Similarity = "cosine",
    weight: Tensor | None = None,
    negatives: Tensor | None = None,
    mask: Tensor | None = None,
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
        tile: rows scored at a time. Logits are then recomputed in the backward pass: same values and
            gradients, memory linear in B.

    Returns:
        Loss per row in nats, (B,). Chance level is log(B).

    Raises:
        ValueError: shapes do not fit, temperature or tile is not positive, `weight` is missing or
            superfluous, the similarity is unknown, or the mask hides a positive. (The last is not
            looked at while a CUDA graph is captured or the code compiled: it would need the value.)

    Source: van den Oord et al. 2018, arXiv:1807.03748, eq. 4; bilinear: CURL, arXiv:2004.04136.
    """
    _check_info_nce(query, key, temperature, similarity, weight, negatives, mask, tile)
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
        if tile is None:
            return _cross_entropy(query, keys, positive, mask)
        return torch.cat(
            [
                checkpoint(  # keeps a tile's inputs only
                    _cross_entropy,
                    query[start : start + tile],
                    keys,
                    positive[start : start + tile],
                    None if mask is None else mask[start : start + tile],
                    use_reentrant=False,
                    preserve_rng_state=False,
                )
                for start in range(0, len(query), tile)
            ]
        )


def at_least_float32(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in their common floating type, float32 or wider."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return tuple(tensor.to(dtype) for tensor in tensors)


def _cross_entropy(query: Tensor, keys: Tensor, positive: Tensor, mask: Tensor | None) -> Tensor:
    """-log_softmax(query @ keys.T) at column `positive` of each row; masks cover the first columns."""
    logits = query @ keys.T
    if mask is not None:
        logits = logits.masked_fill(F.pad(mask, (0, len(keys) - mask.shape[1])), -torch.inf)
    return F.cross_entropy(logits, positive, reduction="none")


def _check_info_nce(
    query: Tensor,
    key: Tensor,
    temperature: float,
    similarity: str,
    weight: Tensor | None,
    negatives: Tensor | None,
    mask: Tensor | None,
    tile: int | None,
) -> None:
    if query.ndim != 2 or query.shape != key.shape:
        raise ValueError(
            f"expected query and key of one shape (B, P), found {tuple(query.shape)} and {tuple(key.shape)}"
        )
    rows, width = query.shape
    if not temperature > 0:
        raise ValueError(f"expected temperature > 0, found {temperature}")
    if similarity not in ("cosine", "dot", "bilinear"):
        raise ValueError(f"expected similarity cosine, dot or bilinear, found {similarity!r}")
    if (weight is not None) != (similarity == "bilinear"):
        found = "no weight" if weight is None else f"a weight {tuple(weight.shape)}"
        raise ValueError(
            f"expected a weight ({width}, {width}) with similarity bilinear and with no other, "
            f"found {found} with {similarity!r}"
        )
    if weight is not None and weight.shape != (width, width):
        raise ValueError(f"expected weight ({width}, {width}), found {tuple(weight.shape)}")
    if negatives is not None and (negatives.ndim != 2 or negatives.shape[1] != width):
        raise ValueError(f"expected negatives (K, {width}), found {tuple(negatives.shape)}")
    if tile is not None and tile < 1:
        raise ValueError(f"expected tile >= 1, found {tile}")
    if mask is not None:
        _check_mask(mask, rows)


def _check_mask(mask: Tensor, rows: int) -> None:
    if mask.shape != (rows, rows) or mask.dtype != torch.bool:
        raise ValueError(
            f"expected mask ({rows}, {rows}) of torch.bool, found {tuple(mask.shape)} of {mask.dtype}"
        )
    # Reading a value stops graph capture and splits a compiled graph.
    if torch.compiler.is_compiling() or (mask.is_cuda and torch.cuda.is_current_stream_capturing()):
        return
    if mask.diagonal().any():
        hidden = mask.diagonal().nonzero().flatten().tolist()
        raise ValueError(f"expected mask False on the diagonal (the positives), found True in rows {hidden}")
