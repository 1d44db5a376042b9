"""Which states are near one another in time, and so never negatives, and which are far."""

from __future__ import annotations

import torch
from torch import Tensor


def is_near(episode: Tensor, time: Tensor, window: int) -> Tensor:
    """Which pairs of distinct rows are near in time within one episode: never negatives.

    Args:
        episode: int64 (N,), episode of each row.
        time: int64 (N,), decision index of each row within its episode.
        window: largest |time difference| that counts as near.

    Returns:
        bool (N, N), False on the diagonal.
    """
    near = (episode[:, None] == episode) & ((time[:, None] - time).abs() <= window)
    return near.fill_diagonal_(False)


def is_far(episode: Tensor, time: Tensor, window: int) -> Tensor:
    """Which pairs share an episode but lie further apart than `window`, bool (N, N)."""
    return (episode[:, None] == episode) & ((time[:, None] - time).abs() > window)


def first_far(near: Tensor) -> Tensor:
    """For each row, the next one in cyclic order that is not near: a negative that costs no search.

    Rows of a batch are drawn at random, so that the next row is as good as any.

    Args:
        near: bool (N, N), as of `is_near`.

    Returns:
        int64 (N,); where all others are near, the next row.
    """
    rows = len(near)
    near = near.clone().fill_diagonal_(True)
    order = (torch.arange(rows, device=near.device) - torch.arange(rows, device=near.device)[:, None]) % rows
    order[order == 0] = rows  # a row comes last in its own order
    return (order + rows * near).argmin(dim=1)
