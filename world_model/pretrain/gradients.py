"""Gradients of a batch whose rows lie in several processes, or are encoded in several pieces."""

from __future__ import annotations

import torch
from torch import Tensor

from world_model.pretrain.method import Method
from world_model.pretrain.parallel import Group
from world_model.pretrain.samples import Rows, Samples, Views, joined


def accumulate(
    method: Method, samples: Samples, views: Views, group: Group, *, chunk: int = 0
) -> tuple[dict[str, Tensor], Rows]:
    """Put the gradient of the whole batch into the parameters of a method.

    With `chunk`, rows are embedded a few at a time without keeping activations; the gradient of the loss with
    respect to the embeddings is computed once, and then carried back through the encoder a few rows at a
    time. Same gradients, memory of one chunk, one more pass through the networks.

    Args:
        method: gradients of its parameters are replaced.
        samples: this process's rows, as many as any other's.
        views: augments; the same row gives the same view whenever it is asked for.
        group: processes that share the batch.
        chunk: rows embedded at a time; 0: all at once.

    Returns:
        Losses by name as detached 0-d tensors, and the rows of all processes without gradient.

    Source: gradient caching, Gao et al. 2021, arXiv:2101.06983, section 3.2.
    """
    for parameter in method.parameters():
        parameter.grad = None
    is_cached = 0 < chunk < len(samples)
    rows = _embed_pieces(method, samples, views, chunk) if is_cached else method.embed(samples, views)
    everyone = {name: group.gather(row) for name, row in rows.items()}
    losses = method.losses(everyone)
    torch.stack(list(losses.values())).sum().backward()
    if is_cached:
        _carry_back(method, samples, views, chunk, rows)
    _add_up(method, group)
    return (
        {name: loss.detach() for name, loss in losses.items()},
        {name: row.detach() for name, row in everyone.items()},
    )


def _embed_pieces(method: Method, samples: Samples, views: Views, chunk: int) -> Rows:
    """Rows of all chunks; those that are learnt from are leaves that collect gradient."""
    with torch.no_grad():
        parts = [method.embed(piece, views) for piece in _pieces(samples, chunk)]
    learnt = _learnt_from(method, samples, views)
    return {name: row.requires_grad_() if name in learnt else row for name, row in joined(parts).items()}


def _learnt_from(method: Method, samples: Samples, views: Views) -> set[str]:
    """Names of the rows that carry gradient, which two rows are enough to find out."""
    return {name for name, row in method.embed(samples.chunk(0, 2), views).items() if row.requires_grad}


def _carry_back(method: Method, samples: Samples, views: Views, chunk: int, cached: Rows) -> None:
    """Embed each chunk again, and let the cached gradients go on from its rows."""
    gradients = {name: row.grad for name, row in cached.items() if row.grad is not None}
    start = 0
    for piece in _pieces(samples, chunk):
        rows = method.embed(piece, views)
        end = start + len(piece)
        torch.autograd.backward(
            [rows[name] for name in gradients], [each[start:end] for each in gradients.values()]
        )
        start = end


def _pieces(samples: Samples, chunk: int) -> list[Samples]:
    return [samples.chunk(start, start + chunk) for start in range(0, len(samples), chunk)]


def _add_up(method: Method, group: Group) -> None:
    """Sum gradients over processes; those that every process has whole are averaged."""
    if group.size == 1:
        return
    whole = set(method.learnt_in_losses())
    gradients = []
    for parameter in method.parameters():
        if parameter.grad is not None:
            if parameter in whole:
                parameter.grad /= group.size  # the same on all, up to rounding: afterwards to the bit
            gradients.append(parameter.grad)
    group.add(gradients)
