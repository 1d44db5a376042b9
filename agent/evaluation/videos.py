"""Episodes as animated GIFs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_COLOURS = 255  # one entry of the palette's 256 is left to the strip's text
_PALETTE_FRAMES = 16  # frames, spread over the episode, that the shared palette is made from
_STRIP = (24, 24, 28)
_TEXT = (235, 235, 235)


def write_gif(
    frames: NDArray[np.uint8],
    path: Path | str,
    *,
    fps: float,
    scale: int = 4,
    captions: Sequence[str] | None = None,
) -> None:
    """Write frames as an endless GIF: enlarged, with one palette for all frames.

    Args:
        frames: RGB, uint8 (T, H, W, 3).
        path: the file; its directory is made.
        fps: frames a second, > 0; GIF counts hundredths of a second, and viewers slow anything under two.
        scale: enlargement, >= 1.
        captions: text for a strip below each frame, T of them; none: no strip.

    Raises:
        ValueError: frames are not uint8 (T, H, W, 3), the number of captions differs, or fps or scale is
            out of range.
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or not len(frames):
        raise ValueError(f"expected frames uint8 (T, H, W, 3), found {frames.dtype} {frames.shape}")
    if fps <= 0 or scale < 1:
        raise ValueError(f"expected fps > 0 and scale >= 1, found {fps} and {scale}")
    if captions is not None and len(captions) != len(frames):
        raise ValueError(f"expected {len(frames)} captions, one a frame, found {len(captions)}")
    size = frames.shape[2] * scale, frames.shape[1] * scale
    images = [Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS) for frame in frames]
    if captions is not None:
        images = [annotate(image, caption) for image, caption in zip(images, captions, strict=True)]
    palette = shared_palette(images)
    # Dithering would flicker between frames and double the file.
    first, *rest = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    duration_ms = 10 * max(2, round(100 / fps))
    first.save(path, "GIF", save_all=True, append_images=rest, duration=duration_ms, loop=0)


def annotate(image: Image.Image, caption: str) -> Image.Image:
    """A copy of an RGB image with a strip below that holds the caption."""
    text_size = max(9, image.height // 18)
    strip = text_size * 7 // 4
    result = Image.new("RGB", (image.width, image.height + strip), _STRIP)
    result.paste(image)
    ImageDraw.Draw(result).text(
        (text_size // 2, image.height + strip // 2),
        caption,
        fill=_TEXT,
        font=ImageFont.load_default(text_size),
        anchor="lm",
    )
    return result


def episode_captions(rewards: Sequence[float], frames: Sequence[int]) -> list[str]:
    """Captions for the T + 1 observations of an episode: environment frames and return so far.

    Args:
        rewards: what each of the T decisions earned.
        frames: environment frames that each decision lasted.
    """
    spent = np.concatenate([[0], np.cumsum(frames)]).astype(int)
    returns = np.concatenate([[0.0], np.cumsum(rewards)])
    return [f"frame {frame:,}   return {value:.0f}" for frame, value in zip(spent, returns, strict=True)]


def shared_palette(images: Sequence[Image.Image], colours: int = _COLOURS) -> Image.Image:
    """An image whose palette of so many colours suits all of some RGB images of one size."""
    chosen = images[:: math.ceil(len(images) / _PALETTE_FRAMES)]
    width, height = chosen[0].size
    sheet = Image.new("RGB", (width, height * len(chosen)))
    for row, image in enumerate(chosen):
        sheet.paste(image, (0, row * height))
    return sheet.quantize(colours, method=Image.Quantize.MEDIANCUT)
