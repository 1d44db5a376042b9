"""Which part of the frame a view shows, and where: operations on (B, C, H, W) with parameters of each row."""

from __future__ import annotations

import torch
from torch import Tensor

COVER = 128
"""What covers a rectangle, of [0, 255]: nothing to an encoder that maps pixels to [-0.5, 0.5]."""


def mirror(images: Tensor) -> Tensor:
    """Left to right."""
    return images.flip(-1)


def resize_crop(images: Tensor, box: Tensor) -> Tensor:
    """Enlarge a box of each image to its whole size, bilinearly.

    No box is larger than the image, so that nothing is ever made smaller and needs a wider filter. Pixel
    centres are at halves; at the edges of the image, its last pixels are repeated. Pixels next to the box,
    less than one away, have a part in its border.

    Args:
        images: floating point, (B, C, H, W).
        box: top, left, height, width in pixels, (B, 4).
    """
    top, left, height, width = box.unbind(1)
    before, after, weight = _neighbours(images.shape[2], top, height)
    weight = weight[:, None, :, None].to(images.dtype)
    images = torch.lerp(_take_rows(images, before), _take_rows(images, after), weight)
    before, after, weight = _neighbours(images.shape[3], left, width)
    weight = weight[:, None, None, :].to(images.dtype)
    return torch.lerp(_take_columns(images, before), _take_columns(images, after), weight)


def _neighbours(side: int, start: Tensor, length: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where `side` points of a stretch of an axis, spread from `start` (B,) over `length` (B,), are found.

    Returns:
        Indices before and after each, int64 (B, side), and how far it is from the first to the second.
    """
    centres = torch.arange(side, device=start.device, dtype=start.dtype) + 0.5
    position = (start[:, None] + centres * (length[:, None] / side) - 0.5).clamp(0, side - 1)
    before = position.floor()
    index = before.long()
    return index, (index + 1).clamp(max=side - 1), position - before


def _take_rows(images: Tensor, index: Tensor) -> Tensor:
    """Rows `index` (B, H) of (B, C, H, W); as whole rows in memory, a twentieth of the time of `gather`."""
    channels, height, width = images.shape[1:]
    first = torch.arange(len(images) * channels, device=images.device).view(-1, channels, 1) * height
    return images.reshape(-1, width).index_select(0, (first + index[:, None]).flatten()).view_as(images)


def _take_columns(images: Tensor, index: Tensor) -> Tensor:
    """Columns `index` (B, W) of (B, C, H, W)."""
    return images.gather(3, index[:, None, None, :].expand_as(images))


def cut_out(images: Tensor, box: Tensor) -> Tensor:
    """Cover a box of each image.

    Args:
        images: of any dtype, (B, C, H, W).
        box: top, left, bottom, right in pixels, the last two outside of it, (B, 4).

    Source: DeVries and Taylor 2017, arXiv:1708.04552; sizes as in RAD, arXiv:2004.14990, which covers black.
    """
    height, width = images.shape[2:]
    top, left, bottom, right = box[:, :, None].unbind(1)  # (B, 1) each
    rows, columns = (torch.arange(side, device=images.device) for side in (height, width))
    is_row, is_column = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
    is_inside = is_row[:, None, :, None] & is_column[:, None, None, :]
    return images.masked_fill(is_inside, COVER)
