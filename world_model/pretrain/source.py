"""Batches of recorded experience: a function of seed and update, whoever asks for which of their rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from configs.distractors import NO_DISTRACTORS
from configs.pretrain import PretrainConfig
from envs.episodes import EpisodeError
from envs.positions import PairSampler, WindowSampler
from envs.spec import EnvSpec
from world_model.batch import Batch
from world_model.pretrain.samples import Pairs, Samples, Windows


class Recording(Protocol):
    """Episodes that can be looked into anywhere: `envs.windows.EpisodeReader`, which documents these."""

    lengths: np.ndarray

    def stacks(self, episode: np.ndarray, time: np.ndarray, stack: int) -> np.ndarray:
        """Stacked frames, uint8 (N, 3 * stack, H, W)."""

    def rows(self, name: str, episode: np.ndarray, start: np.ndarray, count: int) -> np.ndarray:
        """Consecutive rows of one array, (N, count, ...)."""


def env_spec_of(shared: Mapping[str, Any], config: PretrainConfig, longest: int) -> EnvSpec:
    """What an encoder has to know of a task, from what all its recorded episodes share.

    Args:
        shared: of `envs.episodes.EpisodeStore.shared`.
        config: frames in an observation.
        longest: decisions of the longest episode.
    """
    return EnvSpec(
        task=shared["task"],
        frame_shape=tuple(shared["frame_shape"]),
        stack=config.stack,
        action_dim=shared["action_dim"],
        action_repeat=shared["action_repeat"],
        episode_frames=longest * shared["action_repeat"],
        can_terminate=False,
        physics_dim=shared["physics_dim"],
        look=shared["look"],
        distract=shared.get("distract", NO_DISTRACTORS),
        proprio_dim=shared.get("proprio_dim", 0),
    )


def _check_long_enough(config: PretrainConfig, longest: int) -> None:
    """Find that even the longest episode has too few decisions.

    Raises:
        EpisodeError: it has; the message names the flag.
    """
    reach = {"--model.horizon": config.model.horizon if config.is_windowed else 0}
    reach["--positives.min-gap"] = config.positives.min_gap if config.positives.by != "augmentation" else 0
    for flag, decisions in reach.items():
        if decisions > longest:
            raise EpisodeError(
                f"{flag} {decisions} is longer than any episode (the longest has {longest} decisions): "
                "lower it, or record longer episodes"
            )


class Source:
    """Draws batches."""

    def __init__(self, recording: Recording, config: PretrainConfig) -> None:
        """Find where pairs or windows may start.

        Raises:
            EpisodeError: nowhere: all episodes are too short.
        """
        self._recording, self._config = recording, config
        positives, lengths = config.positives, recording.lengths
        _check_long_enough(config, int(lengths.max()) - 1)
        by_time = positives.by != "augmentation"
        gaps = (positives.min_gap, positives.max_gap) if by_time else (0, 0)
        self._windows = WindowSampler(lengths, config.model.horizon + 1) if config.is_windowed else None
        self._pairs = PairSampler(lengths, *gaps)

    def draw(self, update: int, rank: int = 0, size: int = 1) -> Samples:
        """This process's share of the batch of an update.

        Args:
            update: number of the gradient step.
            rank: number of this process.
            size: how many there are; the batch splits evenly.
        """
        count = self._config.batch.size
        rng = np.random.default_rng(np.random.SeedSequence(self._config.seed, spawn_key=(update,)))
        mine = slice(rank * count // size, (rank + 1) * count // size)
        row = torch.arange(count)[mine]
        if self._windows is not None:
            episode, time = self._windows.sample(count, rng)
            return Windows(self._batch(episode[mine], time[mine]), row)
        (episode, time), later = self._pairs.sample(count, rng)
        return self._pair(episode[mine], time[mine], later[mine], row)

    def _pair(self, episode: np.ndarray, time: np.ndarray, later: np.ndarray, row: Tensor) -> Pairs:
        pixels, proprio = self._seen(episode, time)
        later_pixels, later_proprio = (
            (pixels, proprio) if np.array_equal(time, later) else self._seen(episode, later)
        )
        return Pairs(
            pixels,
            later_pixels,
            proprio,
            later_proprio,
            episode=torch.from_numpy(episode),
            time=torch.from_numpy(time),
            later_time=torch.from_numpy(later),
            row=row,
        )

    def _seen(self, episode: np.ndarray, time: np.ndarray) -> tuple[Tensor, Tensor]:
        """Stacked frames and vectors of observations."""
        pixels = self._recording.stacks(episode, time, self._config.stack)
        proprio = self._recording.rows("proprio", episode, time, 1)[:, 0]
        return torch.from_numpy(pixels), torch.from_numpy(proprio)

    def _batch(self, episode: np.ndarray, time: np.ndarray) -> Batch:
        recording, horizon = self._recording, self._config.model.horizon
        frames = recording.stacks(episode, time + horizon, horizon + self._config.stack)
        before = recording.rows("action", episode, np.maximum(time - 1, 0), 1)[:, 0]
        before[time == 0] = 0.0
        decisions = {
            name: torch.from_numpy(recording.rows(name, episode, time, horizon))
            for name in ("action", "reward", "terminated")
        }
        return Batch(
            frames=torch.from_numpy(frames).unflatten(1, (-1, 3)),
            proprio=torch.from_numpy(recording.rows("proprio", episode, time, horizon + 1)),
            previous_action=torch.from_numpy(before),
            **decisions,
            episode=torch.from_numpy(episode),
            time=torch.from_numpy(time),
        )
