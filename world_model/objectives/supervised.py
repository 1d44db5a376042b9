"""Labels: the true state of the task, read off the latents. An upper bound, not a method."""

from __future__ import annotations

from torch import Tensor

from configs.world_model import WorldModelOptions
from envs.spec import EnvSpec
from world_model.batch import Batch, Latents
from world_model.encoder import perceived
from world_model.layers import mlp
from world_model.objectives.base import Objective, consistency


class Supervised(Objective):
    """The task's own observation vector from each latent, encoded or imagined; consistency.

    The vector holds positions (angles as cosine and sine) and velocities, and what else the task tells of
    itself, such as where a target lies. Its entries are compared on the symlog axis.
    """

    def __init__(self, env_spec: EnvSpec, options: WorldModelOptions) -> None:
        """Draw the head."""
        super().__init__(env_spec, options)
        self.head = mlp(options.latent_dim, options.hidden_dim, env_spec.proprio_dim)
        self.weights = {
            "label": options.label_weight,
            "future_label": options.label_weight,
            "consistency": options.consistency_weight,
        }

    def forward(self, batch: Batch, latents: Latents) -> dict[str, Tensor]:
        """Losses: `label` (B,) and `future_label` (B, H), mean squared errors; `consistency` (B, H)."""
        error = (self.head(latents.z) - perceived(batch.proprio)).square().mean(dim=-1)
        return {"label": error[:, 0], "future_label": error[:, 1:], "consistency": consistency(latents)}
