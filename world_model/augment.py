"""Random shifts of image windows, one draw for all frames of a window; noise on vectors."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def draw_shifts(count: int, padding: int, generator: torch.Generator) -> Tensor:
    """Offsets in [-padding, padding], int64 (count, 2) as (dy, dx), on the generator's device."""
    return torch.randint(
        -padding, padding + 1, (count, 2), generator=generator, device=generator.device, dtype=torch.int64
    )


def shift(images: Tensor, shifts: Tensor) -> Tensor:
    """Move each image by its own offset, repeating the edge pixels.

    Equal to padding by replication and cropping (DrQ, arXiv:2004.13649). On the CPU by slice copies
    of bytes, several times faster there than the gather that serves other devices.

    Args:
        images: (B, ..., H, W); all leading entries of a row move together.
        shifts: int64 (B, 2), (dy, dx): output[y, x] = input[y + dy, x + dx], clamped at the edges.

    Returns:
        A new tensor of the same shape and dtype.
    """
    if shifts.shape != (images.shape[0], 2):
        raise ValueError(f"shifts: expected {(images.shape[0], 2)}, found {tuple(shifts.shape)}")
    if images.device.type == "cpu":
        return _shift_by_copies(images, shifts)
    return _shift_by_gather(images, shifts)


def perturb(x: Tensor, noise_std: float, dropout: float, generator: torch.Generator) -> Tensor:
    """Noise on vectors, and entries set to zero: makes positives of a vector, as shifts do of an image.

    Every entry of every vector has draws of its own. What is left is not scaled up, other than in dropout
    between layers: an entry keeps its meaning.

    Args:
        x: (..., D).
        noise_std: deviation of the Gaussian noise.
        dropout: probability of each entry to become zero.
        generator: draws both, on the device of x.

    Returns:
        A new tensor, (..., D).
    """
    noise = torch.randn(x.shape, generator=generator, device=x.device)
    is_kept = torch.rand(x.shape, generator=generator, device=x.device) >= dropout
    return (x + noise_std * noise) * is_kept


def _shift_by_gather(images: Tensor, shifts: Tensor) -> Tensor:
    batch, (height, width) = images.shape[0], images.shape[-2:]
    flat = images.reshape(batch, -1, height, width)
    rows = (torch.arange(height, device=images.device) + shifts[:, :1]).clamp(0, height - 1)
    columns = (torch.arange(width, device=images.device) + shifts[:, 1:]).clamp(0, width - 1)
    index = torch.arange(batch, device=images.device)[:, None, None]
    # advanced indices around the slice put the channel axis last: (B, H, W, C) -> (B, C, H, W)
    moved = flat[index, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    return moved.reshape(images.shape)


def _shift_by_copies(images: Tensor, shifts: Tensor) -> Tensor:
    source = images.numpy()
    target = np.empty_like(source)
    height, width = source.shape[-2:]
    for image, moved, (dy, dx) in zip(source, target, shifts.tolist(), strict=True):
        top, bottom = max(0, -dy), min(height, height - dy)
        left, right = max(0, -dx), min(width, width - dx)
        moved[..., top:bottom, left:right] = image[..., top + dy : bottom + dy, left + dx : right + dx]
        if left:
            moved[..., top:bottom, :left] = moved[..., top:bottom, left : left + 1]
        if right < width:
            moved[..., top:bottom, right:] = moved[..., top:bottom, right - 1 : right]
        if top:
            moved[..., :top, :] = moved[..., top : top + 1, :]
        if bottom < height:
            moved[..., bottom:, :] = moved[..., bottom - 1 : bottom, :]
    return torch.from_numpy(target)
