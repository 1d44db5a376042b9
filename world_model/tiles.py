"""Contrastive losses, a few rows at a time: memory linear in the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Hide = Callable[[Tensor, int], None]
"""Sets logits that do not count to -inf, in place: those of some rows (R, K), and the first row's number."""


def tiled_cross_entropy(query: Tensor, keys: Tensor, positive: Tensor, tile: int, hide: Hide) -> Tensor:
    """The logsumexp of each row of `query @ keys.T` less its positive's logit, without all of the product.

    The softmax, which is the gradient, is computed again from what is kept, a scalar per row. All tiles share
    one buffer: freed and allocated again, theirs leave holes in the heap that add up to a multiple of it.

    Args:
        query: (B, P), float32 or float64.
        keys: (K, P), of the same type.
        positive: each row's key, (B,), all of them different.
        tile: rows scored at a time, >= 1.
        hide: chooses what is left out of the logsumexp; the positive may be. It must do the same for the same
            row each time, and leave something in every row.

    Returns:
        (B,). It can be differentiated once.
    """
    loss: Tensor = _TiledCrossEntropy.apply(query, keys, positive, tile, hide)
    return loss


class _TiledCrossEntropy(torch.autograd.Function):
    """See `tiled_cross_entropy`."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, keys: Tensor, positive: Tensor, tile: int, hide: Hide) -> Tensor:
        """Logits are shifted by their row's largest: none overflows, and small losses keep their digits."""
        loss, total = query.new_empty(len(query)), query.new_empty(len(query))
        buffer = query.new_empty(min(tile, len(query)), len(keys))
        for start in range(0, len(query), tile):
            rows = slice(start, start + tile)
            logits = _score(query[rows], keys, buffer)
            own = logits.gather(1, positive[rows, None])
            hide(logits, start)
            largest = logits.amax(dim=1, keepdim=True)
            above = logits.sub_(largest).exp_().sum(dim=1, keepdim=True).log_()
            loss[rows] = (above + (largest - own)).squeeze(1)
            total[rows] = (above + largest).squeeze(1)
        ctx.save_for_backward(query, keys, positive, total)
        ctx.tile, ctx.hide = tile, hide
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        """(softmax - positive) · gradient of each row reaches queries through keys, keys through queries."""
        query, keys, positive, total = ctx.saved_tensors
        to_query = torch.empty_like(query) if ctx.needs_input_grad[0] else None
        to_keys = torch.zeros_like(keys) if ctx.needs_input_grad[1] else None
        buffer = query.new_empty(min(ctx.tile, len(query)), len(keys))
        for start in range(0, len(query), ctx.tile):
            rows = slice(start, start + ctx.tile)
            weight = gradient[rows, None]
            logits = _score(query[rows], keys, buffer)
            ctx.hide(logits, start)
            softmax = logits.sub_(total[rows, None]).exp_().mul_(weight)
            if to_query is not None:
                torch.mm(softmax, keys, out=to_query[rows])
                to_query[rows] -= weight * keys[positive[rows]]
            if to_keys is not None:
                to_keys.addmm_(softmax.T, query[rows])
                to_keys.index_add_(0, positive[rows], weight * query[rows], alpha=-1)
        return to_query, to_keys, None, None, None


def _score(rows: Tensor, keys: Tensor, buffer: Tensor) -> Tensor:
    """The logits of some rows, (R, P), (K, P) -> (R, K), in the buffer."""
    return torch.mm(rows, keys.T, out=buffer[: len(rows)])
