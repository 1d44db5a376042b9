"""Random access to recorded episodes: stacks and windows, copied from memory-mapped files.

Only what is asked for is copied, so memory does not grow with the dataset; files stay in the system's page
cache as long as there is room. Where to look is drawn in `envs.positions`. Time indices follow `envs.spec`.
"""

from __future__ import annotations

import math
import mmap
import os
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from envs.episodes import EpisodeError, EpisodeStore
from envs.recording import DTYPES

MAX_OPEN_FILES = 128
"""Files that are mapped at a time; each takes a file descriptor, of which a process often has 1,024."""


@dataclass(frozen=True)
class Windows:
    """N windows of L observations and the L - 1 decisions between them.

    Attributes:
        frame: single frames, uint8 (N, L, 3, H, W).
        action: float32 (N, L - 1, A).
        reward: float32 (N, L - 1).
        terminated: bool (N, L - 1).
        physics: float64 (N, L, entries).
        proprio: float32 (N, L, D).
    """

    frame: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    physics: np.ndarray
    proprio: np.ndarray


class _Field(NamedTuple):
    """One array of every episode, as `_view` needs it.

    Attributes:
        column: where its offsets stand.
        dtype: of its numbers.
        shape: of one row.
        entries: in one row.
        row_bytes: of one row.
        is_of_decisions: whether it has a row for each decision, instead of each observation.
    """

    column: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    entries: int
    row_bytes: int
    is_of_decisions: bool


class EpisodeReader:
    """Stacks and windows of the episodes of one or several stores; for one thread at a time.

    Episodes are numbered from 0, store by store, in the order in which they were committed.

    Attributes:
        lengths: observations of each episode, int64 (E,).
        shared: what the episodes of the first store have in common, as in `EpisodeStore.shared`.
        fingerprint: of all episodes in their order, 8 hexadecimal digits.
    """

    def __init__(self, *stores: EpisodeStore, max_open_files: int = MAX_OPEN_FILES) -> None:
        """Look through all episodes of some stores.

        Args:
            stores: with frames, vectors and actions of the same shapes.
            max_open_files: files that are mapped at a time.

        Raises:
            EpisodeError: there are no episodes, shapes differ, or an episode is damaged.
        """
        self._stores = [store for store in stores if len(store)]
        if not self._stores:
            names = ", ".join(str(store.path) for store in stores)
            raise EpisodeError(f"there are no episodes in {names}: record some with nearfar collect")
        self._fields = _fields_of(self._stores)
        self._origin = np.array(
            [(number, name) for number, store in enumerate(self._stores) for name in store.ids()]
        )
        layouts = [self._stores[number].layout(name) for number, name in self._origin.tolist()]
        self.lengths = np.array([layout.steps + 1 for layout in layouts], np.int64)
        self.shared = self._stores[0].shared
        checksums = ",".join(layout.checksum for layout in layouts)
        self.fingerprint = f"{zlib.crc32(checksums.encode()):08x}"
        self._sizes = np.array([layout.size for layout in layouts])
        self._offsets = np.array([[layout.offsets[name] for name in self._fields] for layout in layouts])
        self._maps: OrderedDict[int, mmap.mmap] = OrderedDict()
        self._max_open_files = max_open_files

    def origin(self, episode: int) -> tuple[EpisodeStore, int]:
        """The store of an episode, and its number there."""
        number, identifier = self._origin[episode].tolist()
        return self._stores[number], identifier

    def stacks(self, episode: np.ndarray, time: np.ndarray, stack: int) -> np.ndarray:
        """Stacked frames, oldest first; before an episode's start its first frame is repeated.

        Args:
            episode: int (N,).
            time: of the newest frame, int (N,), in [0, length).
            stack: frames of each, S >= 1.

        Returns:
            uint8 (N, 3 * S, H, W).

        Raises:
            ValueError: there is no such episode or time.
            EpisodeError: a file is missing, or no longer what it was.
        """
        self._check(episode, time, 1)
        field = self._fields["frame"]
        out = np.empty((len(time), stack, *field.shape), np.uint8)
        for row in np.argsort(episode, kind="stable").tolist():
            number, newest = int(episode[row]), int(time[row])
            first = max(0, newest - stack + 1)
            frames = self._view(number, field, first, newest + 1 - first)
            repeated = stack - len(frames)
            out[row, :repeated] = frames[0]
            out[row, repeated:] = frames
        return out.reshape(len(time), stack * field.shape[0], *field.shape[1:])

    def windows(self, episode: np.ndarray, start: np.ndarray, length: int) -> Windows:
        """Consecutive observations and the decisions between them.

        Args:
            episode: int (N,).
            start: time of the first observation, int (N,).
            length: L >= 1, observations of each.

        Raises:
            ValueError: a window reaches beyond its episode.
            EpisodeError: a file is missing, or no longer what it was.
        """
        self._check(episode, start, length)
        spans = {name: length - field.is_of_decisions for name, field in self._fields.items()}
        arrays = {
            name: np.empty((len(start), spans[name], *field.shape), field.dtype)
            for name, field in self._fields.items()
        }
        parts = [(arrays[name], field, spans[name]) for name, field in self._fields.items() if spans[name]]
        for row in np.argsort(episode, kind="stable").tolist():  # so that each file is mapped once
            number, first = int(episode[row]), int(start[row])
            for array, field, span in parts:
                array[row] = self._view(number, field, first, span)
        return Windows(**arrays)

    def rows(self, name: str, episode: np.ndarray, start: np.ndarray, count: int) -> np.ndarray:
        """Consecutive rows of one array.

        Args:
            name: an array of an episode, such as `action`.
            episode: int (N,).
            start: time of the first row, int (N,).
            count: rows of each, >= 1.

        Returns:
            (N, count, ...), in the dtype of the array.

        Raises:
            ValueError: there is no such array, or it ends before.
            EpisodeError: a file is missing, or no longer what it was.
        """
        if name not in self._fields:
            raise ValueError(f"expected one of {', '.join(self._fields)}, found {name!r}")
        field = self._fields[name]
        self._check(episode, start, count + field.is_of_decisions)
        out = np.empty((len(start), count, *field.shape), field.dtype)
        for row in np.argsort(episode, kind="stable").tolist():
            out[row] = self._view(int(episode[row]), field, int(start[row]), count)
        return out

    def _check(self, episode: np.ndarray, start: np.ndarray, length: int) -> None:
        if length < 1 or episode.shape != start.shape or episode.ndim != 1:
            raise ValueError(
                f"expected as many times as episodes and a length of 1 or more, "
                f"found {episode.shape}, {start.shape} and {length}"
            )
        is_known = (episode >= 0) & (episode < len(self.lengths))
        longest = np.where(is_known, self.lengths[np.where(is_known, episode, 0)], 0)
        wrong = np.flatnonzero((start < 0) | (start + length > longest))
        if len(wrong):
            row = wrong[0]
            raise ValueError(
                f"episode {episode[row]} has {longest[row]} observations, "
                f"asked for {length} from time {start[row]} on"
            )

    def _view(self, episode: int, field: _Field, first: int, count: int) -> np.ndarray:
        """Rows `first` to `first + count - 1` of an array, as they lie in the file; not to be handed out."""
        if not field.entries:
            return np.empty((count, *field.shape), field.dtype)
        begin = int(self._offsets[episode, field.column]) + first * field.row_bytes
        mapped = self._map(episode)
        if count * field.row_bytes > mmap.PAGESIZE:
            page = begin - begin % mmap.PAGESIZE
            mapped.madvise(mmap.MADV_WILLNEED, page, begin + count * field.row_bytes - page)
        flat = np.frombuffer(mapped, field.dtype, count * field.entries, begin)
        return flat.reshape(count, *field.shape)

    def _map(self, episode: int) -> mmap.mmap:
        """The file of an episode; the one that was used longest ago makes room for it."""
        if episode in self._maps:
            self._maps.move_to_end(episode)
            return self._maps[episode]
        while len(self._maps) >= self._max_open_files:
            self._maps.popitem(last=False)
        store, identifier = self.origin(episode)
        path = store.file(identifier)
        try:
            self._maps[episode] = _mapped(path, int(self._sizes[episode]))
        except (OSError, ValueError) as error:
            raise EpisodeError(
                f"cannot read {path} ({error!r}): replace it by a copy or delete it"
            ) from error
        return self._maps[episode]


def _mapped(path: Path, expected_size: int) -> mmap.mmap:
    """A file, read-only; its size is checked, because reading beyond its end would kill the process."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if (size := os.fstat(descriptor).st_size) != expected_size:
            raise OSError(f"it had {expected_size} bytes, and has {size}")
        mapped = mmap.mmap(descriptor, expected_size, access=mmap.ACCESS_READ)
        # Else the system reads around each page that is not in memory, often megabytes: random windows of a
        # dataset larger than memory would then cost twenty times what was asked for. `_view` says what is.
        mapped.madvise(mmap.MADV_RANDOM)
        return mapped
    finally:
        os.close(descriptor)  # the map holds one of its own


def _fields_of(stores: Sequence[EpisodeStore]) -> dict[str, _Field]:
    """The arrays of a window by name.

    Raises:
        EpisodeError: their shapes are not the same in all stores.
    """
    shapes = [_shapes_of(store) for store in stores]
    for store, found in zip(stores, shapes, strict=True):
        if found != shapes[0]:
            raise EpisodeError(
                f"{store.path} holds {found}, {stores[0].path} {shapes[0]}: give stores of the same shapes"
            )
    fields = {}
    for column, (name, shape) in enumerate(shapes[0].items()):
        entries = math.prod(shape)
        of_decisions = name in ("action", "reward", "terminated")
        row_bytes = entries * DTYPES[name].itemsize
        fields[name] = _Field(column, DTYPES[name], shape, entries, row_bytes, of_decisions)
    return fields


def _shapes_of(store: EpisodeStore) -> dict[str, tuple[int, ...]]:
    """Shape of one row of each array."""
    shared = store.shared
    return {
        "frame": tuple(shared["frame_shape"]),
        "action": (shared["action_dim"],),
        "reward": (),
        "terminated": (),
        "physics": (shared["physics_dim"],),
        "proprio": (shared.get("proprio_dim", 0),),
    }
