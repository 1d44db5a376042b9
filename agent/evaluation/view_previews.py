"""What an encoder is pretrained on, as one picture: samples beside two views of each."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from configs.views import ViewOptions, recipe_title
from world_model.views.parameters import draw_parameters
from world_model.views.pipeline import apply_view
from world_model.views.randomness import keyed_uniforms

_LABELS = ("original", "view 1", "view 2")
_LEAST_SIDE = 96  # of a picture, in pixels; smaller frames are enlarged
_GAP, _GROUP_GAP, _MARGIN = 4, 20, 12
_TITLE, _LABEL = 18, 12  # heights of text
_WHITE, _BLACK, _GREY = (255, 255, 255), (20, 20, 20), (110, 110, 110)


def draw_preview(stacks: Tensor, options: ViewOptions, path: Path, *, seed: int = 0, across: int = 3) -> None:
    """Draw the newest frame of each sample, and the same frame in two views, under the recipe's name.

    Args:
        stacks: stacked RGB frames, uint8 (N, 3 * S, H, W), N >= 1.
        options: how views are made.
        path: the PNG; its directory is made.
        seed: of the views.
        across: samples side by side, >= 1.

    Raises:
        ValueError: there are no samples, they have another shape, or are too small for the options.
    """
    if stacks.dtype != torch.uint8 or stacks.ndim != 4 or not len(stacks) or stacks.shape[1] % 3:
        raise ValueError(
            f"expected samples uint8 (N, 3 * S, H, W), found {stacks.dtype} {tuple(stacks.shape)}"
        )
    samples = torch.arange(len(stacks), device=stacks.device)
    height, width = stacks.shape[2:]
    columns = [stacks]
    for view, own in enumerate((options, options.of_second_views())):
        uniforms = keyed_uniforms(samples, seed=seed, update=0, view=view)
        columns.append(apply_view(stacks, draw_parameters(own, uniforms, (height, width))))
    groups = zip(*(_pictures(column) for column in columns), strict=True)
    sheet = _contact_sheet(list(groups), recipe_title(options), across)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, "PNG")


def _pictures(images: Tensor) -> list[Image.Image]:
    """The newest frames of (N, 3 * S, H, W), enlarged by a whole number so that pixels stay pixels."""
    frames = images[:, -3:].round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    height, width = frames.shape[1:3]
    scale = math.ceil(_LEAST_SIDE / max(height, width))
    return [
        Image.fromarray(frame).resize((width * scale, height * scale), Image.Resampling.NEAREST)
        for frame in frames
    ]


def _contact_sheet(groups: list[tuple[Image.Image, ...]], title: str, across: int) -> Image.Image:
    """Groups of pictures side by side and below one another, each under its labels, all under a title."""
    cell_width = max(image.width for image in groups[0])
    cell_height = max(image.height for image in groups[0])
    group_width = len(_LABELS) * (cell_width + _GAP) - _GAP
    row_height = _LABEL + 2 * _GAP + cell_height + _GAP
    across = min(across, len(groups))
    top = _MARGIN + _TITLE + 3 * _GAP
    width = 2 * _MARGIN + across * (group_width + _GROUP_GAP) - _GROUP_GAP
    title_font, label_font = ImageFont.load_default(_TITLE), ImageFont.load_default(_LABEL)
    width = max(width, 2 * _MARGIN + math.ceil(title_font.getlength(title)))
    height = top + math.ceil(len(groups) / across) * row_height + _MARGIN - _GAP
    sheet = Image.new("RGB", (width, height), _WHITE)
    pen = ImageDraw.Draw(sheet)
    pen.text((_MARGIN, _MARGIN), title, fill=_BLACK, font=title_font)
    for index, group in enumerate(groups):
        row, column = divmod(index, across)
        x, y = _MARGIN + column * (group_width + _GROUP_GAP), top + row * row_height
        for label, image in zip(_LABELS, group, strict=True):
            pen.text((x, y), label, fill=_GREY, font=label_font)
            sheet.paste(image, (x, y + _LABEL + 2 * _GAP))
            x += cell_width + _GAP
    return sheet
