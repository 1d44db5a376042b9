"""Near states positive, distant states negative: the contrastive family."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from configs.world_model import WorldModelOptions
from envs.spec import EnvSpec
from world_model.batch import Batch, Latents
from world_model.losses import info_nce, multi_positive_info_nce
from world_model.memory import EMPTY, KeyQueue
from world_model.nearness import is_near
from world_model.objectives.base import consistency
from world_model.objectives.projected import Projected


class Contrastive(Projected):
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
        env_spec: EnvSpec,
        options: WorldModelOptions,
        *,
        terms: Sequence[str],
    ) -> None:
        """Build what the chosen terms need, some of `augmentation`, `temporal` and `consistency`."""
        super().__init__(env_spec, options)
        weights = {
            "augmentation": options.augmentation_weight,
            "temporal": options.temporal_weight,
            "consistency": options.consistency_weight,
        }
        self.weights = {name: weights[name] for name in terms}
        if "augmentation" in terms and options.similarity == "bilinear":
            self.bilinear = nn.Parameter(torch.eye(options.projection_dim))
        self.temporal = TemporalContrast(options) if "temporal" in terms else None

    def forward(self, batch: Batch, latents: Latents) -> dict[str, Tensor]:
        """Losses: `augmentation` (B,), `temporal` (B, H), `consistency` (B, H)."""
        losses: dict[str, Tensor] = {}
        query, key = self.compared(latents)
        if "augmentation" in self.weights:
            losses["augmentation"] = self._augmentation(batch, query[:, 0], key[:, 0])
        if self.temporal is not None:
            losses["temporal"] = self.temporal(batch, query[:, 1:], key[:, 1:])
        if "consistency" in self.weights:
            losses["consistency"] = consistency(latents)
        return losses

    def _augmentation(self, batch: Batch, query: Tensor, key: Tensor) -> Tensor:
        mask = is_near(batch.episode, batch.time, self.options.near_window)
        if self.options.similarity == "bilinear":
            return info_nce(
                query, key, temperature=1.0, similarity="bilinear", weight=self.bilinear, mask=mask
            )
        return info_nce(query, key, temperature=self.options.temperature, mask=mask)

    def after_step(self) -> None:
        """Move the key projection, and remember this batch's keys where they are asked for."""
        super().after_step()
        if self.temporal is not None:
            self.temporal.after_step()


class TemporalContrast(nn.Module):
    """InfoNCE of imagined futures against all keys of the batch, with what may be varied about it.

    - positives `near`: every state within the window is a positive, instead of the state itself alone.
    - hardness: negatives count the more, the more similar they are (Robinson et al., arXiv:2010.04592).
    - decoupled: positives are no part of the denominator (Yeh et al., arXiv:2110.06848).
    - queue: keys of earlier batches are negatives, too (MoCo, arXiv:1911.05722), unless they are near.
    """

    def __init__(self, options: WorldModelOptions) -> None:
        """Make place for the queue, if there is one."""
        super().__init__()
        self.options = options
        self.queue = KeyQueue(options.queue, options.projection_dim) if options.queue else None
        self._newest: tuple[Tensor, Tensor, Tensor] | None = None

    def forward(self, batch: Batch, query: Tensor, key: Tensor) -> Tensor:
        """Queries and keys of obs[t+1..t+H], (B, H, P) twice -> (B, H)."""
        return self.compare(query, key, *batch.key_positions, batch.is_beyond.flatten())

    def compare(self, query: Tensor, key: Tensor, episode: Tensor, time: Tensor, beyond: Tensor) -> Tensor:
        """The same, where keys stand at episodes and times, and whether beyond an end, (B * H,) each."""
        flat_query, flat_key = query.flatten(0, 1), key.flatten(0, 1)
        near = is_near(episode, time, self.options.near_window)
        # what stands beyond the end of an episode is nobody's negative; as a query its loss counts nothing
        if self._is_plain():
            mask = (near | beyond).fill_diagonal_(False)
            losses = info_nce(flat_query, flat_key, temperature=self.options.temperature, mask=mask)
        else:
            losses = self._varied(flat_query, flat_key, episode, time, near, beyond)
        return losses.unflatten(0, query.shape[:2])

    def _is_plain(self) -> bool:
        options = self.options
        return options.positives == "own" and not (options.hardness or options.decoupled or options.queue)

    def _varied(
        self, query: Tensor, key: Tensor, episode: Tensor, time: Tensor, near: Tensor, beyond: Tensor
    ) -> Tensor:
        options = self.options
        positive = torch.eye(len(query), dtype=torch.bool, device=query.device)
        if options.positives == "near":
            positive |= near & ~beyond
        ignore = (near | beyond) & ~positive
        if self.queue is not None:
            self._newest = (key, episode.masked_fill(beyond, EMPTY), time)
            key = torch.cat((key, self.queue.key))
            unfit = self.queue.is_near(episode, time, options.near_window)
            ignore = torch.cat((ignore, unfit), dim=1)
            positive = torch.cat((positive, torch.zeros_like(unfit)), dim=1)
        return multi_positive_info_nce(
            query,
            key,
            positive,
            temperature=options.temperature,
            ignore=ignore,
            decoupled=options.decoupled,
            hardness=options.hardness,
        )

    def after_step(self) -> None:
        """Put the newest keys into the queue: after the loss, so that no key meets itself there."""
        if self.queue is not None and self._newest is not None:
            self.queue.push(*self._newest)
