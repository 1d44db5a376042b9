"""Small copies of the videos and pictures that runs left."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageSequence, UnidentifiedImageError

from agent.evaluation.comparison.records import Curve, Note
from agent.evaluation.videos import shared_palette

_VIDEO_SIDE, _VIDEO_IMAGES = 160, 48
_STRIP_WIDTH = 1000
_COLOURS = 64


@dataclass(frozen=True)
class Picture:
    """A small copy of a picture.

    Attributes:
        caption: what it shows.
        kind: `gif` or `png`.
        content: the file.
    """

    caption: str
    kind: str
    content: bytes


def videos(curves: Sequence[Curve], budget: int) -> tuple[list[Picture], list[Note]]:
    """The last evaluation's episode of the first run of each task and variant, smaller and shorter.

    Args:
        curves: ordered by task, variant and seed.
        budget: bytes that all of them may take.
    """
    return _small_copies(curves, "videos/*.gif", budget, _small_gif)


def imaginations(curves: Sequence[Curve], budget: int) -> tuple[list[Picture], list[Note]]:
    """What `nearfar inspect` drew of imagined futures; arguments as those of `videos`."""
    return _small_copies(curves, "inspect/imagination.png", budget, small_png)


def novelties(curves: Sequence[Curve], budget: int) -> tuple[list[Picture], list[Note]]:
    """What it drew of curious runs: the bonus of an episode, then the most and the least novel frames."""
    pictures, notes = [], []
    for pattern in ("inspect/bonus.png", "inspect/novelty.png"):
        found, more = _small_copies(curves, pattern, budget, small_png)
        budget -= sum(len(each.content) for each in found)
        pictures += found
        notes += more
    return pictures, notes


def _small_copies(
    curves: Sequence[Curve], pattern: str, budget: int, shrink: Any
) -> tuple[list[Picture], list[Note]]:
    chosen: dict[tuple[str, str], tuple[Curve, Path]] = {}
    for curve in curves:
        paths = sorted(curve.directory.glob(pattern)) if curve.directory else []
        if paths:
            chosen.setdefault((curve.task, curve.variant), (curve, paths[-1]))
    pictures, notes, left_out = [], [], 0
    for curve, path in chosen.values():
        try:
            content = shrink(path)
        except (OSError, ValueError, SyntaxError, UnidentifiedImageError):
            notes.append(Note(f"{curve.source}/{path.name}", "is no picture: left out", is_loss=False))
            continue
        if len(content) > budget:
            left_out += 1
            continue
        budget -= len(content)
        caption = f"{curve.task}, {curve.variant}, seed {curve.seed}"
        if path.stem.startswith("frames-") and path.stem[7:].isdigit():
            caption += f", {int(path.stem[7:]):,} frames"
        pictures.append(Picture(caption, path.suffix[1:], content))
    if left_out:
        text = f"{left_out} left out to keep the page small"
        notes.append(Note(pattern.partition("/")[0], text, is_loss=False))
    return pictures, notes


def _small_gif(path: Path) -> bytes:
    with Image.open(path) as gif:
        count = getattr(gif, "n_frames", 1)
        step = -(-count // _VIDEO_IMAGES)
        duration = int(gif.info.get("duration", 40)) * step
        images = [
            image.convert("RGB")
            for index, image in enumerate(ImageSequence.Iterator(gif))
            if index % step == 0
        ]
    for image in images:
        image.thumbnail((_VIDEO_SIDE, 2 * _VIDEO_SIDE))
    palette = shared_palette(images, _COLOURS)
    first, *rest = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    buffer = io.BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=rest, duration=duration, loop=0)
    return buffer.getvalue()


def small_png(path: Path) -> bytes:
    """A picture with fewer colours, and no wider than a page is."""
    with Image.open(path) as picture:
        small = picture.convert("RGB")
    small.thumbnail((_STRIP_WIDTH, 4 * _STRIP_WIDTH))
    buffer = io.BytesIO()
    small.quantize(128, method=Image.Quantize.MEDIANCUT).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
