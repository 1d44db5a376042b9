"""Keys of earlier batches, as further negatives (MoCo)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

EMPTY = -1  # episode of places that hold no key yet


class KeyQueue(nn.Module):
    """The newest `size` keys, each with the episode and time that it was seen at.

    All of it are buffers, so that it is part of a checkpoint.

    Source: He et al. 2020, arXiv:1911.05722, section 3.2. There every key is a negative; here keys know
    where they come from, so that states near the query's own can be left out.
    """

    key: Tensor
    episode: Tensor
    time: Tensor

    def __init__(self, size: int, dim: int) -> None:
        """Hold no keys yet; `size` of length P = `dim` have a place."""
        super().__init__()
        self.register_buffer("key", torch.zeros(size, dim))
        self.register_buffer("episode", torch.full((size,), EMPTY))
        self.register_buffer("time", torch.zeros(size, dtype=torch.int64))

    @torch.no_grad()
    def push(self, key: Tensor, episode: Tensor, time: Tensor) -> None:
        """Put keys (N, P), int64 (N,), int64 (N,) in front; the oldest fall out."""
        for held, new in ((self.key, key), (self.episode, episode), (self.time, time)):
            # one copy of the whole, and no counter: the same kernels at every call, as CUDA graphs need
            held.copy_(torch.cat((new.to(held.dtype), held))[: len(held)])

    def is_near(self, episode: Tensor, time: Tensor, window: int) -> Tensor:
        """Which places are no negatives of N rows: near in time within one episode, or empty.

        Args:
            episode: int64 (N,).
            time: int64 (N,).
            window: largest |time difference| that counts as near.

        Returns:
            bool (N, size).
        """
        # 32 bits hold every episode and time that there is, and take half as long as 64
        held, held_at = self.episode.int(), self.time.int()
        near = (episode.int()[:, None] == held) & ((time.int()[:, None] - held_at).abs() <= window)
        return near | (held == EMPTY)
