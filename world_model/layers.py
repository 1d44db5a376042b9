"""Layers that every network here is built from."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SimNorm(nn.Module):
    """Softmax within groups of latent entries, (..., Z) -> (..., Z).

    Source: TD-MPC2, arXiv:2310.16828, section 3.1.
    """

    def __init__(self, group: int) -> None:
        """Build it for groups of `group` entries."""
        super().__init__()
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        """Each group of `group` neighbours sums to one, in float32 or wider."""
        dtype = torch.promote_types(x.dtype, torch.float32)  # autocast would do so on CUDA, and not on a CPU
        return x.unflatten(-1, (-1, self.group)).softmax(dim=-1, dtype=dtype).flatten(-2)


def mlp(in_dim: int, hidden_dim: int, out_dim: int, *, zero_output: bool = False) -> nn.Sequential:
    """Two hidden layers, each linear -> LayerNorm -> SiLU, and a linear output.

    Args:
        in_dim: input width.
        hidden_dim: width of both hidden layers.
        out_dim: output width.
        zero_output: start with all outputs at zero (uniform logits).
    """
    network = nn.Sequential(
        nn.Linear(in_dim, hidden_dim),
        nn.LayerNorm(hidden_dim),
        nn.SiLU(),
        nn.Linear(hidden_dim, hidden_dim),
        nn.LayerNorm(hidden_dim),
        nn.SiLU(),
        output := nn.Linear(hidden_dim, out_dim),
    )
    for layer in network:
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=1 / math.sqrt(layer.in_features))
            nn.init.zeros_(layer.bias)
    if zero_output:
        nn.init.zeros_(output.weight)
    return network


class EnsembleLinear(nn.Module):
    """N independent linear layers in one batched product, (N, B, in) -> (N, B, out)."""

    def __init__(self, members: int, in_dim: int, out_dim: int, *, zero: bool = False) -> None:
        """Draw the weights, or start at zero."""
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(members, in_dim, out_dim))
        self.bias = nn.Parameter(torch.zeros(members, 1, out_dim))
        if not zero:
            nn.init.trunc_normal_(self.weight, std=1 / math.sqrt(in_dim))

    def forward(self, x: Tensor) -> Tensor:
        """Each member applies its own weights to its own rows."""
        return torch.baddbmm(self.bias, x, self.weight)


class EnsembleNorm(nn.Module):
    """LayerNorm with gains and offsets of its own for each member, (N, B, D) -> (N, B, D)."""

    def __init__(self, members: int, dim: int) -> None:
        """Start as the plain normalisation."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(members, 1, dim))
        self.bias = nn.Parameter(torch.zeros(members, 1, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis."""
        return torch.addcmul(self.bias, F.layer_norm(x, x.shape[-1:]), self.weight)


class EnsembleMLP(nn.Module):
    """N independent networks of the shape of `mlp` on the same input, (B, in) -> (N, B, out)."""

    def __init__(self, members: int, in_dim: int, hidden_dim: int, out_dim: int) -> None:
        """Build the members; their outputs start at zero."""
        super().__init__()
        self.members = members
        self.layers = nn.Sequential(
            EnsembleLinear(members, in_dim, hidden_dim),
            EnsembleNorm(members, hidden_dim),
            nn.SiLU(),
            EnsembleLinear(members, hidden_dim, hidden_dim),
            EnsembleNorm(members, hidden_dim),
            nn.SiLU(),
            EnsembleLinear(members, hidden_dim, out_dim, zero=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """All members see every row; leading axes of x are kept: (..., in) -> (N, ..., out)."""
        rows = x.reshape(1, -1, x.shape[-1]).expand(self.members, -1, -1)
        return self.layers(rows).unflatten(1, x.shape[:-1])
