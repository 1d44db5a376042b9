"""What happens to each row of a view: random numbers in, parameters of the operations out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from configs.views import ViewOptions
from world_model.views.randomness import UNIFORMS

OperationName = Literal[
    "crop", "shift", "flip", "resized_crop", "jitter", "grey", "blur", "solarise", "cutout"
]
Size = tuple[int, int]


@dataclass(frozen=True)
class Draw:
    """One operation.

    Attributes:
        is_chosen: rows that it changes, bool (B,).
        values: its parameters, float64 (B, K); those of other rows mean nothing.
    """

    is_chosen: Tensor
    values: Tensor


@dataclass(frozen=True)
class ViewParameters:
    """What makes a view of a batch: all that is random about it.

    Attributes:
        draws: by operation; those that the options leave out are missing. Values, positions in pixels:
            crop (top, left); shift (dy, dx); resized_crop (top, left, height, width); jitter (factors of
            brightness, contrast, saturation; hue in turns); blur (sigma); cutout (top, left, bottom, right).
        size: height and width of the view.
    """

    draws: Mapping[OperationName, Draw]
    size: Size

    def rows(self, start: int, stop: int) -> ViewParameters:
        """Those of the rows from `start` to before `stop`."""
        draws = {
            name: Draw(draw.is_chosen[start:stop], draw.values[start:stop])
            for name, draw in self.draws.items()
        }
        return ViewParameters(draws, self.size)

    def to(self, device: torch.device) -> ViewParameters:
        """On a device, for numbers that were drawn elsewhere."""
        draws = {
            name: Draw(draw.is_chosen.to(device), draw.values.to(device)) for name, draw in self.draws.items()
        }
        return ViewParameters(draws, self.size)


def view_size(options: ViewOptions, frame_size: Size) -> Size:
    """Height and width of the views of frames.

    Raises:
        ValueError: the frames are too small for the options.
    """
    height, width = frame_size
    if options.crop > min(height, width):
        raise ValueError(
            f"crop {options.crop} is larger than the frames, {height} x {width}: "
            "lower it, or record larger frames"
        )
    if options.shift_padding > min(height, width) // 2:
        raise ValueError(
            f"shift_padding {options.shift_padding} is more than half of the frames, "
            f"{height} x {width}: lower it"
        )
    return (options.crop, options.crop) if options.crop else frame_size


def draw_parameters(options: ViewOptions, uniforms: Tensor, frame_size: Size) -> ViewParameters:
    """Parameters of one view of each row; all frames of a stack share them.

    Args:
        options: which operations, how often and how strongly; of second views, `options.of_second_views()`.
        uniforms: numbers in [0, 1), float64 (B, U), of `draw_uniforms` or `keyed_uniforms`.
        frame_size: height and width of the frames.

    Raises:
        ValueError: the frames are too small for the options, or `uniforms` has another shape.
    """
    if uniforms.ndim != 2 or uniforms.shape[1] != UNIFORMS:
        raise ValueError(f"uniforms: expected (B, {UNIFORMS}), found {tuple(uniforms.shape)}")
    size = view_size(options, frame_size)
    shares = _shares(options)
    draws: dict[OperationName, Draw] = {}
    start = 0
    for name, (count, strengths) in _STRENGTHS.items():
        choice, own = uniforms[:, start], uniforms[:, start + 1 : start + 1 + count]
        start += 1 + count
        if shares[name] > 0:
            draws[name] = Draw(choice < shares[name], strengths(options, own, frame_size))
    return ViewParameters(draws, size)


def _shares(options: ViewOptions) -> dict[OperationName, float]:
    """Share of the rows that each operation changes."""
    return {
        "crop": float(options.crop > 0),
        "shift": float(options.shift_padding > 0),
        "flip": options.flip,
        "resized_crop": options.resized_crop,
        "jitter": options.jitter,
        "grey": options.grey,
        "blur": options.blur,
        "solarise": options.solarise,
        "cutout": options.cutout,
    }


def _crop(options: ViewOptions, u: Tensor, frame_size: Size) -> Tensor:
    room = torch.tensor(frame_size, dtype=u.dtype, device=u.device) - options.crop
    return _integer(u, room)


def _shift(options: ViewOptions, u: Tensor, frame_size: Size) -> Tensor:
    padding = options.shift_padding
    return (u * (2 * padding + 1)).floor() - padding


def _nothing(options: ViewOptions, u: Tensor, frame_size: Size) -> Tensor:
    return u


def _resized_crop(options: ViewOptions, u: Tensor, frame_size: Size) -> Tensor:
    """A box inside the frame: area and the logarithm of the ratio are uniform, then its place.

    The customary code draws up to ten boxes until one fits the frame. Ours are cut to its height and width,
    because a row must need the same count of numbers whatever they are.
    """
    height, width = frame_size
    area = _within(options.crop_area, u[:, 0]) * height * width
    low, high = options.crop_ratio
    ratio = _within((math.log(low), math.log(high)), u[:, 1]).exp()
    box_width = (area * ratio).sqrt().clamp(max=width)
    box_height = (area / ratio).sqrt().clamp(max=height)
    top, left = u[:, 2] * (height - box_height), u[:, 3] * (width - box_width)
    return torch.stack((top, left, box_height, box_width), dim=1)


def _jitter(options: ViewOptions, u: Tensor, frame_size: Size) -> Tensor:
    factors = [
        _within((max(0.0, 1 - strength), 1 + strength), u[:, i])
        for i, strength in enumerate((options.brightness, options.contrast, options.saturation))
    ]
    return torch.stack((*factors, _within((-options.hue, options.hue), u[:, 3])), dim=1)


def _blur(options: ViewOptions, u: Tensor, frame_size: Size) -> Tensor:
    return _within(options.blur_sigma, u)


def _cutout(options: ViewOptions, u: Tensor, frame_size: Size) -> Tensor:
    frame = torch.tensor(view_size(options, frame_size), dtype=u.dtype, device=u.device)
    sides = (_within(options.cutout_side, u[:, :2]) * frame).round().clamp(min=1)
    corner = _integer(u[:, 2:], frame - sides)
    return torch.cat((corner, corner + sides), dim=1)


def _within(limits: tuple[float, float], u: Tensor) -> Tensor:
    low, high = limits
    return low + (high - low) * u


def _integer(u: Tensor, largest: Tensor) -> Tensor:
    """Whole numbers 0..largest, equally likely; in float64 no product reaches the next one."""
    return (u * (largest + 1)).floor()


# Beside one number that decides whether a row is chosen: how many an operation needs, and what they mean.
_STRENGTHS: dict[OperationName, tuple[int, Callable[[ViewOptions, Tensor, Size], Tensor]]] = {
    "crop": (2, _crop),
    "shift": (2, _shift),
    "flip": (0, _nothing),
    "resized_crop": (4, _resized_crop),
    "jitter": (4, _jitter),
    "grey": (0, _nothing),
    "blur": (1, _blur),
    "solarise": (0, _nothing),
    "cutout": (4, _cutout),
}
