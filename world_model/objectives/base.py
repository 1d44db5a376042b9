"""The seam between the agent and what it learns its representation from."""

from __future__ import annotations

from torch import Tensor, nn

from world_model.batch import Batch, Latents


class Objective(nn.Module):
    """A representation objective: unreduced losses, their weights, and what to do after a step.

    The agent never asks which objective it has. This base class is the objective `none`.

    Attributes:
        weights: weight of each loss that `forward` returns, under the same keys.
    """

    def __init__(self) -> None:
        """No losses."""
        super().__init__()
        self.weights: dict[str, float] = {}

    def forward(self, batch: Batch, latents: Latents) -> dict[str, Tensor]:
        """Losses by name, each (B,) for one at obs[t], or (B, H) for one at each of obs[t+1..t+H]."""
        return {}

    def after_step(self) -> None:
        """Update moving averages; called once after every gradient step."""

    def metrics(self, batch: Batch, latents: Latents) -> dict[str, Tensor]:
        """Diagnostics as 0-d tensors; called now and then, without gradient."""
        return {}
