"""Processes that learn one model together, each from its own rows of every batch.

Every process computes the loss of the whole batch, from the embeddings of all, and its gradient with respect
to its own rows. The sum of these gradients over processes is that of one process that holds all rows: for
losses that compare rows (contrast, statistics of the batch) as for those that do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor


class Group(Protocol):
    """The processes of a training run.

    Attributes:
        rank: number of this process, in [0, size).
        size: how many there are.
    """

    rank: int
    size: int

    def gather(self, rows: Tensor) -> Tensor:
        """Rows of all processes, (N, ...) -> (size * N, ...), in the order of their ranks.

        Gradient flows into this process's own rows alone.
        """

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their sums over all processes; the same bits everywhere."""


class Alone:
    """One process."""

    rank, size = 0, 1

    def gather(self, rows: Tensor) -> Tensor:
        """The rows themselves."""
        return rows

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Nothing to add."""


class Ranks:
    """The processes of `torch.distributed`'s default group (torchrun starts them)."""

    def __init__(self) -> None:
        """Take the numbers of a group that was initialised before."""
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def gather(self, rows: Tensor) -> Tensor:
        """See `Group`; all processes have as many rows."""
        sent = rows.detach().contiguous()
        if rows.dtype == torch.bool:  # which not every backend can send
            sent = sent.to(torch.uint8)
        parts = [torch.empty_like(sent) for _ in range(self.size)]
        dist.all_gather(parts, sent)
        parts = [part.to(rows.dtype) for part in parts]
        parts[self.rank] = rows
        return torch.cat(parts)

    def add(self, tensors: Sequence[Tensor]) -> None:
        """See `Group`; one message for all tensors of a type."""
        for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
            chosen = [tensor for tensor in tensors if tensor.dtype == dtype]
            flat = torch.cat([tensor.reshape(-1) for tensor in chosen])
            dist.all_reduce(flat)
            for tensor, part in zip(chosen, flat.split([each.numel() for each in chosen]), strict=True):
                tensor.copy_(part.view_as(tensor))
