"""Near states positive, distant states negative: the contrastive family and its consistency term."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from configs.schema import WorldModelOptions
from world_model.batch import Batch, Latents
from world_model.layers import mlp
from world_model.losses import info_nce
from world_model.metrics import retrieval_accuracy
from world_model.momentum import ema_update
from world_model.objectives.base import Objective


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


class Contrastive(Objective):
    """InfoNCE on augmented observations and on imagined futures, plus consistency; each can be left out.

    - augmentation: query p(z_t), key p̄(z̄_t), negatives are the other rows (CURL, arXiv:2004.04136,
      bilinear as published, or cosine).
    - temporal: query p(ẑ_{t+k}), key p̄(z̄_{t+k}), for k = 1..H against all B*H keys (TPC,
      arXiv:2106.07156, here rolled out by the dynamics and with momentum keys).
    - consistency: mean squared error of ẑ_{t+k} to z̄_{t+k} (TD-MPC2, arXiv:2310.16828).

    States of the same episode at most `near_window` decisions apart are left out of the negatives.
    """

    def __init__(
        self,
        options: WorldModelOptions,
        *,
        augmentation: bool = False,
        temporal: bool = False,
        consistency: bool = False,
    ) -> None:
        """Build the projections that the chosen terms need."""
        super().__init__()
        self.options = options
        terms = {
            "augmentation": (augmentation, options.augmentation_weight),
            "temporal": (temporal, options.temporal_weight),
            "consistency": (consistency, options.consistency_weight),
        }
        self.weights = {name: weight for name, (wanted, weight) in terms.items() if wanted}
        self.has_projection = augmentation or temporal
        if self.has_projection:
            self.projection = mlp(options.latent_dim, options.hidden_dim, options.projection_dim)
            self.key_projection = copy.deepcopy(self.projection).requires_grad_(False)
        if augmentation and options.similarity == "bilinear":
            self.bilinear = nn.Parameter(torch.eye(options.projection_dim))

    def forward(self, batch: Batch, latents: Latents) -> dict[str, Tensor]:
        """Losses: `augmentation` (B,), `temporal` (B, H), `consistency` (B, H)."""
        losses: dict[str, Tensor] = {}
        if self.has_projection:
            query, key = self._project(latents)
        if "augmentation" in self.weights:
            losses["augmentation"] = self._augmentation(batch, query[:, 0], key[:, 0])
        if "temporal" in self.weights:
            losses["temporal"] = self._temporal(batch, query[:, 1:], key[:, 1:])
        if "consistency" in self.weights:
            difference = (latents.z[:, 1:] - latents.z_key[:, 1:]).square()
            losses["consistency"] = difference.mean(dim=-1)
        return losses

    def _project(self, latents: Latents) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            key = self.key_projection(latents.z_key)
        return self.projection(latents.z), key

    def _augmentation(self, batch: Batch, query: Tensor, key: Tensor) -> Tensor:
        mask = is_near(batch.episode, batch.time, self.options.near_window)
        if self.options.similarity == "bilinear":
            return info_nce(
                query, key, temperature=1.0, similarity="bilinear", weight=self.bilinear, mask=mask
            )
        return info_nce(query, key, temperature=self.options.temperature, mask=mask)

    def _temporal(self, batch: Batch, query: Tensor, key: Tensor) -> Tensor:
        episode, time = self._key_positions(batch)
        # what stands beyond the end of an episode is nobody's negative; as a query its loss counts nothing
        beyond = (~batch.alive[:, :-1]).flatten()
        mask = (is_near(episode, time, self.options.near_window) | beyond).fill_diagonal_(False)
        losses = info_nce(
            query.flatten(0, 1), key.flatten(0, 1), temperature=self.options.temperature, mask=mask
        )
        return losses.unflatten(0, query.shape[:2])

    @staticmethod
    def _key_positions(batch: Batch) -> tuple[Tensor, Tensor]:
        """Episode and time of the flattened keys of obs[t+1..t+H], each (B*H,)."""
        steps = torch.arange(1, batch.horizon + 1, device=batch.time.device)
        time = (batch.time[:, None] + steps).flatten()
        return batch.episode.repeat_interleave(batch.horizon), time

    def after_step(self) -> None:
        """Move the key projection towards the projection."""
        if self.has_projection:
            ema_update(self.key_projection, self.projection, self.options.key_tau)

    def metrics(self, batch: Batch, latents: Latents) -> dict[str, Tensor]:
        """Retrieval accuracy for each horizon, and far same-episode negatives a query."""
        query, key = self._project(latents) if self.has_projection else (latents.z, latents.z_key)
        reached = torch.cat((batch.alive[:, :1], batch.alive[:, :-1]), dim=1)  # (B, H + 1), before any end
        found = {
            f"retrieval_{k}": retrieval_accuracy(query[reached[:, k], k], key[reached[:, k], k])
            for k in range(query.shape[1])
        }
        episode, time = (each[reached[:, 1:].flatten()] for each in self._key_positions(batch))
        far = is_far(episode, time, self.options.near_window)
        return {**found, "far_negatives": far.float().sum(dim=1).mean()}
