"""Positives alone: a prediction of the momentum key's projection (BYOL)."""

from __future__ import annotations

from torch import Tensor

from configs.world_model import WorldModelOptions
from envs.spec import EnvSpec
from world_model.batch import Batch, Latents
from world_model.layers import mlp
from world_model.losses import byol
from world_model.objectives.base import consistency
from world_model.objectives.projected import Projected


class Bootstrapped(Projected):
    """Predictions from z_t and from imagined futures towards their momentum projections; consistency.

    Source: BYOL, arXiv:2006.07733, section 3.1; over imagined futures as in SPR, arXiv:2007.05929.
    """

    def __init__(self, env_spec: EnvSpec, options: WorldModelOptions) -> None:
        """Draw projection and predictor."""
        super().__init__(env_spec, options)
        self.predictor = mlp(options.projection_dim, options.hidden_dim, options.projection_dim)
        self.weights = {
            "augmentation": options.augmentation_weight,
            "temporal": options.temporal_weight,
            "consistency": options.consistency_weight,
        }

    def forward(self, batch: Batch, latents: Latents) -> dict[str, Tensor]:
        """Losses: `augmentation` (B,), `temporal` (B, H), `consistency` (B, H)."""
        prediction, key = self.compared(latents)
        loss = byol(prediction.flatten(0, 1), key.flatten(0, 1)).unflatten(0, key.shape[:2])
        return {"augmentation": loss[:, 0], "temporal": loss[:, 1:], "consistency": consistency(latents)}

    def compared(self, latents: Latents) -> tuple[Tensor, Tensor]:
        """Predictions (B, H + 1, P) and keys of the same shape without gradient."""
        query, key = super().compared(latents)
        return self.predictor(query), key
