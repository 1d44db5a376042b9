"""HDF5 files: read by a process of their own, written by this one."""

from __future__ import annotations

import itertools
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from envs.datasets.base import MOST_BYTES, DatasetError

_WORKER = Path(__file__).with_name("hdf5_worker.py")
_PATIENCE_S = 60.0
_PIECE = 1 << 20


class Hdf5Reader:
    """One open file.

    The HDF5 library may crash, or go round in circles, on damaged files. So another process does the reading:
    it answers with plain bytes, and is ended when it takes too long. It follows no link and no reference to
    other files, and reads nothing but numbers and short texts.

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            DatasetError: it cannot be read, or is no HDF5 file.
        """
        self.path = path
        try:
            path.open("rb").close()
        except OSError as error:
            raise DatasetError(f"cannot read {path} ({error.strerror}): check its path") from error
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_WORKER), str(path), str(MOST_BYTES)],
            bufsize=0,  # answers are read as they come, by the system's own calls
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._header()

    def members(self, name: str = "") -> list[str] | None:
        """Names in a group; None: it is a dataset.

        Raises:
            DatasetError: the file is damaged, or has no such group.
        """
        found: list[str] | None = self._ask("members", name)[0]["members"]
        return found

    def attributes(self, name: str) -> dict[str, int | str]:
        """Integers and texts that a group is labelled with.

        Raises:
            DatasetError: the file is damaged, or has no such group.
        """
        found: dict[str, int | str] = self._ask("attributes", name)[0]["attributes"]
        return found

    def axes(self, name: str) -> int:
        """Number of axes of a dataset.

        Raises:
            DatasetError: the file is damaged, has no such dataset, or refers to other files.
        """
        found: int = self._ask("axes", name)[0]["axes"]
        return found

    def array(self, name: str, start: int | None = None, stop: int | None = None) -> np.ndarray:
        """Rows start .. stop - 1 of a dataset of numbers.

        Raises:
            DatasetError: the file is damaged, has no such dataset, or refers to other files.
        """
        answer, data = self._ask("array", name, start, stop)
        return np.frombuffer(data, answer["dtype"]).reshape(answer["shape"])

    def blobs(self, name: str) -> list[bytes]:
        """The rows of a dataset of encoded images.

        Raises:
            DatasetError: as `array`.
        """
        answer, data = self._ask("blobs", name)
        ends = np.cumsum([0, *answer["lengths"]]).tolist()
        return [data[start:stop] for start, stop in itertools.pairwise(ends)]

    def close(self) -> None:
        """End the other process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _ask(
        self, operation: str, name: str, start: int | None = None, stop: int | None = None
    ) -> tuple[dict[str, Any], bytes]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps([operation, name, start, stop]).encode() + b"\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):  # ValueError: closed after an earlier failure
            raise self._damaged("the HDF5 library gave up on it") from None
        answer = self._header()
        if "error" in answer:
            raise self._damaged(answer["error"])
        return answer, self._bytes(answer["bytes"])

    def _header(self) -> dict[str, Any]:
        size = int.from_bytes(self._bytes(8), "little")
        answer: dict[str, Any] = json.loads(self._bytes(size))
        return answer

    def _bytes(self, count: int) -> bytes:
        """So many bytes of the answer."""
        assert self._process.stdout is not None
        data, file = bytearray(), self._process.stdout.fileno()
        deadline = time.monotonic() + _PATIENCE_S
        while len(data) < count:
            ready, _, _ = select.select([file], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                self.close()
                raise self._damaged(f"the HDF5 library does not come to an end within {_PATIENCE_S:g} s")
            piece = os.read(file, min(_PIECE, count - len(data)))
            if not piece:
                self.close()
                raise self._damaged("the HDF5 library cannot read it")
            data += piece
        return bytes(data)

    def _damaged(self, reason: str) -> DatasetError:
        return DatasetError(f"{self.path} is damaged or of another format ({reason}): fetch it again")


class Hdf5Rows:
    """A new file of flat datasets that grow by rows.

    Attributes:
        rows: how many there are.
    """

    def __init__(self, path: Path) -> None:
        """Make it."""
        import h5py

        self._file: Any = h5py.File(path, "w")
        self.rows = 0

    def append(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Add rows to every dataset, the same number to each."""
        for name, array in arrays.items():
            if name not in self._file:
                self._file.create_dataset(
                    name,
                    shape=(0, *array.shape[1:]),
                    maxshape=(None, *array.shape[1:]),
                    # few rows a chunk: an episode is read without unpacking its neighbours
                    chunks=(min(len(array), 16 if array.ndim > 2 else 512), *array.shape[1:]),
                    dtype=array.dtype,
                    compression="gzip",
                )
            self._file[name].resize(self.rows + len(array), axis=0)
            self._file[name][self.rows :] = array
        self.rows += len(next(iter(arrays.values())))

    def close(self) -> None:
        """Bring it to disk."""
        self._file.close()
