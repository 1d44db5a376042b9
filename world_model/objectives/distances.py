"""Near and far in time as Euclidean distances: triplet and margin losses."""

from __future__ import annotations

import torch
from torch import Tensor

from configs.schema import WorldModelOptions
from envs.spec import EnvSpec
from world_model.batch import Batch, Latents
from world_model.losses import margin_contrastive, triplet
from world_model.nearness import choose_far, is_near
from world_model.objectives.base import consistency
from world_model.objectives.projected import Projected


class Distances(Projected):
    """Imagined futures near their own keys and away from one far key each; consistency.

    The negative is a key of the same episode more than `near_window` decisions away, where the batch has one
    (rows drawn in pairs always do), else of another episode.
    """

    def __init__(self, env_spec: EnvSpec, options: WorldModelOptions) -> None:
        """Draw the projection."""
        super().__init__(env_spec, options)
        self.weights = {
            "temporal": options.temporal_weight,
            "consistency": options.consistency_weight,
        }

    def forward(self, batch: Batch, latents: Latents) -> dict[str, Tensor]:
        """Losses: `temporal` (B, H), `consistency` (B, H)."""
        query, key = (rows[:, 1:].flatten(0, 1) for rows in self.compared(latents))
        episode, time = batch.key_positions
        unfit = is_near(episode, time, self.options.near_window) | batch.is_beyond.flatten()
        negative = key[choose_far(unfit, episode[:, None] == episode)]
        losses = self.distance_loss(query, key, negative)
        return {
            "temporal": losses.unflatten(0, (len(batch.time), batch.horizon)),
            "consistency": consistency(latents),
        }

    def distance_loss(self, query: Tensor, key: Tensor, negative: Tensor) -> Tensor:
        """Loss of each row, (N, P) three times -> (N,)."""
        raise NotImplementedError


class Triplet(Distances):
    """The own key has to be nearer than a far one, by a margin (Schroff et al., arXiv:1503.03832)."""

    def distance_loss(self, query: Tensor, key: Tensor, negative: Tensor) -> Tensor:
        """Loss of each row, (N, P) three times -> (N,)."""
        return triplet(query, key, negative)


class Margin(Distances):
    """The own key near, a far one at least a margin away (Hadsell et al. 2006), the mean of both pairs."""

    def distance_loss(self, query: Tensor, key: Tensor, negative: Tensor) -> Tensor:
        """Loss of each row, (N, P) three times -> (N,)."""
        is_negative = torch.arange(2 * len(query), device=query.device) >= len(query)
        pairs = margin_contrastive(torch.cat((query, query)), torch.cat((key, negative)), is_negative)
        return pairs.unflatten(0, (2, len(query))).mean(dim=0)
