"""Minari: a folder with `data/metadata.json` and `data/main_data.hdf5`, written and read without the package.

A group `episode_<i>` holds observations (T + 1), actions, rewards, terminations and truncations (T), and
perhaps `infos`; attributes id, seed and total_steps. Spaces are JSON in the metadata. HWC images of 32 and
more pixels a side are rows of JPEG, unless whoever recorded them chose otherwise. Time indices are those of
`envs.spec`. Source: the package, version 0.5.4.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from agent.atomic import write_atomically
from envs.datasets import provenance
from envs.datasets.base import DatasetError, Reading, Sink, Source
from envs.datasets.conversion import as_flags, as_frames, as_numbers
from envs.datasets.hdf5 import Hdf5Reader
from envs.datasets.images import read_image
from envs.datasets.spaces import Leaf, box, leaves, scaled_actions
from envs.recording import Episode, EpisodeInfo

_METADATA, _DATA = "metadata.json", "main_data.hdf5"
_VERSION = "0.5.4"  # of the package whose layout is written; later ones say which they still read
_LABEL = "nearfar"  # attribute of an episode: what its `EpisodeInfo` holds, as JSON
_MOST_METADATA = 2**28
_ID = re.compile(r"[-_\w]+-v\d+")
_EXTRAS = (("physics", np.float64), ("proprio", np.float32))


class MinariSource(Source):
    """A dataset in HDF5; pixels are the image of its observations, state observations the other numbers."""

    def __init__(self, path: Path, reading: Reading) -> None:
        """Open it.

        Raises:
            DatasetError: it is missing, damaged, or of a kind that cannot be read.
        """
        super().__init__(path, reading)
        folder = next((each for each in (path / "data", path) if (each / _METADATA).is_file()), None)
        if folder is None:
            raise DatasetError(f"{path} has no data/{_METADATA}: name the folder of a Minari dataset")
        self._where = folder / _METADATA
        self._metadata = _load_metadata(self._where)
        observation, self._action = (self._space(f"{kind}_space") for kind in ("observation", "action"))
        found = list(leaves(observation, "observations"))
        self._image = self._choose_image([leaf for leaf in found if leaf.is_image])
        self._vectors = [leaf for leaf in found if leaf.is_vector]
        if self._image is None and not self._vectors:
            raise DatasetError(f"{self._where}: its observations are neither images nor numbers")
        for leaf in found:
            if leaf != self._image and leaf not in self._vectors:
                self.note(f"left out: {leaf.path} ({leaf.kind} {leaf.shape})")
        self._reader = Hdf5Reader(folder / _DATA)

    def __len__(self) -> int:
        """See `Source`."""
        return int(self._metadata["total_episodes"])

    def name(self, index: int) -> str:
        """See `Source`."""
        return f"{self._reader.path}, episode_{index}"

    def hints(self) -> list[str]:
        """See `Source`."""
        try:
            env_id = str(json.loads(self._metadata["env_spec"])["id"])
        except (KeyError, TypeError, ValueError, RecursionError):
            return super().hints()
        return [env_id, f"gym/{env_id}", *super().hints()]

    def recorded(self, index: int) -> EpisodeInfo | None:
        """See `Source`."""
        label = self._reader.attributes(f"episode_{index}").get(_LABEL)
        if label is None:
            return None
        try:
            return provenance.from_json(json.loads(str(label)))
        except (ValueError, RecursionError) as error:
            raise DatasetError(f"{self.name(index)} has a damaged label ({error}): fetch it again") from error

    def arrays(self, index: int) -> dict[str, np.ndarray]:
        """See `Source`."""
        group = f"episode_{index}"
        reward = self._reader.array(f"{group}/rewards")
        steps = len(reward)
        actions = self._reader.array(f"{group}/actions")
        action, is_clipped = scaled_actions(self._action, actions, steps)
        if is_clipped:
            self.note("actions outside of their space were clipped to it")
        terminated, truncated = (
            as_flags(name, self._reader.array(f"{group}/{name}"), steps)
            for name in ("terminations", "truncations")
        )
        if steps and not (terminated[-1] or truncated[-1]):
            truncated[-1] = True
            self.note("episodes that had no end were truncated where they stop")
        return {
            "frame": self._frames(group, steps + 1),
            "action": action,
            "reward": as_numbers("rewards", reward, (steps,), np.float32),
            "terminated": terminated,
            "truncated": truncated,
            **self._vectors_of(group, steps + 1),
        }

    def close(self) -> None:
        """See `Source`."""
        self._reader.close()

    def _space(self, name: str) -> Any:
        text = self._metadata.get(name)
        try:
            return json.loads(text) if isinstance(text, str) else None
        except (ValueError, RecursionError) as error:
            raise DatasetError(f"{self._where}: {name} is damaged ({error}): fetch it again") from error

    def _choose_image(self, images: list[Leaf]) -> Leaf | None:
        names = [leaf.path.removeprefix("observations").strip("/") for leaf in images]
        if self.reading.image is None and len(images) < 2:
            return images[0] if images else None
        if self.reading.image not in names:
            raise DatasetError(f"{self._where} has the images {', '.join(names) or 'none'}: add --image NAME")
        return images[names.index(self.reading.image)]

    def _frames(self, group: str, count: int) -> np.ndarray:
        """Frames, uint8 (count, 3, H, W)."""
        leaf = self._image
        if leaf is None:
            return np.zeros((count, 3, 0, 0), np.uint8)
        name = f"{group}/{leaf.path}"
        # What the metadata says is not asked: early versions encoded nothing, and said nothing.
        if self._reader.axes(name) > len(leaf.shape):
            return as_frames(self._reader.array(name), self.reading.size)
        self.note("images are JPEG in the source: what that lost stays lost")
        place = f"{self._reader.path}, {name}"
        images = [next(read_image(row, place, ("JPEG",))) for row in self._reader.blobs(name)]
        if any(image.shape[:2] != tuple(leaf.shape[:2]) for image in images):
            raise ValueError(f"{name} has images of other sizes than {leaf.shape}")
        return as_frames(np.stack(images), self.reading.size)

    def _vectors_of(self, group: str, count: int) -> dict[str, np.ndarray]:
        """Physics states and state observations, as far as there are any."""
        found: dict[str, np.ndarray] = {}
        if "infos" in (self._reader.members(group) or ()):
            names = self._reader.members(f"{group}/infos") or ()
            for name, dtype in _EXTRAS:
                if name in names:
                    extra = self._reader.array(f"{group}/infos/{name}")
                    found[name] = as_numbers(f"infos/{name}", extra, (count, -1), dtype)
        if self._vectors:
            parts = [self._reader.array(f"{group}/{leaf.path}") for leaf in self._vectors]
            columns = [as_numbers("observations", part, (count, -1), np.float32) for part in parts]
            found["proprio"] = np.concatenate(columns, axis=1)
        return found


class MinariSink(Sink):
    """Writes one; observations are the frames as they are (raw, CHW), or state observations without any."""

    def __init__(self, folder: Path, dataset_id: str) -> None:
        """Write into a folder.

        Args:
            folder: the folder.
            dataset_id: as Minari calls it.
        """
        import h5py

        (folder / "data").mkdir()
        self._folder, self._id = folder / "data", dataset_id
        self._file: Any = h5py.File(self._folder / _DATA, "w", track_order=True)
        self._spaces: dict[str, str] = {}
        self._episodes = self._steps = 0

    def write(self, index: int, episode: Episode) -> None:
        """See `Sink`."""
        is_drawn = bool(episode.frame.size)
        if not (is_drawn or episode.proprio.shape[1]):
            raise DatasetError(f"episodes of {episode.info.task} have neither frames nor state observations")
        observations = episode.frame if is_drawn else episode.proprio
        self._spaces = {
            "observation_space": box(observations, 0, 255) if is_drawn else box(observations),
            "action_space": box(episode.action, -1, 1),
        }
        group = self._file.create_group(f"episode_{index}", track_order=True)
        group.attrs["id"] = index
        group.attrs["seed"] = np.uint64(episode.info.seed)
        group.attrs["total_steps"] = episode.steps
        group.attrs[_LABEL] = json.dumps(provenance.to_json(episode.info))
        group["observations"] = observations
        group["actions"] = episode.action
        group["rewards"] = episode.reward
        group["terminations"] = episode.terminated
        group["truncations"] = episode.truncated
        extras = group.create_group("infos", track_order=True)
        for name, _ in _EXTRAS:
            if getattr(episode, name).shape[1]:
                extras[name] = getattr(episode, name)
        self._episodes += 1
        self._steps += episode.steps

    def close(self) -> None:
        """See `Sink`."""
        self._file.close()
        megabytes = (self._folder / _DATA).stat().st_size / 1e6
        metadata = {
            "total_episodes": self._episodes,
            "total_steps": self._steps,
            "data_format": "hdf5",
            "jpeg_encoding": False,
            "dataset_id": self._id,
            "minari_version": _VERSION,
            "dataset_size": round(megabytes, 1),
            **self._spaces,
        }
        write_atomically(self._folder / _METADATA, json.dumps(metadata))


def dataset_id_of(target: Path, root: Path) -> str:
    """What Minari calls a dataset in this folder.

    Args:
        target: the folder.
        root: where Minari keeps its datasets; below it, folders are namespaces.

    Raises:
        DatasetError: it cannot be called like the folder.
    """
    if not _ID.fullmatch(target.name):
        raise DatasetError(
            f"Minari's names end in a version: call the target {target.with_name(target.name + '-v0')}"
        )
    target, root = target.absolute(), root.absolute()
    return target.relative_to(root).as_posix() if target.is_relative_to(root) else target.name


def _load_metadata(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MOST_METADATA:
            raise ValueError(f"more than {_MOST_METADATA:,} bytes")
        metadata = json.loads(path.read_bytes())
        if not isinstance(metadata, dict) or not 0 < int(metadata["total_episodes"]) < 2**31:
            raise ValueError("total_episodes must be a number above 0")
    except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path} is damaged ({error!r}): fetch it again") from error
    if metadata.get("data_format", "hdf5") != "hdf5":
        raise DatasetError(
            f"{path}: data_format is {metadata['data_format']!r}, and only hdf5 is read: "
            "let Minari write it again, with data_format='hdf5'"
        )
    return metadata
