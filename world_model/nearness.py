"""Which states are near one another in time, and so never negatives, and which are far."""

from __future__ import annotations

import math
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Surroundings:
    """Which keys are near queries, or their positives, in time: asked for some rows at a time.

    Attributes:
        episode: of each query, int64 (N,).
        first: times from which on keys of its episode are near, int64 (N,).
        last: times up to which they are, int64 (N,).
        key_episode: of each key, int64 (K,).
        key_time: decision index of each key within its episode, int64 (K,).
    """

    episode: Tensor
    first: Tensor
    last: Tensor
    key_episode: Tensor
    key_time: Tensor

    def __call__(self, rows: slice) -> Tensor:
        """Of some queries, bool (n, K); comparisons alone, so that nothing wider than a bool is as large."""
        near = self.key_episode == self.episode[rows, None]
        near &= self.key_time >= self.first[rows, None]
        near &= self.key_time <= self.last[rows, None]
        return near


def choose_far(near: Tensor, same_episode: Tensor) -> Tensor:
    """For each row a negative: one that is far in time in its own episode, else one of another episode.

    Which of several is no random draw, but as good as one: rows are taken in an order that jumps through the
    batch, from another place for each row.

    Args:
        near: bool (N, N), what cannot be a negative, as of `is_near`; the diagonal never is one.
        same_episode: bool (N, N).

    Returns:
        int64 (N,); where a row has no negative, any other row.

    Source: negatives of the same sequence, as in time-contrastive networks (arXiv:1704.06888).
    """
    rows = len(near)
    index = torch.arange(rows, device=near.device)
    order = ((index - index[:, None]) * _stride(rows)) % rows  # a permutation in each row
    order = order + rows * ~same_episode + 2 * rows * near
    return order.masked_fill(index == index[:, None], 4 * rows).argmin(dim=1)


def _stride(rows: int) -> int:
    """A number coprime to `rows` near their golden section, whose multiples are spread evenly over them."""
    return next(stride for stride in range(round(0.618 * rows), 2 * rows) if math.gcd(stride, rows) == 1)
