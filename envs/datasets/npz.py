"""NumPy archives that nobody vouches for: nothing is unpickled, and only what fits is unpacked."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from agent.atomic import write_atomically
from envs.datasets.base import MOST_BYTES, DatasetError, number_of_bytes

_MOST_MEMBERS = 100
_NAME = re.compile(r"\w[\w-]*\.npy")
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_npz(path: Path, names: Collection[str]) -> dict[str, np.ndarray]:
    """Read arrays of numbers.

    Args:
        path: the archive.
        names: which of its arrays; those that it does not have are left out, others are not unpacked.

    Raises:
        DatasetError: it is missing, damaged or hostile.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = _checked_members(archive)
            return {name: array for name in members if (array := _read(archive, name, names)) is not None}
    # Whatever parsing bytes of a stranger raises, from eight libraries, means that it is no such archive.
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:
            raise DatasetError(f"cannot read {path} ({error.strerror}): check its path") from error
        raise DatasetError(f"{path} is damaged or no archive of arrays ({error}): fetch it again") from error


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an archive whole or not at all, compressed."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **dict[str, Any](arrays))
    write_atomically(path, buffer.getvalue())


def _checked_members(archive: zipfile.ZipFile) -> list[str]:
    """Names of the arrays, without their ending."""
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    if len(names) > _MOST_MEMBERS or len(set(names)) < len(names):
        raise ValueError(f"it has {len(names)} members, {len(set(names))} of them different")
    for name in names:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of an array")
    declared = sum(entry.file_size for entry in entries)
    if declared > MOST_BYTES:
        raise ValueError(f"it would unpack to {declared:,} bytes, more than {MOST_BYTES:,}")
    return [name.removesuffix(".npy") for name in names]


def _read(archive: zipfile.ZipFile, name: str, wanted: Collection[str]) -> np.ndarray | None:
    """An array; None for one that is not wanted, whose header is checked all the same."""
    with archive.open(f"{name}.npy") as member:
        shape, is_fortran, dtype, start = _header(member)
        if dtype.hasobject or (name in wanted and dtype.kind not in "biuf"):
            raise ValueError(f"{name} has dtype {dtype}: expected numbers, and no objects are read")
        size = archive.getinfo(f"{name}.npy").file_size - start
        if size != number_of_bytes(shape, dtype.itemsize):
            raise ValueError(f"{name} says {dtype} {shape}, and holds {size:,} bytes")
        if name not in wanted:
            return None
        data = member.read()  # to the end, where the checksum is compared
        return np.frombuffer(data, dtype).reshape(shape, order="F" if is_fortran else "C")


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, order, dtype, and where the data begins."""
    version = np.lib.format.read_magic(member)
    if version not in _HEADERS:
        raise ValueError(f"version {version} of arrays is not for numbers")
    shape, is_fortran, dtype = _HEADERS[version](member)
    if any(length < 0 for length in shape):
        raise ValueError(f"an array of shape {shape}")
    return shape, is_fortran, dtype, member.tell()
