"""Small stores on disk, for tests of the formats that they come from and go to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from envs.episodes import EpisodeStore
from envs.recording import Episode
from tests.envs.test_episodes import ARRAYS, make_episode


def sound_episode(steps: int = 5, *, seed: int = 0, **shapes: int) -> Episode:
    """As `make_episode`, with actions in range and a task that exists."""
    episode = make_episode(steps, seed=seed, **shapes)
    info = replace(episode.info, task="dmc/walker-walk", episode=seed)
    return replace(episode, action=np.tanh(episode.action), info=info)


def make_store(path: Path, count: int = 3, **shapes: int) -> EpisodeStore:
    """A store of sound episodes of several lengths; some terminate, some are truncated."""
    store = EpisodeStore(path)
    for seed in range(count):
        store.commit(sound_episode(5 + seed, seed=seed, **shapes))
    return store


def differing(first: Episode, second: Episode) -> set[str]:
    """Names of the arrays in which two episodes differ, in dtype, shape or any bit; `info` likewise."""

    def same(one: Any, other: Any) -> bool:
        return bool(
            one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
        )

    names = {name for name in ARRAYS if not same(getattr(first, name), getattr(second, name))}
    return names | ({"info"} if first.info != second.info else set())
