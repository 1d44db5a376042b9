"""Two modalities of the same moment: pixels, and the task's own vector."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from configs.pretrain import MethodOptions
from world_model.encoder import Encoder, perceived
from world_model.encoder_file import fingerprint
from world_model.layers import mlp
from world_model.losses import info_nce
from world_model.metrics import retrieval_accuracy
from world_model.pretrain.method import PairMethod, around_pairs, positions
from world_model.pretrain.samples import Pairs, Rows, Samples, Views
from world_model.towers import TowerFacts, Towers

LARGEST_LOG_SCALE = math.log(100.0)


class CLIP(PairMethod):
    """Pixels have to find their state among all states of the batch, and states their pixels.

    States near the pair's own are no negatives, nor are their pixels: of the same state alone, unless a
    window is given.

    The temperature is learnt; its inverse is kept at 100 at most, by moving the parameter back after a step:
    clamped in the loss instead, it would have no gradient beyond, and never return.

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
        self._latent_dim, self._state_dim = latent_dim, state_dim
        self.state_encoder = mlp(state_dim, options.hidden_dim, options.projection_dim)
        self.log_scale = nn.Parameter(torch.tensor(min(-math.log(options.temperature), LARGEST_LOG_SCALE)))

    def learnt_in_losses(self) -> Iterable[nn.Parameter]:
        """The temperature."""
        return (self.log_scale,)

    def embed(self, samples: Samples, views: Views) -> Rows:
        """Projections `pixels` and `state`, (B, P) each, and where they are from."""
        assert isinstance(samples, Pairs)
        projected = {
            "pixels": self.projection(self.encoder(*self.seen(samples, views, 0))),
            "state": self.state_encoder(perceived(samples.proprio)),
        }
        return projected | positions(samples)

    def losses(self, rows: Rows) -> dict[str, Tensor]:
        """Loss `contrast`, the mean of both ways."""
        scale = self.log_scale.exp()
        pixels, state = (nn.functional.normalize(rows[name], dim=1) for name in ("pixels", "state"))
        near = around_pairs(rows, self.near_window, rows["episode"], rows["time"])
        both = [
            info_nce(scale * query, key, temperature=1.0, similarity="dot", leave_out=near, tile=self.tile)
            for query, key in ((pixels, state), (state, pixels))
        ]
        return {"contrast": (both[0] + both[1]).mean() / 2}

    @torch.no_grad()
    def after_step(self, rows: Rows, momentum: float) -> None:
        """Keep the temperature in its range."""
        self.log_scale.clamp_(max=LARGEST_LOG_SCALE)

    def towers(self) -> Towers:
        """What finds states by pixels, and pixels by states, beside the encoder: with weights of its own."""
        facts = TowerFacts(
            encoder=fingerprint(self.encoder),
            latent_dim=self._latent_dim,
            proprio_dim=self._state_dim,
            hidden_dim=self.options.hidden_dim,
            projection_dim=self.options.projection_dim,
        )
        with torch.random.fork_rng(devices=[]):  # the weights drawn here are replaced
            towers = Towers(facts)
        towers.projection.load_state_dict(self.projection.state_dict())
        towers.state_encoder.load_state_dict(self.state_encoder.state_dict())
        return towers

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
