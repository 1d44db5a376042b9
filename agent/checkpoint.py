"""Nested state in one file, without pickle: tensors as safetensors, the structure around them as JSON.

A checkpoint is complete or absent: it is written beside its place, brought to disk and renamed. Numbered
ones (`checkpoint-000040000.safetensors`) are the run's own, and all but the newest are deleted; files under
other names are kept.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from agent.atomic import write_atomically

FORMAT = 4
_KIND = "nearfar-checkpoint"
_NUMBERED = re.compile(r"checkpoint-(\d{9,})\.safetensors")


class CheckpointError(RuntimeError):
    """A file cannot be loaded as a checkpoint; the message names the file and the remedy."""


def save(path: str | os.PathLike[str], state: dict[Any, Any]) -> None:
    """Write nested state so that `load` returns it bit for bit.

    Args:
        path: where to; an older file there is replaced at the very end.
        state: dicts (keys str or int), lists and tuples of tensors, NumPy arrays, int of any size,
            float, str, bool and None. Tensors come back on the CPU, and share no memory even if they did.

    Raises:
        TypeError: something else is in the state; the message says where.
        OSError: the file cannot be written (disk full); an older one there is untouched.
    """
    tensors: dict[str, Tensor] = {}
    structure = json.dumps(_encode(state, tensors, "state"))
    metadata = {"kind": _KIND, "format": str(FORMAT), "structure": structure}
    write_atomically(Path(path), safetensors.torch.save(tensors, metadata))


def load(path: str | os.PathLike[str]) -> dict[Any, Any]:
    """Read what `save` wrote.

    Raises:
        CheckpointError: the file is missing, damaged, no checkpoint, or of a newer format.
    """
    try:
        data = Path(path).read_bytes()
        tensors = safetensors.torch.load(data)  # checks the header against the size of the file
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except OSError as error:
        raise CheckpointError(f"cannot read checkpoint {path} ({error.strerror}): check its path") from error
    except (ValueError, KeyError, safetensors.SafetensorError) as error:
        if not _NUMBERED.fullmatch(Path(path).name):
            raise CheckpointError(f"{path} is no checkpoint of nearfar: give the path of one") from error
        raise CheckpointError(
            f"checkpoint {path} is damaged or incomplete ({error}): delete it to go on from the one before"
        ) from error
    metadata = header.get("__metadata__", {})
    if metadata.get("kind") != _KIND:
        raise CheckpointError(f"{path} is no checkpoint of nearfar: give the path of one, or move it away")
    if metadata.get("format") != str(FORMAT):
        raise CheckpointError(
            f"checkpoint {path} has format {metadata.get('format')}, this version reads {FORMAT}: "
            "use the version of nearfar that wrote it"
        )
    try:
        state = _decode(json.loads(metadata["structure"]), tensors)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"checkpoint {path} is damaged ({error!r}): delete it to go on from the one before"
        ) from error
    return state


def numbered(directory: str | os.PathLike[str], frames: int) -> Path:
    """Path of a run's checkpoint taken at this many frames."""
    return Path(directory) / f"checkpoint-{frames:09d}.safetensors"


def latest(directory: str | os.PathLike[str]) -> Path | None:
    """The numbered checkpoint with most frames; None where there is none, or no such directory."""
    return next(iter(_newest_first(directory)), None)


def retain(directory: str | os.PathLike[str], keep: int = 2, *, keep_every: int = 0) -> None:
    """Delete numbered checkpoints but the newest `keep`, and the first of each `keep_every` frames."""
    paths = _newest_first(directory)
    milestones: dict[int, Path] = {}
    for path in paths if keep_every else []:  # from the newest: the oldest of each interval stays
        milestones[frames_of(path) // keep_every] = path
    milestones.pop(0, None)
    for path in paths[keep:]:
        if path not in milestones.values():
            path.unlink()


def frames_of(path: Path) -> int:
    """Frames of a numbered checkpoint."""
    match = _NUMBERED.fullmatch(path.name)
    if match is None:
        raise ValueError(f"{path} is not named as a numbered checkpoint")
    return int(match[1])


def _newest_first(directory: str | os.PathLike[str]) -> list[Path]:
    found = [(match, path) for path in Path(directory).glob("*") if (match := _NUMBERED.fullmatch(path.name))]
    return [path for match, path in sorted(found, key=lambda entry: -int(entry[0][1]))]


def _encode(value: Any, tensors: dict[str, Tensor], place: str) -> Any:
    """The JSON form of a value; what JSON cannot say becomes an object with one key that starts with `$`."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value)  # also of np.float64; JSON keeps all its digits
    if isinstance(value, Tensor | np.ndarray):
        name = str(len(tensors))
        tensors[name] = _flat(value, place)
        if isinstance(value, np.ndarray):
            return {"$array": name}
        dense = value.ndim == 4 and not value.is_contiguous()
        channels_last = dense and value.is_contiguous(memory_format=torch.channels_last)
        return {"$channels_last" if channels_last else "$tensor": name}
    if isinstance(value, list | tuple):
        entries = [_encode(item, tensors, f"{place}[{i}]") for i, item in enumerate(value)]
        return entries if isinstance(value, list) else {"$tuple": entries}
    if isinstance(value, dict):
        items = {key: _encode(item, tensors, f"{place}[{key!r}]") for key, item in value.items()}
        if all(isinstance(key, str) and not key.startswith("$") for key in items):
            return items
        if all(isinstance(key, str | int) and not isinstance(key, bool) for key in items):
            return {"$dict": [[key, item] for key, item in items.items()]}
        raise TypeError(f"{place} has keys that are neither str nor int: {list(items)}")
    raise TypeError(f"{place} is a {type(value).__name__}, which a checkpoint cannot hold")


def _flat(value: Tensor | np.ndarray, place: str) -> Tensor:
    """A contiguous copy on the CPU: safetensors refuses strides and shared memory."""
    try:
        tensor = torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else value.detach().cpu()
    except TypeError as error:
        raise TypeError(f"{place}: {error}") from error
    return tensor.clone(memory_format=torch.contiguous_format)


def _decode(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_decode(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    match value:
        case {"$tensor": name}:
            return tensors[name]
        case {"$channels_last": name}:
            return tensors[name].contiguous(memory_format=torch.channels_last)
        case {"$array": name}:
            return tensors[name].numpy()
        case {"$tuple": items}:
            return tuple(_decode(item, tensors) for item in items)
        case {"$dict": items}:
            return {key: _decode(item, tensors) for key, item in items}
    return {key: _decode(item, tensors) for key, item in value.items()}
