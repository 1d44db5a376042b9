"""V-D4RL: an npz file an episode, or flat HDF5 files of many episodes; `action[t]` led to `image[t]`.

npz, arrays (T + 1, ...): image (H, W, 3), action, reward, discount, is_first, is_last, is_terminal. HDF5, the
rows of all episodes one after another: observation (3, H, W), action, reward, discount, step_type (0 first, 1
middle, 2 last). Source: github.com/conglu1997/v-d4rl (Lu et al. 2023, arXiv:2206.04779).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from envs.datasets import provenance
from envs.datasets.base import DatasetError, Reading, Sink, Source
from envs.datasets.conversion import as_frames, shift, unshift
from envs.datasets.files import FileSource, check_keys, files_of
from envs.datasets.hdf5 import Hdf5Reader, Hdf5Rows
from envs.datasets.npz import read_npz, write_npz
from envs.recording import Episode, EpisodeInfo

_REPEAT = 2  # for every dataset that was published
_FILE = "data.hdf5"
_FIRST, _MIDDLE, _LAST = 0, 1, 2
_ROWS = ("action", "reward", "discount")


def open_v_d4rl(path: Path, reading: Reading) -> Source:
    """A folder of either layout, or one file.

    Raises:
        DatasetError: there are no such files, or they are damaged.
    """
    files = files_of(path, ".npz", ".hdf5")
    if len({each.suffix for each in files}) > 1:
        raise DatasetError(f"{path} holds both .npz and .hdf5 files: name one of them, or move them apart")
    return (NpzSource if files[0].suffix == ".npz" else Hdf5Source)(path, reading, files)


class NpzSource(FileSource):
    """A file an episode."""

    action_repeat = _REPEAT

    def arrays(self, index: int) -> dict[str, np.ndarray]:
        """See `Source`."""
        wanted = {"image", *_ROWS}
        rows = read_npz(self.files[index], {*wanted, "is_terminal"})
        check_keys(self.files[index], rows, wanted)
        images = rows.pop("image")
        return {"frame": as_frames(images, self.reading.size), **unshift(rows)}


class Hdf5Source(Source):
    """Files of many episodes, whose rows follow each other."""

    action_repeat = _REPEAT

    def __init__(self, path: Path, reading: Reading, files: list[Path]) -> None:
        """Find the episodes of so many files.

        Raises:
            DatasetError: one is damaged, or has an episode without an end.
        """
        super().__init__(path, reading)
        self._recorded = provenance.load(files[0].parent)
        self._reader: Hdf5Reader | None = None
        self._places = [(each, *span) for each in files for span in self._spans(each)]

    def __len__(self) -> int:
        """See `Source`."""
        return len(self._places)

    def name(self, index: int) -> str:
        """See `Source`."""
        path, start, stop = self._places[index]
        return f"{path}, rows {start} to {stop - 1}"

    def recorded(self, index: int) -> EpisodeInfo | None:
        """See `Source`."""
        path, start, _ = self._places[index]
        return self._recorded.get(f"{path.name}#{start}")

    def arrays(self, index: int) -> dict[str, np.ndarray]:
        """See `Source`."""
        path, start, stop = self._places[index]
        reader = self._open(path)
        images = reader.array("observation", start, stop)
        rows = {name: reader.array(name, start, stop) for name in _ROWS}
        if len(images) != stop - start:
            raise DatasetError(f"{path} has fewer observations than step types: fetch it again")
        return {"frame": as_frames(images, self.reading.size), **unshift(rows)}

    def close(self) -> None:
        """See `Source`."""
        if self._reader is not None:
            self._reader.close()

    def _open(self, path: Path) -> Hdf5Reader:
        if self._reader is None or self._reader.path != path:
            self.close()
            self._reader = Hdf5Reader(path)
        return self._reader

    def _spans(self, path: Path) -> list[tuple[int, int]]:
        """First row of each episode, and the one after its last."""
        types = self._open(path).array("step_type")
        if types.ndim != 1 or not np.isin(types, (_FIRST, _MIDDLE, _LAST)).all():
            raise DatasetError(f"{path}: step_type holds other things than 0, 1 and 2: is it of V-D4RL?")
        starts, lasts = np.flatnonzero(types == _FIRST), np.flatnonzero(types == _LAST)
        ends_meet = len(starts) == len(lasts) > 0 and starts[0] == 0 and lasts[-1] == len(types) - 1
        if not ends_meet or (starts[1:] != lasts[:-1] + 1).any():
            raise DatasetError(
                f"{path} has {len(starts)} first and {len(lasts)} last rows that do not make whole episodes: "
                "fetch it again, or join the files that it was split into"
            )
        return [(int(start), int(last) + 1) for start, last in zip(starts, lasts, strict=True)]


class NpzSink(Sink):
    """Writes a file an episode."""

    def __init__(self, folder: Path) -> None:
        """Write into a folder."""
        self._folder = folder

    def write(self, index: int, episode: Episode) -> None:
        """See `Sink`."""
        name = f"episode-{index:06d}-{episode.steps}.npz"
        is_first, is_last = np.zeros((2, episode.steps + 1), np.bool_)
        is_first[0] = is_last[-1] = True
        rows = _rows(episode) | {
            "image": episode.frame.transpose(0, 2, 3, 1),
            "is_first": is_first,
            "is_last": is_last,
            "is_terminal": shift(episode.terminated),
        }
        write_npz(self._folder / name, rows)
        provenance.append(self._folder, name, episode.info)

    def close(self) -> None:
        """See `Sink`: every file is complete."""


class Hdf5Sink(Sink):
    """Writes all episodes into one file."""

    def __init__(self, folder: Path) -> None:
        """Write into a folder."""
        self._folder = folder
        self._file = Hdf5Rows(folder / _FILE)

    def write(self, index: int, episode: Episode) -> None:
        """See `Sink`."""
        step_type = np.full(episode.steps + 1, _MIDDLE, np.float64)  # as they are in the published files
        step_type[0], step_type[-1] = _FIRST, _LAST
        name = f"{_FILE}#{self._file.rows}"
        self._file.append({"observation": drawn(episode), "step_type": step_type, **_rows(episode)})
        provenance.append(self._folder, name, episode.info)

    def close(self) -> None:
        """See `Sink`."""
        self._file.close()


def drawn(episode: Episode) -> np.ndarray:
    """Frames of an episode, uint8 (T + 1, 3, H, W).

    Raises:
        DatasetError: there are none.
    """
    if not episode.frame.size:
        raise DatasetError(f"episodes of {episode.info.task} without frames: use the format minari or exorl")
    return episode.frame


def _rows(episode: Episode) -> dict[str, np.ndarray]:
    drawn(episode)
    return {
        "action": shift(episode.action),
        "reward": shift(episode.reward),
        "discount": np.concatenate([[True], ~episode.terminated]).astype(np.float32),
    }
