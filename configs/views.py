"""How views of an observation are made, for pretraining: options and named recipes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from configs.names import offered_names
from configs.options import NonNegative, Options, PositiveFloat, Rate, Share
from configs.world_model import EncoderOptions

Strength = Annotated[float, Field(ge=0, le=2)]
RecipeName = Literal["none", "shift", "curl", "colour", "simclr", "moco-v1", "moco-v2", "byol"]


class ViewOptions(Options):
    """How views of an observation are made, in this order; a share (of the rows) of 0 leaves a step out."""

    crop: NonNegative = 0
    """Height and width of a random part of a larger frame, which becomes the view; 0: no such part."""
    shift_padding: NonNegative = 0
    """Largest random shift in pixels, edges repeated; 0: no shift."""
    flip: Share = 0.0
    """Share that is mirrored left to right: for tasks without sides, and methods that see frames alone."""
    resized_crop: Share = 0.0
    """Share of which a random part is enlarged to the whole frame."""
    crop_area: tuple[Rate, Rate] = (0.08, 1.0)
    """Least and largest area of this part, as a share of the frame's."""
    crop_ratio: tuple[PositiveFloat, PositiveFloat] = (3 / 4, 4 / 3)
    """Least and largest ratio of its width to its height."""
    jitter: Share = 0.0
    """Share whose colours change in brightness, contrast, saturation and hue, in this order."""
    brightness: Strength = 0.8
    """The factor of the brightness lies within 1 ± this, and not below 0."""
    contrast: Strength = 0.8
    """The same for the distance from the frame's mean grey."""
    saturation: Strength = 0.8
    """The same for the distance from the pixel's own grey."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.2
    """Hues move by at most this share of the colour circle, either way."""
    grey: Share = 0.0
    """Share that loses its colours."""
    blur: Share = 0.0
    """Share that is blurred."""
    blur_second: Share | None = None
    """Share of second views that is blurred; unset: as of the first."""
    blur_sigma: tuple[PositiveFloat, PositiveFloat] = (0.1, 2.0)
    """Least and largest deviation of the Gaussian in pixels; cut at a twentieth of the height."""
    solarise: Share = 0.0
    """Share whose bright half of the values is turned round (BYOL)."""
    solarise_second: Share | None = None
    """Share of second views that is solarised; unset: as of the first."""
    cutout: Share = 0.0
    """Share in which a rectangle is covered with grey."""
    cutout_side: tuple[Rate, Rate] = (0.1, 0.3)
    """Least and largest side of the rectangle, as a share of the frame's."""

    def of_second_views(self) -> ViewOptions:
        """The same options, with what is said of second views said of all."""
        blur = self.blur if self.blur_second is None else self.blur_second
        solarise = self.solarise if self.solarise_second is None else self.solarise_second
        changes = {"blur": blur, "blur_second": None, "solarise": solarise, "solarise_second": None}
        return self.model_copy(update=changes)

    @model_validator(mode="after")
    def _ranges_go_up(self) -> ViewOptions:
        for name, (low, high) in {
            "crop_area": self.crop_area,
            "crop_ratio": self.crop_ratio,
            "blur_sigma": self.blur_sigma,
            "cutout_side": self.cutout_side,
        }.items():
            if low > high:
                raise ValueError(f"{name} {low:g} {high:g} goes down: give the smaller value first")
        return self

    @model_validator(mode="after")
    def _one_choice_of_what_is_seen(self) -> ViewOptions:
        choices = {"crop": self.crop, "shift_padding": self.shift_padding, "resized_crop": self.resized_crop}
        chosen = [name for name, value in choices.items() if value]
        if len(chosen) > 1:
            raise ValueError(
                f"{' and '.join(chosen)} each choose the part of the frame that is seen: "
                "keep one of them, and set the others to 0"
            )
        return self


# Strengths are those of the papers; flips, which all of them but CURL have, are left out (docs/views.md).
RECIPES: Mapping[RecipeName, ViewOptions] = MappingProxyType(
    {
        "none": ViewOptions(),
        "shift": ViewOptions(shift_padding=EncoderOptions().shift_padding),
        "curl": ViewOptions(crop=84),
        "colour": ViewOptions(
            shift_padding=EncoderOptions().shift_padding,
            jitter=0.8, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, grey=0.2,
        ),
        "simclr": ViewOptions(resized_crop=1.0, jitter=0.8, grey=0.2, blur=0.5),
        "moco-v1": ViewOptions(
            resized_crop=1.0, crop_area=(0.2, 1.0),
            jitter=1.0, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.4, grey=0.2,
        ),
        "moco-v2": ViewOptions(
            resized_crop=1.0, crop_area=(0.2, 1.0),
            jitter=0.8, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, grey=0.2, blur=0.5,
        ),
        "byol": ViewOptions(
            resized_crop=1.0,
            jitter=0.8, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, grey=0.2,
            blur=1.0, blur_second=0.1, solarise=0.0, solarise_second=0.2,
        ),
    }
)  # fmt: skip
"""Named augmentations."""


def find_recipe(name: str) -> ViewOptions:
    """The options of a recipe.

    Raises:
        ValueError: there is none of this name.
    """
    for known, options in RECIPES.items():
        if name == known:
            return options
    raise ValueError(f"unknown recipe {name!r}{offered_names(name, get_args(RecipeName))}")


def recipe_title(options: ViewOptions) -> str:
    """The recipe that differs least from some options, and the differences: `simclr, blur 0, flip 0.5`."""
    best: list[str] | None = None
    for name, recipe in RECIPES.items():
        theirs = recipe.model_dump()
        changes = [
            f"{key.replace('_', ' ')} {_shown(value)}" for key, value in options if value != theirs[key]
        ]
        if best is None or len(changes) < len(best) - 1:
            best = [name, *changes]
    return ", ".join(best or ())


def _shown(value: float | tuple[float, float] | None) -> str:
    if value is None:
        return "unset"
    return " ".join(f"{part:g}" for part in (value if isinstance(value, tuple) else (value,)))
