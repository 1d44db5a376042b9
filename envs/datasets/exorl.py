"""ExORL: an npz file an episode, of states without pixels; `action[t]` led to `observation[t]`.

Arrays (T + 1, ...): observation, action, reward, discount and physics; row 0 came with the reset, its action
and reward are zeros. Source: github.com/denisyarats/exorl (Yarats et al. 2022, arXiv:2201.13425).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from configs.distractors import NO_DISTRACTORS
from envs.datasets import provenance
from envs.datasets.base import DatasetError, Reading, Sink, Source, in_order
from envs.datasets.conversion import as_numbers, shift, unshift
from envs.datasets.npz import read_npz, write_npz
from envs.recording import Episode, EpisodeInfo

_ARRAYS = ("observation", "action", "reward", "discount", "physics")


class ExorlSource(Source):
    """A folder of such files, or one of them."""

    look = "fast"

    def __init__(self, path: Path, reading: Reading) -> None:
        """Find the files.

        Raises:
            DatasetError: there are none.
        """
        super().__init__(path, reading)
        self._files = files_of(path, ".npz")
        self._recorded = provenance.load(self._files[0].parent)

    def __len__(self) -> int:
        """See `Source`."""
        return len(self._files)

    def name(self, index: int) -> str:
        """See `Source`."""
        return str(self._files[index])

    def recorded(self, index: int) -> EpisodeInfo | None:
        """See `Source`."""
        return self._recorded.get(self._files[index].name)

    def arrays(self, index: int) -> dict[str, np.ndarray]:
        """See `Source`; frames are drawn from the physics states."""
        rows = read_npz(self._files[index], _ARRAYS)
        check_keys(self._files[index], rows, set(_ARRAYS) - {"observation"})
        arrays = unshift({name: rows[name] for name in ("action", "reward", "discount")})
        observations = len(rows["action"])
        physics = as_numbers("physics", rows["physics"], (observations, -1), np.float64)
        if "observation" in rows:
            arrays["proprio"] = as_numbers("observation", rows["observation"], (observations, -1), np.float32)
        frame = np.zeros((observations, 3, 0, 0), np.uint8)
        if self.reading.draw is not None:
            info = self.info(index, observations - 1)
            frame = self.reading.draw(info.task, info.look, physics)
        return arrays | {"physics": physics, "frame": frame}

    def info(self, index: int, steps: int) -> EpisodeInfo:
        """See `Source`; frames are drawn anew, without distractors."""
        info = super().info(index, steps)
        if info.distract != NO_DISTRACTORS:
            self.note(f"frames were recorded with distractors ({info.distract}), and are drawn without")
        return replace(info, distract=NO_DISTRACTORS)


class ExorlSink(Sink):
    """Writes them; frames are left out, since the physics states can be drawn again."""

    def __init__(self, folder: Path) -> None:
        """Write into a folder."""
        self._folder = folder

    def write(self, index: int, episode: Episode) -> None:
        """See `Sink`."""
        if not episode.physics.shape[1]:
            raise DatasetError(f"{episode.info.task} has no physics states, which exorl is made of")
        name = f"episode_{index:06d}_{episode.steps}.npz"
        discount = np.concatenate([[True], ~episode.terminated]).astype(np.float32)
        rows = {
            "action": shift(episode.action),
            "reward": shift(episode.reward)[:, None],
            "discount": discount[:, None],
            "physics": episode.physics,
        }
        if episode.proprio.shape[1]:
            rows["observation"] = episode.proprio
        write_npz(self._folder / name, rows)
        provenance.append(self._folder, name, episode.info)

    def close(self) -> None:
        """See `Sink`: every file is complete."""


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
