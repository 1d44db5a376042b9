"""A second, slower moving average of everything that acts: who is evaluated and handed out."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from world_model.momentum import ema_update


class SteadyAverage(nn.Module):
    """Averages of the acting networks over a share of all updates so far, at most over 1 / tau of them.

    The networks that collect experience follow learning closely, and every few hundred updates they make
    other mistakes. Averaged together over a longer time they do better (`benchmarks/notes.md`, item 37).
    Learning does not see these averages.

    Source: an averaging window in proportion to training, Karras et al. (arXiv:2312.02696, section 3.1).
    """

    SHARE = 0.08

    def __init__(self, networks: Mapping[str, nn.Module], tau: float) -> None:
        """Start as copies of the networks; tau: smallest step towards them per update, in (0, 1]."""
        super().__init__()
        self._networks = dict(networks)  # a plain dict: they are not parts of this module
        self._tau = tau
        self.averages = nn.ModuleDict(copy.deepcopy(self._networks)).requires_grad_(False)
        self._updates = 0

    def follow(self) -> None:
        """Move the averages towards the networks, once after every update."""
        tau = max(self._tau, 1 / (1 + self.SHARE * self._updates))
        for name, average in self.averages.items():
            ema_update(average, self._networks[name], tau)
        self._updates += 1

    def get_extra_state(self) -> int:
        """Updates that were followed."""
        return self._updates

    def set_extra_state(self, state: int) -> None:
        """Go on from so many updates."""
        self._updates = state

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange averages and networks, value by value."""
        for name, average in self.averages.items():
            theirs = self._networks[name].state_dict()
            for key, ours in average.state_dict().items():
                kept = ours.clone()
                ours.copy_(theirs[key])
                theirs[key].copy_(kept)

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Within, the agent acts by the averages; learning has to wait."""
        self.swap()
        try:
            yield
        finally:
            self.swap()
