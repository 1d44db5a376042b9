"""Moving pictures to put behind a scene: patterns made on the spot, or the user's own clips.

Nothing here knows MuJoCo: `envs.distractors` says where the pictures go and which of them an episode sees.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, ImageOps, ImageSequence

from envs.registry import TaskError

WAVES = 12
CONTRAST = 56.0
"""Deviation of a pattern's brightness from its mean, in levels of 255."""
MEAN_LEVELS = (64.0, 192.0)
"""Range of a pattern's mean in each colour."""
CYCLES = (0.7, 5.0)
"""Range of waves across the width of a picture."""

MAX_CLIP_FRAMES = 256
"""Longer clips are cut: at 64 pixels this is 3 MB."""
CACHED_CLIPS = 128

# Formats with a decoder inside Pillow itself; without a list it would also claim MPEG, which it cannot read.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
_VIDEOS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")


class DistractorError(TaskError):
    """These distractors cannot be had here; the message says why and what to do."""


class Background(Protocol):
    """Pictures that follow one another without jumps."""

    def picture(self, step: int) -> np.ndarray:
        """What is seen at a decision, uint8 (size, size, 3); not to be written to."""


class Waves:
    """Coloured plane waves of all directions on top of one another, each moving at a speed of its own."""

    def __init__(self, rng: np.random.Generator, *, size: int, speed: float) -> None:
        """Draw a pattern.

        Args:
            rng: determines the pattern.
            size: height and width in pixels.
            speed: of the fastest wave, in widths of the picture a decision.
        """
        direction = rng.uniform(0, 2 * np.pi, WAVES)
        low, high = np.log(CYCLES)
        wavenumber = 2 * np.pi * np.exp(rng.uniform(low, high, WAVES))  # (WAVES,) radians a width
        position = np.arange(size) / size
        self._across = (wavenumber * np.cos(direction))[:, None] * position
        down = (wavenumber * np.sin(direction))[:, None] * position
        self._phase = rng.uniform(0, 2 * np.pi, (WAVES, 1))
        self._turn = (wavenumber * speed * rng.uniform(0.3, 1.0, WAVES))[:, None]
        colour = rng.normal(size=(WAVES, 1, 3))
        colour *= CONTRAST * np.sqrt(2) / np.linalg.norm(colour, axis=0)
        self._colour = np.concatenate([colour, colour])
        self._mean = rng.uniform(*MEAN_LEVELS, 3).astype(np.float32)
        # sin(y + x) = sin y cos x + cos y sin x: the picture is (H, 2 WAVES) @ (2 WAVES, W * 3).
        self._rows = np.concatenate([np.sin(down), np.cos(down)]).T.astype(np.float32)

    def picture(self, step: int) -> np.ndarray:
        """See `Background.picture`."""
        across = self._across + self._phase + self._turn * step
        columns = np.concatenate([np.cos(across), np.sin(across)])[:, :, None] * self._colour
        size = len(self._rows)
        levels = self._rows @ columns.reshape(-1, 3 * size).astype(np.float32)
        return np.clip(levels.reshape(size, size, 3) + self._mean, 0, 255).astype(np.uint8)


class Clip:
    """Frames of a clip, forwards and backwards in turn; a clip of one frame stands still."""

    def __init__(self, frames: np.ndarray) -> None:
        """Show frames, uint8 (T, size, size, 3)."""
        self._frames = frames

    def picture(self, step: int) -> np.ndarray:
        """See `Background.picture`."""
        last = len(self._frames) - 1
        place = step % max(1, 2 * last)
        return self._frames[min(place, 2 * last - place)]


@functools.cache
def split_clips(folder: Path) -> tuple[list[Path], list[Path]]:
    """The clips of a folder, by name: those for training, and the last third, at least one, for evaluation.

    A clip is an image, an animation, a video, or a folder of images that are its frames. Near duplicates are
    often neighbours by name: taking every third for evaluation would put them on both sides.

    Raises:
        DistractorError: there are fewer than two, something that is no picture, or a video that cannot be
            read here.
    """
    clips = _entries(folder)
    if len(clips) < 2:
        raise DistractorError(
            f"{folder} holds {len(clips)} of the two or more clips that are needed, some for training and "
            "others for evaluation: put images, GIFs, videos or folders of images there"
        )
    for clip in clips:
        files = _files(clip)
        if not files:
            raise DistractorError(f"{clip} holds no images: remove it, or put the frames of a clip there")
        for file in files:
            if _is_video(file):
                _check_decoder(file)
            else:
                _open(file).close()
    training = len(clips) - max(1, len(clips) // 3)
    return clips[:training], clips[training:]


@functools.lru_cache(CACHED_CLIPS)
def load_clip(path: Path, size: int) -> np.ndarray:
    """Frames of a clip, cut to the square in its middle, uint8 (T, size, size, 3), read-only.

    Raises:
        DistractorError: a picture is damaged.
    """
    frames = np.stack([*itertools.islice(_frames(path, size), MAX_CLIP_FRAMES)])
    frames.setflags(write=False)
    return frames


def _entries(folder: Path) -> list[Path]:
    """What is in a folder, hidden files aside, by name."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DistractorError(f"cannot read the backgrounds in {folder} ({error.strerror})") from error


def _files(clip: Path) -> list[Path]:
    return _entries(clip) if clip.is_dir() else [clip]


def _frames(path: Path, size: int) -> Iterator[np.ndarray]:
    for file in _files(path):
        pictures = _video_frames(file) if _is_video(file) else _image_frames(file)
        for picture in pictures:
            yield np.asarray(ImageOps.fit(picture, (size, size)))


def _image_frames(file: Path) -> Iterator[Image.Image]:
    with _open(file) as image:
        try:
            for frame in ImageSequence.Iterator(image):
                yield frame.convert("RGB")  # reads the file
        except (OSError, SyntaxError) as error:  # Pillow's word for broken PNG chunks is SyntaxError
            raise _damaged(file, error) from error


def _open(file: Path) -> Image.Image:
    try:
        return Image.open(file, formats=_FORMATS)
    except OSError as error:
        raise DistractorError(
            f"{file} is no picture or video that can be read ({', '.join(_FORMATS)}, {', '.join(_VIDEOS)}): "
            "remove it"
        ) from error


def _is_video(file: Path) -> bool:
    return file.suffix.lower() in _VIDEOS


def _check_decoder(file: Path) -> None:
    if importlib.util.find_spec("imageio_ffmpeg") is None:
        raise DistractorError(
            f"{file} is a video, and what decodes it is missing: `pip install imageio-ffmpeg`, "
            "or turn it into a GIF or a folder of images"
        )


def _video_frames(file: Path) -> Iterator[Image.Image]:
    import imageio.v3 as iio

    _check_decoder(file)
    try:
        for frame in iio.imiter(file, plugin="FFMPEG"):
            yield Image.fromarray(frame)
    except (OSError, RuntimeError, IndexError, StopIteration) as error:  # what ffmpeg, and its end, look like
        raise _damaged(file, error) from error


def _damaged(file: Path, error: Exception) -> DistractorError:
    reason = str(error).strip().rpartition("\n")[2]  # ffmpeg begins with how it was built
    return DistractorError(f"{file} is damaged ({reason}): replace or remove it")
