"""The seam between the loop and what it learns from."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from configs.pretrain import MethodOptions
from world_model.encoder import Encoder, perceived
from world_model.layers import mlp
from world_model.metrics import retrieval_accuracy
from world_model.momentum import ema_update
from world_model.nearness import Surroundings
from world_model.pretrain.samples import Pairs, Rows, Samples, Views


def positions(samples: Pairs) -> Rows:
    """Where the halves of each pair stand, int64 (B,) each; the second one is never the earlier one."""
    return {"episode": samples.episode, "time": samples.time, "later_time": samples.later_time}


def around_pairs(rows: Rows, window: int, key_episode: Tensor, key_time: Tensor) -> Surroundings:
    """Keys from `window` decisions before a pair's first half to as many after its second one.

    Args:
        rows: with `positions` of the queries.
        window: decisions; 0 for the pair's own states and those between them.
        key_episode: of the keys, int64 (K,).
        key_time: of the keys, int64 (K,).
    """
    first, last = rows["time"] - window, rows["later_time"] + window
    return Surroundings(rows["episode"], first, last, key_episode, key_time)


class Method(nn.Module):
    """A way to learn an encoder without rewards.

    It is split in two, so that rows may lie in several processes, or be encoded in several pieces: `embed`
    looks at each row by itself, `losses` compares the rows of all.

    Attributes:
        encoder: what is kept in the end.
    """

    encoder: Encoder

    @abstractmethod
    def embed(self, samples: Samples, views: Views) -> Rows:
        """What the losses need of each row, (B, ...) each; the same for a row whatever the others are."""

    @abstractmethod
    def losses(self, rows: Rows) -> dict[str, Tensor]:
        """Losses of all rows, 0-d by name; their sum is learnt from."""

    def learnt_in_losses(self) -> Iterable[nn.Parameter]:
        """Parameters that `losses` uses, where there are any: all processes have their whole gradient."""
        return ()

    @torch.no_grad()
    def after_step(self, rows: Rows, momentum: float) -> None:
        """Move averages and fill queues; called once after every gradient step.

        Args:
            rows: of all processes, as `losses` saw them.
            momentum: step of the moving averages towards what was learnt.
        """

    def compared(self, rows: Rows) -> tuple[Tensor, Tensor] | None:
        """Queries and keys that ought to find each other, (B, P) twice, where there are such."""
        return None

    def metrics(self, rows: Rows) -> dict[str, Tensor]:
        """Diagnostics as 0-d tensors; called now and then, without gradient."""
        pair = self.compared(rows)
        return {} if pair is None else {"retrieval": retrieval_accuracy(*pair)}


class PairMethod(Method):
    """A method that compares projections of the two halves of each pair."""

    def __init__(self, encoder: Encoder, latent_dim: int, options: MethodOptions) -> None:
        """Draw the projection head, which is dropped in the end.

        Args:
            encoder: what learns.
            latent_dim: size Z of what it gives.
            options: of the method.
        """
        super().__init__()
        self.encoder, self.options = encoder, options
        self.projection: nn.Module = mlp(latent_dim, options.hidden_dim, options.projection_dim)

    def seen(self, pairs: Pairs, views: Views, half: int) -> tuple[Tensor, Tensor]:
        """Augmented pixels and the vectors of one half of each pair."""
        pixels, proprio = (pairs.pixels, pairs.proprio) if half == 0 else (pairs.later, pairs.later_proprio)
        if self.encoder.pixels is not None:
            pixels = views.images(pixels, pairs.row, half)
        proprio = perceived(proprio)
        if self.encoder.proprio is not None:
            proprio = views.vectors(proprio, pairs.row, half)
        return pixels, proprio

    def embed(self, samples: Samples, views: Views) -> Rows:
        """Projections `view_1` and `view_2`, (B, P) each."""
        assert isinstance(samples, Pairs)
        first, second = (self.projection(self.encoder(*self.seen(samples, views, half))) for half in (0, 1))
        return {"view_1": first, "view_2": second}

    def compared(self, rows: Rows) -> tuple[Tensor, Tensor] | None:
        """The two projections."""
        return rows["view_1"], rows["view_2"]

    @property
    def near_window(self) -> int:
        """Decisions up to which states of an episode are no negatives."""
        assert self.options.near_window is not None, "see MethodOptions.for_method"
        return self.options.near_window

    @property
    def tile(self) -> int | None:
        """Rows that a contrastive loss scores at a time; None for all."""
        return self.options.tile or None


class MomentumMethod(PairMethod):
    """A method whose keys come from moving averages of encoder and projection."""

    def __init__(self, encoder: Encoder, latent_dim: int, options: MethodOptions) -> None:
        """Averages start as copies."""
        super().__init__(encoder, latent_dim, options)
        self._start_averages()

    def _start_averages(self) -> None:
        self.key_encoder = copy.deepcopy(self.encoder).requires_grad_(False)
        self.key_projection = copy.deepcopy(self.projection).requires_grad_(False)

    def query(self, samples: Samples, views: Views, half: int) -> Tensor:
        """Projections of one half, (B, P)."""
        assert isinstance(samples, Pairs)
        return self.projection(self.encoder(*self.seen(samples, views, half)))

    @torch.no_grad()
    def key(self, samples: Samples, views: Views, half: int) -> Tensor:
        """Projections of one half by the averages, (B, P), without gradient."""
        assert isinstance(samples, Pairs)
        return self.key_projection(self.key_encoder(*self.seen(samples, views, half)))

    @torch.no_grad()
    def after_step(self, rows: Rows, momentum: float) -> None:
        """Move the averages."""
        ema_update(self.key_encoder, self.encoder, momentum)
        ema_update(self.key_projection, self.projection, momentum)
