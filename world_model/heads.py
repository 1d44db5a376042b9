"""Heads on latents: dynamics, and scalars predicted as two-hot classifications."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from configs.world_model import WorldModelOptions
from world_model.layers import SimNorm, mlp


def symlog(x: Tensor) -> Tensor:
    """sign(x) log(1 + |x|)  (DreamerV3, arXiv:2301.04104, eq. 1)."""
    return x.sign() * x.abs().log1p()


def symexp(x: Tensor) -> Tensor:
    """Inverse of `symlog`."""
    return x.sign() * x.abs().expm1()


class TwoHot(nn.Module):
    """Scalars as distributions over bins that are equally spaced on the symlog axis.

    A target between two bins is split between them so that the mean of the bins is the target itself
    (DreamerV3, arXiv:2301.04104, section "Critic learning"). Averaging logarithms instead, as TD-MPC2
    does, decodes a geometric mean, which is too low wherever the distribution is wide; in
    bootstrapped values that error compounds.
    """

    centers: Tensor

    def __init__(self, bins: int, limit: float) -> None:
        """Place `bins` bins on [-limit, limit] of the symlog axis."""
        super().__init__()
        self.limit = limit
        self.bins = bins
        self.register_buffer("centers", symexp(torch.linspace(-limit, limit, bins)), persistent=False)

    def is_clamped(self, value: Tensor) -> Tensor:
        """Whether values are beyond the outermost bins, where none can be told from another, bool (...)."""
        return (value < self.centers[0]) | (value > self.centers[-1])

    def decode(self, logits: Tensor) -> Tensor:
        """Logits (..., bins) -> mean values (...)."""
        # no matrix product, which autocast would round to bfloat16
        return (logits.float().softmax(dim=-1) * self.centers).sum(dim=-1)

    def loss(self, logits: Tensor, value: Tensor) -> Tensor:
        """Cross-entropy in nats between the two-hot of `value` and `logits`.

        Args:
            logits: (..., bins).
            value: (...); clamped to the range of the bins.

        Returns:
            (...), unreduced.

        Raises:
            ValueError: the shapes do not fit.
        """
        if logits.shape[:-1] != value.shape:
            raise ValueError(f"value: expected {tuple(logits.shape[:-1])}, found {tuple(value.shape)}")
        logits = logits.float()
        value = value.clamp(self.centers[0], self.centers[-1])
        position = (symlog(value) + self.limit) * ((self.bins - 1) / (2 * self.limit))
        index = position.floor().long().clamp(0, self.bins - 2)
        low, high = self.centers[index], self.centers[index + 1]
        share = ((value - low) / (high - low)).clamp(0, 1).unsqueeze(-1)
        index = index.unsqueeze(-1)
        picked = logits.gather(-1, index) * (1 - share) + logits.gather(-1, index + 1) * share
        return logits.logsumexp(dim=-1) - picked.squeeze(-1)


class Dynamics(nn.Module):
    """Latent dynamics d(s, a) -> z', states (..., Z + A) and actions (..., A) -> latents (..., Z)."""

    def __init__(self, action_dim: int, options: WorldModelOptions) -> None:
        """Draw the weights for actions of size A = `action_dim`."""
        super().__init__()
        self.network = nn.Sequential(
            *mlp(options.latent_dim + 2 * action_dim, options.hidden_dim, options.latent_dim),
            nn.LayerNorm(options.latent_dim),
            SimNorm(options.simnorm_group),
        )

    def forward(self, state: Tensor, action: Tensor) -> Tensor:
        """The latent one decision later."""
        return self.network(torch.cat((state, action), dim=-1))
