"""Contact sheets: rows of frames under captions, as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_SIDE, _GAP, _STRIP = 96, 4, 16  # pixels
_BACKGROUND, _TEXT, _QUIET = (24, 24, 28), (235, 235, 235), (160, 165, 175)


@dataclass(frozen=True)
class Row:
    """Frames side by side.

    Attributes:
        caption: above them.
        frames: uint8 (3, H, W) each.
        labels: below each of them; none: no strip for them.
    """

    caption: str
    frames: Sequence[np.ndarray]
    labels: Sequence[str] = ()


def draw_rows(rows: Sequence[Row], path: Path, columns: int) -> None:
    """Write rows below one another.

    Args:
        rows: one at least; either all have labels or none has.
        path: a PNG file; its directory is made.
        columns: frames that the sheet is wide enough for.

    Raises:
        OSError: it cannot be written.
    """
    strips = 2 if any(row.labels for row in rows) else 1
    height = strips * _STRIP + _SIDE + _GAP
    sheet = Image.new("RGB", (columns * (_SIDE + _GAP) + _GAP, len(rows) * height + _GAP), _BACKGROUND)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_STRIP - 4)
    for line, row in enumerate(rows):
        top = line * height + _GAP
        draw.text((_GAP, top), row.caption, fill=_TEXT, font=font)
        for column, frame in enumerate(row.frames):
            image = Image.fromarray(np.ascontiguousarray(frame.transpose(1, 2, 0)))
            resized = image.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
            sheet.paste(resized, (_GAP + column * (_SIDE + _GAP), top + _STRIP))
        for column, label in enumerate(row.labels):
            place = (_GAP + column * (_SIDE + _GAP), top + _STRIP + _SIDE)
            draw.text(place, label, fill=_QUIET, font=font)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, "PNG")
