"""Reads an HDF5 file for `envs.datasets.hdf5.Hdf5Reader`, in a process of its own; see there.

A question is a line of JSON, [operation, name, start, stop]. An answer is the length of some JSON in eight
bytes, the JSON, and as many bytes as its key `bytes` says; its key `error` says why there are none. This file
is run by its path and imports nothing of the project.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

import h5py
import numpy as np


def main(path: str, most_bytes: int) -> None:
    """Answer questions about a file until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asks decides when it is over
    with h5py.File(path, "r") as file:
        _write(sys.stdout.buffer, {}, b"")
        for line in sys.stdin:
            operation, name, start, stop = json.loads(line)
            try:
                answer, data = OPERATIONS[operation](_find(file, name), start, stop, most_bytes)
            # Any kind is possible: h5py translates what the library found wrong in many ways.
            except Exception as error:
                answer, data = {"error": f"{name}: {error}"}, b""
            _write(sys.stdout.buffer, answer, data)


def _write(stream: BinaryIO, answer: dict[str, Any], data: bytes) -> None:
    text = json.dumps(answer | {"bytes": len(data)}).encode()
    stream.write(len(text).to_bytes(8, "little") + text)
    stream.write(data)
    stream.flush()


def _find(file: h5py.File, name: str) -> Any:
    """What has this name, if all of the way there is inside the file."""
    place: Any = file
    for part in name.split("/") if name else ():
        if not isinstance(place, h5py.Group) or part in ("", ".", "..") or part not in place.keys():
            raise ValueError("is not there")
        if not isinstance(place.get(part, getlink=True), h5py.HardLink):
            raise ValueError("is a link out of its place, which is not followed")
        place = place[part]
    return place


def _dataset(place: Any) -> Any:
    """A dataset whose content is in this file."""
    if not isinstance(place, h5py.Dataset):
        raise ValueError("is no dataset")
    if place.external or place.is_virtual:
        raise ValueError("is stored outside of the file, where nothing is read")
    return place


def _check_size(shape: tuple[int, ...], itemsize: int, most_bytes: int) -> None:
    size = itemsize
    for length in shape:
        size *= int(length)
    if size > most_bytes:
        raise ValueError(f"would be {size:,} bytes, more than {most_bytes:,}")


def members(place: Any, start: None, stop: None, most_bytes: int) -> tuple[dict[str, Any], bytes]:
    """Names in a group; a dataset has none."""
    return {"members": list(place) if isinstance(place, h5py.Group) else None}, b""


def attributes(place: Any, start: None, stop: None, most_bytes: int) -> tuple[dict[str, Any], bytes]:
    """Those that are a number or a text, of a group or dataset."""
    found: dict[str, Any] = {}
    for name in place.attrs:
        identifier = place.attrs.get_id(name)
        if identifier.shape != () or identifier.dtype.itemsize > most_bytes:
            continue
        value = place.attrs[name]
        if isinstance(value, (str, np.integer)):
            found[name] = value if isinstance(value, str) else int(value)
    return {"attributes": found}, b""


def axes(place: Any, start: None, stop: None, most_bytes: int) -> tuple[dict[str, Any], bytes]:
    """Number of axes of a dataset."""
    return {"axes": len(_dataset(place).shape)}, b""


def array(place: Any, start: int | None, stop: int | None, most_bytes: int) -> tuple[dict[str, Any], bytes]:
    """Rows of a dataset of numbers."""
    dataset = _dataset(place)
    if dataset.dtype.kind not in "biuf":
        raise ValueError(f"has dtype {dataset.dtype}: expected numbers")
    if not dataset.shape:
        raise ValueError("is a single number")
    start, stop, _ = slice(start, stop).indices(len(dataset))
    itemsize = dataset.dtype.itemsize
    _check_size((max(0, stop - start), *dataset.shape[1:]), itemsize, most_bytes)
    _check_size(dataset.chunks or (), itemsize, most_bytes)
    rows = np.ascontiguousarray(dataset[start:stop])
    return {"dtype": rows.dtype.str, "shape": rows.shape}, rows.tobytes()


def blobs(place: Any, start: None, stop: None, most_bytes: int) -> tuple[dict[str, Any], bytes]:
    """The rows of a dataset of bytes, one after the other: of one length, or of lengths of their own."""
    dataset = _dataset(place)
    kind = h5py.check_vlen_dtype(dataset.dtype) or dataset.dtype
    if kind != np.uint8 or dataset.ndim != (1 if h5py.check_vlen_dtype(dataset.dtype) else 2):
        raise ValueError(f"has dtype {dataset.dtype} and shape {dataset.shape}: expected encoded images")
    _check_size(dataset.shape, 1, most_bytes)
    _check_size(dataset.chunks or (), dataset.dtype.itemsize, most_bytes)
    rows: list[bytes] = []
    size = 0
    for index in range(len(dataset)):
        rows.append(np.asarray(dataset[index], np.uint8).tobytes())
        size += len(rows[-1])
        if size > most_bytes:
            raise ValueError(f"is more than {most_bytes:,} bytes")
    return {"lengths": [len(row) for row in rows]}, b"".join(rows)


OPERATIONS: dict[str, Callable[..., tuple[dict[str, Any], bytes]]] = {
    "members": members,
    "attributes": attributes,
    "axes": axes,
    "array": array,
    "blobs": blobs,
}

if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
