"""Small copies of the videos and pictures that runs left."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageSequence, UnidentifiedImageError

from agent.evaluation.comparison.records import Curve, Note
from agent.evaluation.run_files import read_mapping
from agent.evaluation.videos import shared_palette

_VIDEO_SIDE, _VIDEO_IMAGES = 160, 48
_STRIP_WIDTH = 1000
_COLOURS = 64
_IMAGINATION = "inspect/imagination.png"
INSPECTED = "inspected.json"
"""Beside the pictures of `nearfar inspect`: which of the run's frames and episodes they are of."""


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
    """What `nearfar inspect` drew of imagined futures, and where it has not been; arguments as `videos`."""
    pictures, notes = _small_copies(curves, _IMAGINATION, budget, small_png)
    if lacking := uninspected(curves):
        names = "; ".join(f"{curve.task}, {curve.variant}" for curve in lacking)
        text = (
            f"no pictures of what {names} imagine: --inspect beside the other flags of this command draws "
            f"them for one run each, `nearfar inspect RUN` for any run (the first is {lacking[0].source})"
        )
        notes.append(Note("imagined futures", text, is_loss=False))
    return pictures, notes


def uninspected(curves: Sequence[Curve]) -> list[Curve]:
    """Of each task and variant without a picture of imagined futures, the first run one can be made of."""
    inspected = {
        (curve.task, curve.variant)
        for curve in curves
        if curve.directory and (curve.directory / _IMAGINATION).is_file()
    }
    found: dict[tuple[str, str], Curve] = {}
    for curve in curves:
        if (curve.task, curve.variant) not in inspected and curve.directory and _has_agent(curve.directory):
            found.setdefault((curve.task, curve.variant), curve)
    return list(found.values())


def _has_agent(run: Path) -> bool:
    """Whether a run has kept a checkpoint, and episodes to look at."""
    has_checkpoint = any(run.glob("checkpoints/checkpoint-*.safetensors"))
    return has_checkpoint and (run / "episodes" / "store.json").is_file()


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
        caption = f"{curve.task}, {curve.variant}, seed {curve.seed}, {_moment(path)}"
        pictures.append(Picture(caption, path.suffix[1:], content))
    if left_out:
        text = f"{left_out} left out to keep the page small"
        notes.append(Note(pattern.partition("/")[0], text, is_loss=False))
    return pictures, notes


def _moment(path: Path) -> str:
    """After how many frames a video or a picture of `nearfar inspect` was made, and of which episode."""
    if path.stem.startswith("frames-") and path.stem[7:].isdigit():
        return f"{int(path.stem[7:]):,} frames"
    try:
        facts = read_mapping(path.parent / INSPECTED, json.loads)
        frames, episode = f"{int(facts['frames']):,} frames", int(facts["episode"])
        return frames if path.name == "novelty.png" else f"{frames}, episode {episode}"  # that is of all
    except (KeyError, OSError, OverflowError, TypeError, ValueError):
        return "frames not recorded"


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
