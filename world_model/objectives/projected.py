"""What objectives share that compare projections of latents with those of momentum keys."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from configs.world_model import WorldModelOptions
from envs.spec import EnvSpec
from world_model.batch import Latents
from world_model.layers import mlp
from world_model.momentum import ema_update
from world_model.objectives.base import Objective


class Projected(Objective):
    """Queries p(z) and keys p̄(z̄): a projection head and its moving average, dropped for acting."""

    def __init__(self, env_spec: EnvSpec, options: WorldModelOptions) -> None:
        """Draw the projection; its average starts as a copy."""
        super().__init__(env_spec, options)
        self.projection = mlp(options.latent_dim, options.hidden_dim, options.projection_dim)
        self.key_projection = copy.deepcopy(self.projection).requires_grad_(False)

    @torch.no_grad()
    def key(self, latent: Tensor) -> Tensor:
        """Projection of momentum latents by the moving average, (..., Z) -> (..., P), without gradient."""
        key: Tensor = self.key_projection(latent)
        return key

    def compared(self, latents: Latents) -> tuple[Tensor, Tensor]:
        """Queries (B, H + 1, P), and keys of the same shape without gradient."""
        return self.projection(latents.z), self.key(latents.z_key)

    def after_step(self) -> None:
        """Move the key projection towards the projection."""
        ema_update(self.key_projection, self.projection, self.options.key_tau)
