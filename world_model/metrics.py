"""What a representation looks like: 0-d tensors, float32 or wider, on the device of their input."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from world_model.checks import check_pair
from world_model.losses import at_least_float32


def alignment(x: Tensor, y: Tensor, alpha: float = 2) -> Tensor:
    """Mean distance of positive pairs, mean_i ‖x_i - y_i‖^alpha.

    Args:
        x: features, (B, P); L2-normalised here.
        y: features of the same things seen otherwise, (B, P); L2-normalised here.
        alpha: power of the Euclidean distance, > 0.

    Returns:
        0-d; with alpha 2 between 0 (identical) and 4 (opposite).

    Raises:
        ValueError: shapes differ, or there is no row.

    Source: Wang & Isola 2020, arXiv:2005.10242, section 4.1.
    """
    check_pair("x", x, "y", y)
    x, y = (F.normalize(rows, dim=1) for rows in at_least_float32(x, y))
    distance: Tensor = torch.linalg.vector_norm(x - y, dim=1)
    return distance.pow(alpha).mean()


def uniformity(x: Tensor, t: float = 2) -> Tensor:
    """How evenly features cover the sphere, log mean_{i<j} exp(-t ‖x_i - x_j‖²).

    Args:
        x: features, (B, P), B >= 2; L2-normalised here.
        t: sharpness of the Gaussian kernel, > 0.

    Returns:
        0-d, at most 0 (collapsed); lower is more uniform.

    Raises:
        ValueError: not two rows at least.

    Source: Wang & Isola 2020, arXiv:2005.10242, section 4.1.
    """
    _check_features(x, least=2)
    (x,) = at_least_float32(x)
    distance = F.pdist(F.normalize(x, dim=1))  # (B * (B - 1) / 2,)
    return torch.logsumexp(-t * distance.square(), dim=0) - math.log(len(distance))


def rank_me(features: Tensor, eps: float = 1e-7) -> Tensor:
    """Effective rank: exp(-Σ p log p) with p = s / Σs + eps over the singular values s.

    Args:
        features: (B, P), not centred here.
        eps: keeps the logarithm finite.

    Returns:
        0-d, about 1 (collapsed; all-zero features too) to min(B, P); NaN where a feature is not finite.

    Raises:
        ValueError: not a matrix with at least one row.

    Source: Garrido et al. 2022, arXiv:2210.02885, eq. 1.
    """
    _check_features(features, least=1)
    (features,) = at_least_float32(features)
    finite = features.isfinite()
    sigma = torch.linalg.svdvals(features.where(finite, 0.0))
    p = sigma / sigma.sum().clamp_min(torch.finfo(sigma.dtype).tiny) + eps
    return torch.exp(-(p * p.log()).sum()).where(finite.all(), math.nan)


def retrieval_accuracy(query: Tensor, key: Tensor) -> Tensor:
    """Share of rows whose own key has strictly the highest cosine; chance level is 1 / B.

    Cosines closer than their rounding error are ties, and ties are misses: a collapsed encoder scores 0.

    Args:
        query: (B, P).
        key: (B, P); key i belongs to query i.

    Returns:
        0-d, in [0, 1].

    Raises:
        ValueError: shapes differ, or there is no row.
    """
    check_pair("query", query, "key", key)
    with torch.autocast(query.device.type, enabled=False):
        query, key = (F.normalize(rows, dim=1) for rows in at_least_float32(query, key))
        cosine = query @ key.T
    own = cosine.diagonal()
    others = cosine.masked_fill(torch.eye(len(query), dtype=torch.bool, device=query.device), -torch.inf)
    # Equal rows need not give bit-equal products: a matrix product may sum its columns in different orders.
    rounding = 8 * torch.finfo(cosine.dtype).eps
    return (own > others.amax(dim=1) + rounding).to(cosine.dtype).mean()


def _check_features(x: Tensor, least: int) -> None:
    if x.ndim != 2 or len(x) < least:
        raise ValueError(f"expected features (B, P) with B >= {least}, found {tuple(x.shape)}")
