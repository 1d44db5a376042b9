"""Parameters to images: what `apply_view` does is determined by its arguments."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from world_model.augment import shift
from world_model.views.blur import gaussian_blur
from world_model.views.colour import greyscale, jitter, solarise
from world_model.views.geometry import cut_out, mirror, resize_crop
from world_model.views.parameters import OperationName, ViewParameters

# rows at once on a CPU, so that what lies between two operations stays in its cache
_CPU_CHUNK = 16

_IMAGE_DTYPES = (torch.uint8, torch.float32, torch.float64)

# In this order, after crop and shift. Those that make fractions of bytes are marked.
_OPERATIONS: dict[OperationName, tuple[bool, Callable[[Tensor, Tensor], Tensor]]] = {
    "flip": (False, lambda images, _: mirror(images)),
    "resized_crop": (True, resize_crop),
    "jitter": (True, jitter),
    "grey": (True, lambda images, _: greyscale(images)),
    "blur": (True, gaussian_blur),
    "solarise": (False, lambda images, _: solarise(images)),
    "cutout": (False, cut_out),
}


def apply_view(images: Tensor, parameters: ViewParameters) -> Tensor:
    """Make a view of every row, with the same change for all frames of its stack.

    Args:
        images: stacked RGB frames, [0, 255], uint8, float32 or float64, (B, 3 * S, H, W).
        parameters: what happens to each row, on the device of the images.

    Returns:
        New images, [0, 255], (B, 3 * S, height, width) of the parameters' size. The dtype is that of the
        images, but float32 where they are uint8 and an operation that makes fractions is among the
        parameters, whether it chose a row or not. Rows that no operation chose have the numbers they had.

    Raises:
        ValueError: images have another shape or dtype, or another number of rows than the parameters.
    """
    if images.dtype not in _IMAGE_DTYPES or images.ndim != 4 or images.shape[1] % 3:
        raise ValueError(
            f"images: expected uint8, float32 or float64 (B, 3 * S, H, W), "
            f"found {images.dtype} {tuple(images.shape)}"
        )
    for name, draw in parameters.draws.items():
        if len(draw.is_chosen) != len(images):
            raise ValueError(
                f"{name}: expected parameters of {len(images)} rows, found {len(draw.is_chosen)}"
            )
    if images.device.type != "cpu":
        return _apply(images, parameters)
    starts = range(0, len(images), _CPU_CHUNK) or (0,)
    return torch.cat([_apply(images[i : i + _CPU_CHUNK], parameters.rows(i, i + _CPU_CHUNK)) for i in starts])


def _apply(images: Tensor, parameters: ViewParameters) -> Tensor:
    draws = parameters.draws
    for name in ("crop", "shift"):
        if move := draws.get(name):
            images = shift(images, move.values.long())  # a crop is its corner, shifted to the frame's
    height, width = parameters.size
    has_fractions = any(is_fractional for name, (is_fractional, _) in _OPERATIONS.items() if name in draws)
    dtype = torch.float32 if has_fractions and images.dtype == torch.uint8 else images.dtype
    images = images[:, :, :height, :width].to(dtype, copy=True, memory_format=torch.contiguous_format)
    for name, (_, operation) in _OPERATIONS.items():
        if draw := draws.get(name):
            # on a GPU this waits for the number of rows, which is cheaper than changing all of them
            rows = draw.is_chosen.nonzero().squeeze(1)
            if len(rows) == len(images):
                images = operation(images, draw.values)
            elif len(rows):
                images[rows] = operation(images[rows], draw.values[rows])
    return images
