"""Two modalities of the same moment: pixels, and the task's own vector."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from configs.pretrain import MethodOptions
from world_model.encoder import Encoder, perceived
from world_model.layers import mlp
from world_model.losses import info_nce
from world_model.metrics import retrieval_accuracy
from world_model.pretrain.method import PairMethod
from world_model.pretrain.samples import Pairs, Rows, Samples, Views

MAX_SCALE = 100.0


class CLIP(PairMethod):
    """Pixels have to find their state among all states of the batch, and states their pixels.

    The temperature is learnt; its inverse is kept below 100.

    Source: Radford et al. 2021, arXiv:2103.00020, figure 3 and section 2.5.
    """

    def __init__(self, encoder: Encoder, latent_dim: int, options: MethodOptions, *, state_dim: int) -> None:
        """Draw the encoder of states.

        Args:
            encoder: of pixels.
            latent_dim: size Z of what it gives.
            options: of the method.
            state_dim: D, entries of the task's own vector.
        """
        super().__init__(encoder, latent_dim, options)
        self.state_encoder = mlp(state_dim, options.hidden_dim, options.projection_dim)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(options.temperature)))

    def learnt_in_losses(self) -> Iterable[nn.Parameter]:
        """The temperature."""
        return (self.log_scale,)

    def embed(self, samples: Samples, views: Views) -> Rows:
        """Projections `pixels` and `state`, (B, P) each."""
        assert isinstance(samples, Pairs)
        return {
            "pixels": self.projection(self.encoder(*self.seen(samples, views, 0))),
            "state": self.state_encoder(perceived(samples.proprio)),
        }

    def losses(self, rows: Rows) -> dict[str, Tensor]:
        """Loss `contrast`, the mean of both ways."""
        scale = self.log_scale.exp().clamp(max=MAX_SCALE)
        pixels, state = (nn.functional.normalize(rows[name], dim=1) for name in ("pixels", "state"))
        both = [
            info_nce(scale * query, key, temperature=1.0, similarity="dot", tile=self.tile)
            for query, key in ((pixels, state), (state, pixels))
        ]
        return {"contrast": (both[0] + both[1]).mean() / 2}

    def compared(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Pixels and states."""
        return rows["pixels"], rows["state"]

    def metrics(self, rows: Rows) -> dict[str, Tensor]:
        """Retrieval both ways, and the temperature."""
        pixels, state = self.compared(rows)
        return {
            "retrieval_state_of_pixels": retrieval_accuracy(pixels, state),
            "retrieval_pixels_of_state": retrieval_accuracy(state, pixels),
            "temperature": (-self.log_scale).exp(),
        }
