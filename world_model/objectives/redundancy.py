"""Positives alone, kept apart by statistics of the batch: Barlow Twins and VICReg."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from configs.world_model import WorldModelOptions
from envs.spec import EnvSpec
from world_model.batch import Batch, Latents
from world_model.losses import barlow_twins, vicreg
from world_model.objectives.base import consistency
from world_model.objectives.projected import Projected


class Redundancy(Projected):
    """A loss of two batches of projections, z_t's and each imagined step's with their keys'; consistency.

    The sum over features is divided by their number, which makes it as large as the other objectives'
    losses. Keys are momentum projections and get no gradient, other than in the papers.
    """

    def __init__(
        self, env_spec: EnvSpec, options: WorldModelOptions, *, loss: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        """Use a loss of two (B, P) that gives one value."""
        super().__init__(env_spec, options)
        self.loss = loss
        self.weights = {
            "augmentation": options.augmentation_weight,
            "temporal": options.temporal_weight,
            "consistency": options.consistency_weight,
        }

    def forward(self, batch: Batch, latents: Latents) -> dict[str, Tensor]:
        """Losses: `augmentation` 0-d, `temporal` (1, H), `consistency` (B, H)."""
        query, key = (batch.last_seen(rows) for rows in self.compared(latents))
        losses = [self.loss(query[:, k], key[:, k]) for k in range(query.shape[1])]
        return {
            "augmentation": losses[0],
            "temporal": torch.stack(losses[1:])[None],
            "consistency": consistency(latents),
        }


def barlow_twins_per_feature(x: Tensor, y: Tensor) -> Tensor:
    """Barlow Twins over its number of features, (B, P) twice -> 0-d (arXiv:2103.03230, eq. 1)."""
    return barlow_twins(x, y) / x.shape[1]


def vicreg_per_similarity(x: Tensor, y: Tensor) -> Tensor:
    """VICReg with its weights 25, 25 and 1 over 25, (B, P) twice -> 0-d (arXiv:2105.04906, eq. 6)."""
    return vicreg(x, y) / 25.0
