"""Methods that learn from pairs of views: SimCLR, MoCo, BYOL, Barlow Twins, VICReg, distances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from configs.pretrain import MethodOptions
from world_model.encoder import Encoder
from world_model.layers import mlp
from world_model.losses import byol, info_nce, nt_xent, standardised
from world_model.memory import EMPTY, KeyQueue
from world_model.nearness import choose_far, is_near
from world_model.pretrain.method import MomentumMethod, PairMethod, around_pairs, positions
from world_model.pretrain.samples import Pairs, Rows, Samples, Views


class SimCLR(PairMethod):
    """Each view has to find the other one among all views of the batch (NT-Xent).

    Views of states near the pair's own are left out: of the same state alone, unless a window is given.

    Source: Chen et al. 2020, arXiv:2002.05709, algorithm 1, where no image is twice in a batch; heads have
    LayerNorm instead of BatchNorm.
    """

    def embed(self, samples: Samples, views: Views) -> Rows:
        """Projections `view_1` and `view_2`, (B, P) each, and where they are from."""
        assert isinstance(samples, Pairs)
        return super().embed(samples, views) | positions(samples)

    def losses(self, rows: Rows) -> dict[str, Tensor]:
        """Loss `contrast`."""
        options = self.options
        twice = {name: rows[name].repeat(2) for name in ("episode", "time", "later_time")}
        times = torch.cat((rows["time"], rows["later_time"]))
        loss = nt_xent(
            rows["view_1"],
            rows["view_2"],
            temperature=options.temperature,
            decoupled=options.decoupled,
            leave_out=around_pairs(twice, self.near_window, twice["episode"], times),
            tile=self.tile,
        )
        return {"contrast": loss.mean()}


class _Matching(MomentumMethod):
    """Queries from first halves, momentum keys from second ones."""

    def embed(self, samples: Samples, views: Views) -> Rows:
        """Projections `query` and `key`, (B, P) each, and where they are from."""
        assert isinstance(samples, Pairs)
        rows = {"query": self.query(samples, views, 0), "key": self.key(samples, views, 1)}
        return rows | positions(samples)

    def compared(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Queries and keys."""
        return rows["query"], rows["key"]


class MoCo(_Matching):
    """Each query has to find its momentum key among earlier keys (v1, v2): a dictionary as a queue.

    The other keys of the batch are negatives, too: they are the queue's newest at the next step. Keys of
    states near the pair's own are none: of the same state alone, unless a window is given.

    Source: He et al. 2020, arXiv:1911.05722, algorithm 1, where a queue is shorter than the data; deep
    projection: arXiv:2003.04297.
    """

    def __init__(self, encoder: Encoder, latent_dim: int, options: MethodOptions) -> None:
        """An empty queue; v1 has a linear projection."""
        super().__init__(encoder, latent_dim, options)
        if options.moco == "v1":
            self.projection = nn.Linear(latent_dim, options.projection_dim)
            self._start_averages()
        self.queue = KeyQueue(options.queue, options.projection_dim) if options.queue else None

    def losses(self, rows: Rows) -> dict[str, Tensor]:
        """Loss `contrast`."""
        negatives, episode, time = None, rows["episode"], rows["later_time"]
        if self.queue is not None:
            held = self.queue.episode != EMPTY
            negatives = self.queue.key[held].to(rows["key"].dtype)
            episode = torch.cat((episode, self.queue.episode[held]))
            time = torch.cat((time, self.queue.time[held]))
        loss = info_nce(
            rows["query"],
            rows["key"],
            temperature=self.options.temperature,
            negatives=negatives,
            leave_out=around_pairs(rows, self.near_window, episode, time),
            tile=self.tile,
        )
        return {"contrast": loss.mean()}

    @torch.no_grad()
    def after_step(self, rows: Rows, momentum: float) -> None:
        """Move the averages, and put the keys of all processes into the queue."""
        super().after_step(rows, momentum)
        if self.queue is not None:
            self.queue.push(rows["key"], rows["episode"], rows["later_time"])


class _Predicting(MomentumMethod):
    """Predictions from each half's projection, momentum keys of the other half."""

    def __init__(self, encoder: Encoder, latent_dim: int, options: MethodOptions) -> None:
        super().__init__(encoder, latent_dim, options)
        self.predictor = mlp(options.projection_dim, options.hidden_dim, options.projection_dim)

    def embed(self, samples: Samples, views: Views) -> Rows:
        """Predictions `prediction_1`, `prediction_2` and keys `key_1`, `key_2`, (B, P) each."""
        rows = {}
        for half in (0, 1):
            rows[f"prediction_{half + 1}"] = self.predictor(self.query(samples, views, half))
            rows[f"key_{half + 1}"] = self.key(samples, views, half)
        return rows

    def compared(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Predictions from first halves and keys of second ones."""
        return rows["prediction_1"], rows["key_2"]


class MoCo3(_Predicting):
    """Each half's prediction has to find the other's key among those of the batch; no queue (v3).

    Keys of states near the pair's own are no negatives, as in `MoCo`.

    Source: Chen et al. 2021, arXiv:2104.02057, algorithm 1, with its factor of 2 x temperature.
    """

    def embed(self, samples: Samples, views: Views) -> Rows:
        """Predictions and keys, (B, P) each, and where they are from."""
        assert isinstance(samples, Pairs)
        return super().embed(samples, views) | positions(samples)

    def losses(self, rows: Rows) -> dict[str, Tensor]:
        """Loss `contrast`."""
        temperature = self.options.temperature
        both = [
            info_nce(
                rows[f"prediction_{i}"],
                rows[f"key_{j}"],
                temperature=temperature,
                leave_out=around_pairs(rows, self.near_window, rows["episode"], rows[time]),
                tile=self.tile,
            )
            for i, j, time in ((1, 2, "later_time"), (2, 1, "time"))
        ]
        return {"contrast": 2 * temperature * (both[0] + both[1]).mean()}


class BYOL(_Predicting):
    """Each half's prediction near the other's key, and nothing to keep apart.

    Heads have LayerNorm, and keys are standardised over the batch of all processes. Without that, which is
    what BatchNorm in the heads of the paper does, all latents become one within 100 updates.

    Source: Grill et al. 2020, arXiv:2006.07733, eq. 2, both ways.
    """

    def losses(self, rows: Rows) -> dict[str, Tensor]:
        """Loss `bootstrap`."""
        both = [byol(rows[f"prediction_{i}"], standardised(rows[f"key_{j}"])) for i, j in ((1, 2), (2, 1))]
        return {"bootstrap": (both[0] + both[1]).mean()}

    def compared(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Predictions from first halves and standardised keys of second ones."""
        return rows["prediction_1"], standardised(rows["key_2"])


class Redundancy(PairMethod):
    """A loss of two batches of projections that uses their statistics: Barlow Twins, VICReg."""

    def __init__(
        self,
        encoder: Encoder,
        latent_dim: int,
        options: MethodOptions,
        *,
        loss: Callable[[Tensor, Tensor], Tensor],
    ) -> None:
        """Use a loss of two (B, P) that gives one value."""
        super().__init__(encoder, latent_dim, options)
        self.loss = loss

    def losses(self, rows: Rows) -> dict[str, Tensor]:
        """Loss `redundancy`."""
        return {"redundancy": self.loss(rows["view_1"], rows["view_2"])}


class DistanceLoss(Protocol):
    """A loss of distances, a value per row."""

    def __call__(self, query: Tensor, key: Tensor, negative: Tensor, /, *, margin: float) -> Tensor:
        """Queries, their own keys and far ones, (N, P) three times -> (N,)."""


class Distances(_Matching):
    """Queries near their own keys, and away from one far key each: triplet, margin.

    The negative is a key of the same episode further away than the near window, where the batch has one, else
    one of another episode.
    """

    def __init__(
        self,
        encoder: Encoder,
        latent_dim: int,
        options: MethodOptions,
        *,
        loss: DistanceLoss,
    ) -> None:
        """Use this loss."""
        super().__init__(encoder, latent_dim, options)
        self.loss = loss

    def losses(self, rows: Rows) -> dict[str, Tensor]:
        """Loss `distance`."""
        episode, time = rows["episode"], rows["later_time"]
        near = is_near(episode, time, self.near_window)
        negative = rows["key"][choose_far(near, episode[:, None] == episode)]
        loss = self.loss(rows["query"], rows["key"], negative, margin=self.options.margin)
        return {"distance": loss.mean()}
