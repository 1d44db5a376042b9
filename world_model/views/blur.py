"""Gaussian blur of (B, C, H, W), a deviation for each row."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_SHARE = 20  # the Gaussian is cut at this part of the height on either side, the kernel is twice that


def gaussian_blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Blur with a kernel of a tenth of the height, mirrored at the edges.

    Args:
        images: floating point, [0, 255], (B, C, H, W).
        sigma: deviation in pixels, (B, 1).

    Source: SimCLR, arXiv:2002.05709, appendix A. Their padding is zero, which darkens the borders.
    """
    radius = max(1, images.shape[2] // _SHARE)
    distance = torch.arange(radius + 1, device=sigma.device, dtype=sigma.dtype)
    weight = torch.exp(-0.5 * (distance / sigma).square())  # (B, radius + 1), one half of the kernel
    weight = weight / (2 * weight.sum(1, keepdim=True) - weight[:, :1])
    weight = weight.to(images.dtype)
    blurred = _along(_along(images, weight, dim=2), weight, dim=3)
    return blurred.clamp_(0, 255)  # weights add up to one but for rounding


def _along(images: Tensor, weight: Tensor, dim: int) -> Tensor:
    radius, side = weight.shape[1] - 1, images.shape[dim]
    padding = (radius, radius, 0, 0) if dim == 3 else (0, 0, radius, radius)
    padded = F.pad(images, padding, mode="reflect")
    weights = weight[:, :, None, None, None].unbind(1)  # (B, 1, 1, 1) each
    result = images * weights[0]
    for distance in range(1, radius + 1):
        pair = padded.narrow(dim, radius - distance, side) + padded.narrow(dim, radius + distance, side)
        result.addcmul_(pair, weights[distance])
    return result
