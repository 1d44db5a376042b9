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
from envs.datasets.base import DatasetError, Reading, Sink
from envs.datasets.conversion import as_numbers, shift, unshift
from envs.datasets.files import FileSource, check_keys, files_of
from envs.datasets.npz import read_npz, write_npz
from envs.recording import Episode, EpisodeInfo

_ARRAYS = ("observation", "action", "reward", "discount", "physics")


class ExorlSource(FileSource):
    """A folder of such files, or one of them."""

    look = "fast"

    def __init__(self, path: Path, reading: Reading) -> None:
        """Find the files.

        Raises:
            DatasetError: there are none.
        """
        super().__init__(path, reading, files_of(path, ".npz"))

    def arrays(self, index: int) -> dict[str, np.ndarray]:
        """See `Source`; frames are drawn from the physics states."""
        rows = read_npz(self.files[index], _ARRAYS)
        check_keys(self.files[index], rows, set(_ARRAYS) - {"observation"})
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
