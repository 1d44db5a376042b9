"""Batches of recorded experience: a function of seed and update, whoever asks for which of their rows."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from configs.pretrain import PretrainConfig
from world_model.batch import Batch
from world_model.pretrain.samples import Pairs, Samples, Windows


class Recording(Protocol):
    """Episodes that can be looked into anywhere (`envs.windows.EpisodeReader`)."""

    @property
    def lengths(self) -> np.ndarray:
        """Observations of each episode, int64 (E,)."""

    def stacks(self, episode: np.ndarray, time: np.ndarray, stack: int) -> np.ndarray:
        """Stacked frames, uint8 (N, 3 * stack, H, W)."""

    def proprio(self, episode: np.ndarray, time: np.ndarray) -> np.ndarray:
        """The task's own vectors, float32 (N, D)."""

    def batch(self, episode: np.ndarray, start: np.ndarray, horizon: int, stack: int) -> Batch:
        """Windows of decisions in the agent's form."""


class SourceError(ValueError):
    """The data do not hold what a method needs; the message says what, and the remedy."""


class Source:
    """Draws batches."""

    def __init__(self, recording: Recording, config: PretrainConfig) -> None:
        """Find where pairs or windows may start.

        Raises:
            SourceError: nowhere: all episodes are too short.
        """
        self._recording, self._config = recording, config
        positives = config.positives
        self._gaps = (0, 0) if positives.by == "augmentation" else (positives.min_gap, positives.max_gap)
        reach = config.model.horizon if config.is_windowed else self._gaps[0]
        self._starts = np.maximum(recording.lengths - reach, 0)
        if not self._starts.any():
            longest = int(recording.lengths.max(initial=0))
            raise SourceError(
                f"no episode is long enough: {reach + 1} observations are needed, the longest has {longest}"
            )
        self._ends = np.cumsum(self._starts)

    def draw(self, update: int, rank: int = 0, size: int = 1) -> Samples:
        """This process's share of the batch of an update.

        Args:
            update: number of the gradient step.
            rank: number of this process.
            size: how many there are; the batch splits evenly.
        """
        count = self._config.batch.size
        rng = np.random.default_rng(np.random.SeedSequence(self._config.seed, spawn_key=(update,)))
        episode, time = self._places(rng.integers(self._ends[-1], size=count))
        last = self._recording.lengths[episode] - 1
        low, high = self._gaps
        gap = rng.integers(low, np.minimum(high, last - time) + 1)
        mine = slice(rank * count // size, (rank + 1) * count // size)
        row = torch.arange(count)[mine]
        if self._config.is_windowed:
            return self._windows(episode[mine], time[mine], row)
        return self._pairs(episode[mine], time[mine], gap[mine], row)

    def _places(self, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Episodes and times of the places with these numbers, among all where something may start."""
        episode = np.searchsorted(self._ends, drawn, side="right")
        return episode, drawn - (self._ends - self._starts)[episode]

    def _windows(self, episode: np.ndarray, time: np.ndarray, row: Tensor) -> Windows:
        config = self._config
        return Windows(self._recording.batch(episode, time, config.model.horizon, config.stack), row)

    def _pairs(self, episode: np.ndarray, time: np.ndarray, gap: np.ndarray, row: Tensor) -> Pairs:
        recording, stack = self._recording, self._config.stack
        pixels = torch.from_numpy(recording.stacks(episode, time, stack))
        proprio = torch.from_numpy(recording.proprio(episode, time))
        later, later_proprio = pixels, proprio
        if gap.any():
            later = torch.from_numpy(recording.stacks(episode, time + gap, stack))
            later_proprio = torch.from_numpy(recording.proprio(episode, time + gap))
        return Pairs(
            pixels,
            later,
            proprio,
            later_proprio,
            episode=torch.from_numpy(episode),
            time=torch.from_numpy(time),
            later_time=torch.from_numpy(time + gap),
            row=row,
        )
