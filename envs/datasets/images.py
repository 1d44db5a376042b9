"""Folders of images: each that holds some is an episode, in the order of their names; so is each GIF."""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence

from agent.atomic import write_atomically
from envs.datasets import provenance
from envs.datasets.base import MOST_BYTES, DatasetError, Reading, Sink, Source, in_order
from envs.datasets.conversion import as_frames, resize
from envs.datasets.v_d4rl import drawn
from envs.recording import Episode, EpisodeInfo

_STILLS = (".png", ".jpg", ".jpeg")
_MOVING = (".gif",)
_MOST_PIXELS = 2**25


class ImagesSource(Source):
    """Images without actions: what the store asks for beside frames is zeros, with one action entry."""

    task = "images"  # they need not be of any

    def __init__(self, path: Path, reading: Reading) -> None:
        """Find the folders.

        Raises:
            DatasetError: there are no images.
        """
        super().__init__(path, reading)
        if not path.is_dir():
            raise DatasetError(f"{path} is no folder: name the folder of the images")
        self._episodes = list(_episodes(path))
        if not self._episodes:
            raise DatasetError(
                f"{path} holds no images ({', '.join(_STILLS + _MOVING)}): name another folder"
            )
        self._recorded = provenance.load(path)

    def __len__(self) -> int:
        """See `Source`."""
        return len(self._episodes)

    def name(self, index: int) -> str:
        """See `Source`."""
        return str(self._episodes[index])

    def recorded(self, index: int) -> EpisodeInfo | None:
        """See `Source`."""
        place = self._episodes[index]
        return self._recorded.get(place.name) if place.parent == self.path else None

    def arrays(self, index: int) -> dict[str, np.ndarray]:
        """See `Source`."""
        frame = self._frames(self._episodes[index])
        steps = len(frame) - 1
        if steps < 1:
            raise ValueError("it has a single image")
        return {
            "frame": frame,
            "action": np.zeros((steps, 1), np.float32),
            "reward": np.zeros(steps, np.float32),
            "terminated": np.zeros(steps, np.bool_),
            "truncated": np.arange(steps) == steps - 1,
        }

    def _frames(self, place: Path) -> np.ndarray:
        names = [place] if place.is_file() else in_order(_images_in(place))
        frames: list[np.ndarray] = []
        total = 0
        for name in names:
            for image in _read(name):
                frames.append(self._fit(name, image))
                if frames[-1].shape != frames[0].shape:
                    sizes = [f"{frame.shape[1]} x {frame.shape[2]}" for frame in (frames[0], frames[-1])]
                    raise DatasetError(f"{name} is {sizes[1]}, images before it {sizes[0]}: add --size N")
                total += frames[-1].size
                if total > MOST_BYTES:
                    raise DatasetError(
                        f"{place} has more than {MOST_BYTES:,} bytes: cut it into several episodes"
                    )
        return np.stack(frames)

    def _fit(self, name: Path, image: np.ndarray) -> np.ndarray:
        """One image, uint8 (H, W, 3), as a frame."""
        if self.reading.size is not None and image.shape[:2] != (self.reading.size,) * 2:
            return resize(image, self.reading.size)
        try:
            return as_frames(image[None])[0]
        except ValueError as error:
            raise DatasetError(f"{name}: {error}") from error


class ImagesSink(Sink):
    """Writes a folder of PNG files an episode; everything but the frames is left out."""

    def __init__(self, folder: Path) -> None:
        """Write into a folder."""
        self._folder = folder

    def write(self, index: int, episode: Episode) -> None:
        """See `Sink`."""
        name = f"episode-{index:06d}"
        for time, frame in enumerate(drawn(episode)):
            buffer = BytesIO()
            Image.fromarray(frame.transpose(1, 2, 0)).save(buffer, "PNG")
            write_atomically(self._folder / name / f"{time:06d}.png", buffer.getvalue())
        provenance.append(self._folder, name, episode.info)

    def close(self) -> None:
        """See `Sink`: every file is complete."""


def read_image(data: bytes, name: str, formats: tuple[str, ...]) -> Iterator[np.ndarray]:
    """The frames of an encoded image, one for a still: uint8 (H, W, 3).

    Raises:
        DatasetError: it is damaged, or larger than anything that is shown.
    """
    try:
        with Image.open(BytesIO(data), formats=formats) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise ValueError(f"{image.width} x {image.height} is too large")
            for frame in ImageSequence.Iterator(image):
                yield np.asarray(frame.convert("RGB"))
    # Pillow's parsers raise whatever the bytes lead them to.
    except Exception as error:
        raise DatasetError(
            f"{name} is damaged or no image ({error}): fetch it again, or remove it"
        ) from error


def _read(path: Path) -> Iterator[np.ndarray]:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DatasetError(f"{path} is larger than {MOST_BYTES:,} bytes: remove it")
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"cannot read {path} ({error.strerror}): check it, or remove it") from error
    return read_image(data, str(path), ("GIF",) if path.suffix.lower() in _MOVING else ("PNG", "JPEG"))


def _images_in(folder: Path) -> list[Path]:
    return [each for each in folder.iterdir() if each.suffix.lower() in _STILLS and each.is_file()]


def _episodes(path: Path) -> Iterator[Path]:
    """Folders that hold images, and GIF files, below a folder; links to other folders are not followed."""
    for folder, inner, names in os.walk(path):
        inner[:] = in_order(inner)
        if any(Path(name).suffix.lower() in _STILLS for name in names):
            yield Path(folder)
        yield from (Path(folder, name) for name in in_order(names) if Path(name).suffix.lower() in _MOVING)
