"""Datasets that are files of a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from envs.datasets import provenance
from envs.datasets.base import DatasetError, Reading, Source, in_order
from envs.recording import EpisodeInfo


class FileSource(Source):
    """A file an episode.

    Attributes:
        files: in the order of the episodes.
    """

    def __init__(self, path: Path, reading: Reading, files: list[Path]) -> None:
        """Read so many files, at least one."""
        super().__init__(path, reading)
        self.files = files
        self._recorded = provenance.load(files[0].parent)

    def __len__(self) -> int:
        """See `Source`."""
        return len(self.files)

    def name(self, index: int) -> str:
        """See `Source`."""
        return str(self.files[index])

    def recorded(self, index: int) -> EpisodeInfo | None:
        """See `Source`."""
        return self._recorded.get(self.files[index].name)


def files_of(path: Path, *endings: str) -> list[Path]:
    """A file with one of these endings, or those in a folder, in the order of their names.

    Raises:
        DatasetError: there are none.
    """
    try:
        found = [each for each in path.iterdir() if each.suffix in endings] if path.is_dir() else [path]
    except OSError as error:
        raise DatasetError(f"cannot read {path} ({error.strerror}): check its path") from error
    if not path.is_dir() and (path.suffix not in endings or not path.is_file()):
        raise DatasetError(f"{path} is no folder of {' or '.join(endings)} files, and no such file: check it")
    if not found:
        folders = [each.name for each in path.iterdir() if each.is_dir()]
        inside = f"; it has the folders {', '.join(in_order(folders)[:8])}" if folders else ""
        raise DatasetError(f"{path} holds no {' or '.join(endings)} files: name the folder that does{inside}")
    return in_order(found)


def check_keys(path: Path, rows: dict[str, np.ndarray], needed: set[str]) -> None:
    """Raise if arrays are missing.

    Raises:
        DatasetError: some are.
    """
    if missing := needed - set(rows):
        raise DatasetError(f"{path} has no {', '.join(sorted(missing))}: is it of this format?")
