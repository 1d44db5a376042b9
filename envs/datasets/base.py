"""What all foreign formats share: sources that are read episode by episode, and sinks that are written so."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from configs.distractors import NO_DISTRACTORS
from envs.recording import Episode, EpisodeInfo

MOST_BYTES = 2**30
"""Largest array, or file of arrays, that is read: what declares more is taken for an attack or damage."""


class DatasetError(RuntimeError):
    """A dataset cannot be read or written; the message names the file and the remedy."""


def _no_name(name: str) -> str | None:
    return None


@dataclass(frozen=True)
class Reading:
    """How a foreign dataset is to be read; None is whatever the dataset says, or its format's custom.

    Attributes:
        task: name of the task.
        look: `fast` or `original`.
        action_repeat: frames a decision lasts.
        size: height and width of the frames in pixels.
        image: which of several images in an observation.
        canonical: the canonical name of a task that a dataset names, None where it is not known.
        draw: task, look and physics states, float64 (N, P), to frames, uint8 (N, 3, size, size); for
            datasets without pixels.
    """

    task: str | None = None
    look: str | None = None
    action_repeat: int | None = None
    size: int | None = None
    image: str | None = None
    canonical: Callable[[str], str | None] = _no_name
    draw: Callable[[str, str, np.ndarray], np.ndarray] | None = None


@dataclass
class Source(ABC):
    """A foreign dataset: episodes 0 .. len - 1, each read when it is asked for.

    Attributes:
        path: where it lies.
        reading: how it is to be read.
        notes: what the user should know about what was read, each said once.
    """

    path: Path
    reading: Reading
    notes: list[str] = field(default_factory=list, init=False)

    # What holds where neither the dataset nor the user says anything.
    look: ClassVar[str] = "original"
    action_repeat: ClassVar[int] = 1
    task: ClassVar[str | None] = None

    @abstractmethod
    def __len__(self) -> int:
        """Episodes."""

    @abstractmethod
    def name(self, index: int) -> str:
        """How the user finds an episode there."""

    @abstractmethod
    def arrays(self, index: int) -> dict[str, np.ndarray]:
        """Arrays of an `Episode`; physics and proprio may be absent.

        Raises:
            DatasetError: the file is missing, damaged, hostile or of another format.
            ValueError: what it holds is no episode.
        """

    @abstractmethod
    def recorded(self, index: int) -> EpisodeInfo | None:
        """Where an episode comes from, if it was exported by this project."""

    def hints(self) -> list[str]:
        """What may be the name of the task, the likeliest first."""
        return [part for part in reversed(self.path.absolute().parts) if part != self.path.anchor]

    def close(self) -> None:  # noqa: B027  (most sources hold nothing open)
        """Free what is held."""

    def read(self, index: int) -> Episode:
        """Read an episode.

        Raises:
            DatasetError: it cannot be read, or holds no episode.
        """
        try:
            arrays = self.arrays(index)
            observations = len(arrays["frame"])
            for name, dtype in (("physics", np.float64), ("proprio", np.float32)):
                arrays.setdefault(name, np.zeros((observations, 0), dtype))
            return Episode(**arrays, info=self.info(index, len(arrays["action"])))
        except ValueError as error:
            raise DatasetError(f"{self.name(index)} holds no episode: {error}") from error

    def note(self, text: str) -> None:
        """Keep a note unless it is there."""
        if text not in self.notes:
            self.notes.append(text)

    def info(self, index: int, steps: int) -> EpisodeInfo:
        """Where an episode comes from: as it was asked for, as it was recorded, or by custom.

        Args:
            index: which episode.
            steps: its decisions.

        Raises:
            DatasetError: nothing says what task it is of.
        """
        asked, recorded = self.reading, self.recorded(index)
        if recorded is None:
            repeat = asked.action_repeat or self.action_repeat
            return EpisodeInfo(
                task=asked.task or self._hinted_task(),
                look=asked.look or self.look,
                action_repeat=repeat,
                lane=0,
                episode=index,
                seed=0,
                frames=steps * repeat,
                versions={},
                distract=NO_DISTRACTORS,
            )
        changes: dict[str, Any] = {"task": asked.task, "look": asked.look}
        if asked.action_repeat not in (None, recorded.action_repeat):
            repeat = int(asked.action_repeat or 0)
            changes |= {"action_repeat": repeat, "frames": steps * repeat}
        return replace(recorded, **{name: value for name, value in changes.items() if value is not None})

    def _hinted_task(self) -> str:
        known = (self.reading.canonical(hint) for hint in self.hints())
        task = next((name for name in known if name), self.task)
        if task is None:
            raise DatasetError(f"{self.path} does not say which task it is of: add --task NAME")
        return task


class Sink(ABC):
    """A foreign dataset that is being written, in a folder that is its own."""

    @abstractmethod
    def write(self, index: int, episode: Episode) -> None:
        """Append an episode.

        Raises:
            DatasetError: the format cannot hold it; the message says why.
        """

    @abstractmethod
    def close(self) -> None:
        """Finish; without it, what was written is no dataset."""


Sorted = TypeVar("Sorted", Path, str)


def in_order(names: list[Sorted]) -> list[Sorted]:
    """Sorted as people count: `frame-9` before `frame-10`."""

    def key(name: Sorted) -> list[tuple[int, str]]:
        # digits are compared by their number of places first, so that no number is too long
        parts = re.split(r"(\d+)", str(name))
        stripped = (part.lstrip("0") if part.isdecimal() else part for part in parts)
        return [(len(part) if part.isdecimal() else 0, part) for part in stripped]

    return sorted(names, key=key)


def number_of_bytes(shape: tuple[int, ...], itemsize: int) -> int:
    """Bytes of an array, in integers that do not overflow."""
    count = itemsize
    for length in shape:
        count *= int(length)
    return count
