"""The seam between the agent and what it learns its representation from."""

from __future__ import annotations

from torch import Tensor, nn

from configs.world_model import WorldModelOptions
from envs.spec import EnvSpec
from world_model.batch import Batch, Latents
from world_model.metrics import retrieval_accuracy
from world_model.nearness import is_far


class Objective(nn.Module):
    """A representation objective: unreduced losses, their weights, and what to do after a step.

    The agent never asks which objective it has. This base class is the objective `none`.

    Attributes:
        weights: weight of each loss that `forward` returns, under the same keys.
    """

    def __init__(self, env_spec: EnvSpec, options: WorldModelOptions) -> None:
        """No losses."""
        super().__init__()
        self.env_spec = env_spec
        self.options = options
        self.weights: dict[str, float] = {}

    def forward(self, batch: Batch, latents: Latents) -> dict[str, Tensor]:
        """Losses by name, each (B,) for one at obs[t], or (B, H) for one at each of obs[t+1..t+H].

        One value for the whole batch is 0-d, or (1, H).
        """
        return {}

    def after_step(self) -> None:
        """Update moving averages; called once after every gradient step."""

    def key(self, latent: Tensor) -> Tensor:
        """What is compared of momentum latents, (..., Z) -> (..., P): the latents themselves."""
        return latent

    def compared(self, latents: Latents) -> tuple[Tensor, Tensor]:
        """Queries and keys that ought to find each other, (B, H + 1, ·) twice: the latents themselves."""
        return latents.z, latents.z_key

    def metrics(self, batch: Batch, latents: Latents) -> dict[str, Tensor]:
        """Diagnostics as 0-d tensors; called now and then, without gradient.

        Retrieval accuracy for each horizon 0..H that an episode of the batch got to, and the keys of a
        query's own episode that are far from it.
        """
        query, key = self.compared(latents)
        found = {
            f"retrieval_{k}": retrieval_accuracy(query[seen, k], key[seen, k])
            for k, seen in enumerate(batch.was_seen.unbind(dim=1))
            if seen.any()
        }
        # obs[t+1] at least was seen in every window
        episode, time = (each[batch.was_seen[:, 1:].flatten()] for each in batch.key_positions)
        far = is_far(episode, time, self.options.near_window)
        return {**found, "far_negatives": far.float().sum(dim=1).mean()}


class Predictive(Objective):
    """Consistency alone: imagined latents near the momentum keys of what was seen.

    Source: TD-MPC2, arXiv:2310.16828, eq. 3, first term; SimNorm and the momentum keys keep it from collapse.
    """

    def __init__(self, env_spec: EnvSpec, options: WorldModelOptions) -> None:
        """One loss."""
        super().__init__(env_spec, options)
        self.weights = {"consistency": options.consistency_weight}

    def forward(self, batch: Batch, latents: Latents) -> dict[str, Tensor]:
        """Losses: `consistency` (B, H)."""
        return {"consistency": consistency(latents)}


def consistency(latents: Latents) -> Tensor:
    """Mean squared error of imagined latents to momentum keys, (B, H)."""
    return (latents.z[:, 1:] - latents.z_key[:, 1:]).square().mean(dim=-1)
