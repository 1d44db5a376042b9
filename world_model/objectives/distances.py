"""Near and far in time as Euclidean distances: triplet and margin losses."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from configs.world_model import WorldModelOptions
from envs.spec import EnvSpec
from world_model.batch import Batch, Latents
from world_model.losses import margin_contrastive
from world_model.nearness import choose_far, is_near
from world_model.objectives.base import consistency
from world_model.objectives.projected import Projected


class Distances(Projected):
    """Imagined futures near their own keys and away from one far key each; consistency.

    The negative is a key of the same episode more than `near_window` decisions away, where the batch has one
    (rows drawn in pairs always do), else of another episode.
    """

    def __init__(
        self,
        env_spec: EnvSpec,
        options: WorldModelOptions,
        *,
        loss: Callable[[Tensor, Tensor, Tensor], Tensor],
    ) -> None:
        """Use a loss of queries, keys and negatives, (N, P) three times -> (N,)."""
        super().__init__(env_spec, options)
        self.loss = loss
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
        return {
            "temporal": self.loss(query, key, negative).unflatten(0, (len(batch.time), batch.horizon)),
            "consistency": consistency(latents),
        }


def margin_of_both_pairs(query: Tensor, key: Tensor, negative: Tensor, *, margin: float = 1.0) -> Tensor:
    """The own key near, a far one at least a margin away, the mean of both pairs: (N, P) three times -> (N,).

    Source: Hadsell et al. 2006, "Dimensionality reduction by learning an invariant mapping".
    """
    is_negative = torch.arange(2 * len(query), device=query.device) >= len(query)
    x, y = torch.cat((query, query)), torch.cat((key, negative))
    pairs = margin_contrastive(x, y, is_negative, margin=margin)
    return pairs.unflatten(0, (2, len(query))).mean(dim=0)
