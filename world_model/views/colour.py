"""Colours of stacked frames, each frame by itself: operations on (B, 3 * S, H, W), [0, 255].

Brightness, contrast, saturation and hue are those of torchvision's ColorJitter, which SimCLR's appendix A
(arXiv:2002.05709) calls by name. Deviation: their order is fixed, where theirs is drawn.
"""

from __future__ import annotations

import torch
from torch import Tensor

_WEIGHTS = (0.299, 0.587, 0.114)
"""Of red, green and blue in the grey that is as bright (ITU-R BT.601)."""


def jitter(images: Tensor, values: Tensor) -> Tensor:
    """Change brightness, contrast, saturation and hue, in this order, clipped to [0, 255] after each.

    Args:
        images: floating point, (B, 3 * S, H, W).
        values: factors of the first three, >= 0, and the move of the hue in turns, (B, 4).
    """
    factors = values.to(images.dtype)[:, :, None, None, None, None]  # (B, 4) -> (B, 4, 1, 1, 1, 1)
    brightness, contrast, saturation, turns = factors.unbind(1)
    x = (images.unflatten(1, (-1, 3)) * brightness).clamp_(0, 255)  # (B, S, 3, H, W)
    mean = _grey(x).mean((-2, -1), keepdim=True)
    x = torch.lerp(mean, x, contrast).clamp_(0, 255)
    x = torch.lerp(_grey(x), x, saturation).clamp_(0, 255)
    return _turn_hue(x, turns.squeeze(2)).flatten(1, 2)


def greyscale(images: Tensor) -> Tensor:
    """Three times the grey that is as bright; floating point, (B, 3 * S, H, W)."""
    x = images.unflatten(1, (-1, 3))
    return _grey(x).expand_as(x).flatten(1, 2)


def solarise(images: Tensor) -> Tensor:
    """Turn the bright half of the values round; any dtype.

    Source: BYOL, arXiv:2006.07733, appendix B. Theirs turns from 0.5 on, ours from 128 of 255.
    """
    return torch.where(images >= 128, 255 - images, images)


def _grey(x: Tensor) -> Tensor:
    """(B, S, 3, H, W) -> (B, S, 1, H, W)."""
    red, green, blue = (x.narrow(2, channel, 1) for channel in range(3))
    return (red * _WEIGHTS[0]).add_(green, alpha=_WEIGHTS[1]).add_(blue, alpha=_WEIGHTS[2])


def _turn_hue(x: Tensor, turns: Tensor) -> Tensor:
    """Move the hue of HSV; saturation and value stay.

    Args:
        x: (B, S, 3, H, W).
        turns: (B, 1, 1, 1).
    """
    red, green, blue = x.unbind(2)
    high = x.amax(2)
    chroma = high - x.amin(2)
    # greys have no hue, and their differences are 0 whatever they are divided by
    scale = chroma.clamp(min=torch.finfo(x.dtype).tiny).reciprocal_()
    sixth = torch.where(
        high == red,
        (green - blue) * scale,
        torch.where(high == green, (blue - red) * scale + 2, (red - green) * scale + 4),
    )
    sixth += 6 * turns
    sixth -= (sixth / 6).floor_().mul_(6)  # in [0, 6]
    result = torch.empty_like(x)
    # how much of the chroma each channel lacks, along the hexagon of hues
    lacks = (2 - (sixth - 3).abs(), (sixth - 2).abs() - 1, (sixth - 4).abs() - 1)
    for channel, lack in enumerate(lacks):
        torch.sub(high, lack.clamp_(0, 1).mul_(chroma), out=result[:, :, channel])
    return result
