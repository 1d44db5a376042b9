"""The one store of experience: a folder of episodes, written once each, in the order of their ends.

`store.json` says what all episodes share (task, look, distractors, shapes). `episode-00000042.safetensors`
holds one episode, uncompressed, so that it can be memory-mapped, and without pickle, so that it can be
trusted. Time indices follow `envs.spec`.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from agent.atomic import write_atomically
from configs.distractors import NO_DISTRACTORS
from envs.recording import DTYPES, Episode, EpisodeInfo

FORMAT = 2
EARLIER = "episodes-before"  # folder of those that a run has taken over from another one
_CODES = {"U8": np.uint8, "F32": np.float32, "F64": np.float64, "BOOL": np.bool_}
# What parsing a damaged or hostile file may raise.
_DAMAGE = (OSError, KeyError, TypeError, ValueError, RecursionError, safetensors.SafetensorError)
_FILE_NAME = re.compile(r"episode-(\d{8,})\.safetensors")


class EpisodeError(RuntimeError):
    """A stored episode cannot be read; the message names the file and the remedy."""


@dataclass(frozen=True)
class EpisodeLayout:
    """Where the arrays of an episode lie in its file.

    Attributes:
        steps: decisions T.
        size: of the file, in bytes.
        offsets: first byte of each array by name; 0 for one that is empty.
        checksum: of everything in it.
    """

    steps: int
    size: int
    offsets: Mapping[str, int]
    checksum: str


class EpisodeStore:
    """A folder of episodes that grows by whole episodes; one process writes, any may read."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open a folder; one that does not exist holds nothing and is made by the first commit.

        Raises:
            EpisodeError: `store.json` is damaged or of a newer format.
        """
        self.path = Path(path)
        self._shared = self._load_shared()
        names = os.listdir(self.path) if self.path.is_dir() else []
        self._ids = sorted(int(match[1]) for name in names if (match := _FILE_NAME.fullmatch(name)))

    def __len__(self) -> int:
        """Episodes in the store."""
        return len(self._ids)

    @property
    def shared(self) -> dict[str, Any]:
        """What all episodes have in common: task, look, action_repeat, shapes, distractors if any.

        Raises:
            EpisodeError: nothing was ever stored here.
        """
        if self._shared is None:
            raise EpisodeError(f"{self.path} is no episode store (it has no store.json)")
        return {key: value for key, value in self._shared.items() if key != "format"}

    def ids(self) -> list[int]:
        """Numbers of the stored episodes, in the order in which they were committed."""
        return list(self._ids)

    def commit(self, episode: Episode) -> int:
        """Append an episode: afterwards it is on disk whole, or, whatever happened, not at all.

        Returns:
            Its number in the store.

        Raises:
            ValueError: it does not fit the episodes that are there.
            OSError: it cannot be written (disk full); the store is as before.
        """
        shared = _shared_facts(episode)
        if self._shared is not None and shared != self._shared:
            raise ValueError(f"{self.path} holds episodes of {self._shared}, this one is of {shared}")
        identifier = self._ids[-1] + 1 if self._ids else 0
        arrays = {name: np.ascontiguousarray(getattr(episode, name)) for name in DTYPES}
        if not arrays["proprio"].size:
            del arrays["proprio"]
        data = _serialised(arrays, _metadata(episode))
        if self._shared is None:
            write_atomically(self.path / "store.json", json.dumps(shared, indent=2))
            self._shared = shared
        write_atomically(self.file(identifier), data)
        self._ids.append(identifier)
        return identifier

    def read(self, identifier: int) -> Episode:
        """Map an episode into memory: pages are read when they are touched, and its arrays are read-only.

        One file descriptor stays open as long as any of its arrays lives.

        Raises:
            EpisodeError: the file is missing, damaged or of a newer format.
        """
        return self._load(identifier)[0]

    def layout(self, identifier: int) -> EpisodeLayout:
        """Where the arrays of an episode lie, for those who map its file by themselves.

        Raises:
            EpisodeError: the file is missing, damaged or of a newer format.
        """
        return self._load(identifier)[1]

    def file(self, identifier: int) -> Path:
        """Path of an episode."""
        return self.path / f"episode-{identifier:08d}.safetensors"

    def _load(self, identifier: int) -> tuple[Episode, EpisodeLayout]:
        path = self.file(identifier)
        try:
            metadata, arrays, layout = _map(path)
            if int(metadata["format"]) > FORMAT:
                raise ValueError(f"its format {metadata['format']} is newer than {FORMAT}: update nearfar")
            arrays.setdefault("proprio", np.zeros((len(arrays["frame"]), 0), np.float32))
            episode = Episode(**arrays, info=_info(metadata))
            if (found := _shared_facts(episode)) != self._shared:
                raise ValueError(f"it is of {found}, store.json of {self._shared}")
        except _DAMAGE as error:
            raise EpisodeError(
                f"cannot read {path} ({error!r}): replace it by a copy or delete it"
            ) from error
        return episode, layout

    def drop_after(self, count: int) -> None:
        """Keep the episodes numbered below `count`, delete the others, the newest first."""
        while self._ids and self._ids[-1] >= count:
            self.file(self._ids[-1]).unlink()
            self._ids.pop()
        if not self._ids:
            self._shared = None  # what is committed next decides, and `store.json` is written anew

    def set_aside(self) -> Path:
        """Move the folder out of the way, to the first free name beside it, and go on with an empty one.

        Returns:
            Where the episodes are now: a store of its own.
        """
        number = 1
        while (target := self.path.with_name(f"{self.path.name}-set-aside-{number}")).exists():
            number += 1
        self.path.rename(target)
        self._ids, self._shared = [], None
        return target

    def verify(self) -> list[EpisodeError]:
        """Read everything and compare it with its checksums; returns what is wrong, file by file."""
        return [problem for identifier in self._ids for problem in self.problems_of(identifier)]

    def problems_of(self, identifier: int) -> list[EpisodeError]:
        """Read an episode and compare it with its checksum; returns what is wrong."""
        path = self.file(identifier)
        problems = []
        try:
            episode = self.read(identifier)
            if _map(path)[0] != _metadata(episode):
                problems.append(EpisodeError(f"{path} is damaged: its checksum differs"))
            floats = (episode.action, episode.reward, episode.physics, episode.proprio)
            if not all(np.isfinite(array).all() for array in floats):
                problems.append(EpisodeError(f"{path} has numbers that are not finite"))
        except EpisodeError as error:
            problems.append(error)
        return problems

    def _load_shared(self) -> dict[str, Any] | None:
        path = self.path / "store.json"
        try:
            shared = json.loads(path.read_bytes())
            if shared["format"] > FORMAT:
                raise ValueError(f"its format {shared['format']} is newer than {FORMAT}: update nearfar")
            channels, height, width = shared["frame_shape"]
            sizes = channels, height, width, shared["action_dim"], shared["physics_dim"]
            if not all(isinstance(size, int) for size in sizes) or not isinstance(shared["task"], str):
                raise ValueError("a size is no number, or the task no name")
        except FileNotFoundError:
            return None
        except _DAMAGE as error:
            raise EpisodeError(f"cannot read {path} ({error!r}): put a copy there") from error
        return shared


def _shared_facts(episode: Episode) -> dict[str, Any]:
    return (
        {
            "format": _format(episode),
            "task": episode.info.task,
            "look": episode.info.look,
            "action_repeat": episode.info.action_repeat,
            "frame_shape": list(episode.frame.shape[1:]),
            "action_dim": episode.action.shape[1],
            "physics_dim": episode.physics.shape[1],
        }
        | _vector_of(episode)
        | _distractors_of(episode)
    )


def _format(episode: Episode) -> int:
    """Format 1 has no observation vectors; it goes on for tasks without any."""
    return FORMAT if episode.proprio.shape[1] else 1


def _vector_of(episode: Episode) -> dict[str, int]:
    """Nothing where there is none, likewise."""
    size = episode.proprio.shape[1]
    return {"proprio_dim": size} if size else {}


def _distractors_of(episode: Episode) -> dict[str, str]:
    """Nothing where there are none: stores from before there were any stay as valid as they were."""
    distract = episode.info.distract
    return {} if distract == NO_DISTRACTORS else {"distract": distract}


def _serialised(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file: the same bytes for the same episode, whoever writes it, and when.

    The library itself writes metadata in an order that differs from call to call.
    """
    data = safetensors.numpy.save(dict(arrays))
    body = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps({"__metadata__": metadata} | json.loads(data[8:body]), separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # arrays are aligned
    return b"".join((len(header).to_bytes(8, "little"), header, memoryview(data)[body:]))


def _metadata(episode: Episode) -> dict[str, str]:
    """Everything about an episode that a reader of the header alone may want, as strings."""
    facts = asdict(episode.info)
    versions = facts.pop("versions")
    del facts["distract"]
    if not facts["behaviour"]:  # nothing is said of those that an agent in training lived
        del facts["behaviour"]
    facts |= {f"version.{name}": version for name, version in versions.items()}
    facts |= {"format": _format(episode), "return": episode.episode_return} | _distractors_of(episode)
    metadata = {name: str(value) for name, value in facts.items()}
    crc = zlib.crc32(json.dumps(metadata, sort_keys=True).encode())
    for name in DTYPES:
        crc = zlib.crc32(np.ascontiguousarray(getattr(episode, name)).data, crc)
    return metadata | {"crc32": f"{crc:08x}"}


def _info(metadata: Mapping[str, str]) -> EpisodeInfo:
    prefix = "version."
    numbers = {key: int(metadata[key]) for key in ("action_repeat", "lane", "episode", "seed", "frames")}
    versions = {key.removeprefix(prefix): text for key, text in metadata.items() if key.startswith(prefix)}
    return EpisodeInfo(
        task=metadata["task"],
        look=metadata["look"],
        versions=versions,
        distract=metadata.get("distract", NO_DISTRACTORS),
        behaviour=metadata.get("behaviour", ""),
        **numbers,
    )


def _map(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray], EpisodeLayout]:
    """Metadata and memory-mapped arrays of one file, and where these lie."""
    with safetensors.safe_open(path, framework="numpy"):
        pass  # the library checks the header, and that it describes exactly the bytes of the file
    data = np.asarray(np.memmap(path, np.uint8, mode="r"))
    start = 8 + int.from_bytes(data[:8].tobytes(), "little")
    header = json.loads(data[8:start].tobytes())
    metadata = header.pop("__metadata__")
    arrays, offsets = {}, dict.fromkeys(DTYPES, 0)
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        if entry["dtype"] == "BOOL" and data[start + begin : start + end].max(initial=0) > 1:
            raise ValueError(f"{name} has booleans that are neither 0 nor 1")
        dtype: np.dtype[Any] = np.dtype(_CODES[entry["dtype"]])
        arrays[name] = data[start + begin : start + end].view(dtype).reshape(entry["shape"])
        offsets[name] = start + begin
    return metadata, arrays, EpisodeLayout(len(arrays["action"]), len(data), offsets, metadata["crc32"])
