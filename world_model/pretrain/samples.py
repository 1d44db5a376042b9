"""What a gradient step of pretraining learns from, and how its rows are looked at."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Protocol, Self

import torch
from torch import Tensor

from world_model.batch import Batch


class Views(Protocol):
    """Augments observations so that a row's draw depends on the row, the view and nothing else."""

    def images(self, images: Tensor, row: Tensor, view: int) -> Tensor:
        """Augment.

        Args:
            images: uint8 (B, C, H, W); all channels of a row get one draw.
            row: int64 (B,), places of the rows in the batch of all processes.
            view: 0, 1, ...: different draws for the same row.

        Returns:
            What the encoder may look at, (B, C, H', W').
        """

    def vectors(self, vectors: Tensor, row: Tensor, view: int) -> Tensor:
        """Augment vectors as they are perceived, (B, ..., D); arguments as those of `images`."""


@dataclass(frozen=True)
class Pairs:
    """Observations with positives.

    Attributes:
        pixels: stacked frames, uint8 (B, 3 * S, H, W).
        later: those of the positives, uint8 of the same shape; the same tensor where they are the same.
        proprio: the task's own vectors, float32 (B, D).
        later_proprio: those of the positives, float32 (B, D).
        episode: int64 (B,), which episode a row is from.
        time: int64 (B,), decision index of the observation.
        later_time: int64 (B,), decision index of the positive.
        row: int64 (B,), place in the batch of all processes.
    """

    pixels: Tensor
    later: Tensor
    proprio: Tensor
    later_proprio: Tensor
    episode: Tensor
    time: Tensor
    later_time: Tensor
    row: Tensor

    def __len__(self) -> int:
        """Rows B."""
        return len(self.row)

    def chunk(self, start: int, end: int) -> Self:
        """Some of the rows."""
        return type(self)(**{each.name: getattr(self, each.name)[start:end] for each in fields(self)})

    def to(self, device: torch.device) -> Self:
        """The same rows on another device."""
        return type(self)(**{each.name: getattr(self, each.name).to(device) for each in fields(self)})


@dataclass(frozen=True)
class Windows:
    """Windows of decisions.

    Attributes:
        batch: of the agent's form.
        row: int64 (B,), place in the batch of all processes.
    """

    batch: Batch
    row: Tensor

    def __len__(self) -> int:
        """Rows B."""
        return len(self.row)

    def chunk(self, start: int, end: int) -> Windows:
        """Some of the rows."""
        batch = Batch(**{name: value[start:end] for name, value in vars(self.batch).items()})
        return Windows(batch, self.row[start:end])

    def to(self, device: torch.device) -> Windows:
        """The same rows on another device."""
        return Windows(self.batch.to(device), self.row.to(device))


Samples = Pairs | Windows
Rows = dict[str, Tensor]
"""What a method makes of samples: tensors with one entry per row."""


def joined(parts: list[Rows]) -> Rows:
    """Rows of chunks one after another."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
