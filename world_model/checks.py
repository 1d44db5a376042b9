"""What the losses ask of their arguments: a ValueError says what was expected and what was found."""

from __future__ import annotations

import torch
from torch import Tensor


def check_pair(name: str, x: Tensor, other_name: str, y: Tensor) -> None:
    """Two matrices of one shape, with one row at least."""
    if x.ndim != 2 or x.shape != y.shape or not len(x):
        raise ValueError(
            f"expected {name} and {other_name} of one shape (B, P), B >= 1, "
            f"found {tuple(x.shape)} and {tuple(y.shape)}"
        )


def check_scale(name: str, value: float) -> None:
    """A number above zero (not a number is none)."""
    if not value > 0:
        raise ValueError(f"expected {name} > 0, found {value}")


def check_tile(tile: int | None) -> None:
    """Rows at a time: at least one, or all."""
    if tile is not None and tile < 1:
        raise ValueError(f"expected tile >= 1, found {tile}")


def check_multi_positive(
    query: Tensor, key: Tensor, positive: Tensor, temperature: float, ignore: Tensor | None
) -> None:
    """Arguments of `multi_positive_info_nce`."""
    if query.ndim != 2 or key.ndim != 2 or query.shape[1] != key.shape[1]:
        raise ValueError(
            f"expected query (B, P) and key (K, P), found {tuple(query.shape)} and {tuple(key.shape)}"
        )
    check_scale("temperature", temperature)
    pairs = (len(query), len(key))
    for name, chosen in (("positive", positive), ("ignore", ignore)):
        if chosen is not None and (chosen.shape != pairs or chosen.dtype != torch.bool):
            raise ValueError(
                f"expected {name} {pairs} of torch.bool, found {tuple(chosen.shape)} of {chosen.dtype}"
            )
    if ignore is not None and _may_read(ignore) and (positive & ignore).any():
        rows = (positive & ignore).any(dim=1).nonzero().flatten().tolist()
        raise ValueError(f"expected no key to be both positive and ignored, found some in rows {rows}")


def check_info_nce(
    query: Tensor,
    key: Tensor,
    temperature: float,
    similarity: str,
    weight: Tensor | None,
    negatives: Tensor | None,
    mask: Tensor | None,
    tile: int | None,
) -> None:
    """Arguments of `info_nce`."""
    if query.ndim != 2 or query.shape != key.shape:
        raise ValueError(
            f"expected query and key of one shape (B, P), found {tuple(query.shape)} and {tuple(key.shape)}"
        )
    rows, width = query.shape
    check_scale("temperature", temperature)
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
    check_tile(tile)
    if mask is not None:
        _check_mask(mask, rows)


def _check_mask(mask: Tensor, rows: int) -> None:
    if mask.shape != (rows, rows) or mask.dtype != torch.bool:
        raise ValueError(
            f"expected mask ({rows}, {rows}) of torch.bool, found {tuple(mask.shape)} of {mask.dtype}"
        )
    if _may_read(mask) and mask.diagonal().any():
        hidden = mask.diagonal().nonzero().flatten().tolist()
        raise ValueError(f"expected mask False on the diagonal (the positives), found True in rows {hidden}")


def _may_read(tensor: Tensor) -> bool:
    """Whether values may be looked at: that stops graph capture and splits a compiled graph."""
    is_captured = tensor.is_cuda and torch.cuda.is_current_stream_capturing()
    return not (is_captured or torch.compiler.is_compiling())
