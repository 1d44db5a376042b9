"""What must be true of a stored episode, beyond being readable."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from envs.episodes import EpisodeError, EpisodeStore
from envs.recording import Episode


def problems_of(store: EpisodeStore, identifier: int) -> Iterator[str]:
    """What is wrong with an episode, in words that name its file; nothing for one that is sound."""
    damages = store.problems_of(identifier)
    yield from map(str, damages)
    try:
        episode = store.read(identifier)
    except EpisodeError:
        return  # and so it is among the damages
    yield from (f"{store.file(identifier)}: {text}" for text in _broken_rules(episode))


def _broken_rules(episode: Episode) -> Iterator[str]:
    reach = float(np.abs(episode.action).max(initial=0))
    if reach > 1:
        yield f"actions reach {reach:g}, beyond [-1, 1]"
    if not (episode.terminated[-1] or episode.truncated[-1]):
        yield "it neither terminated nor was truncated"
    repeat, frames = episode.info.action_repeat, episode.info.frames
    if not (episode.steps - 1) * repeat < frames <= episode.steps * repeat:
        yield f"{frames} frames cannot be {episode.steps} decisions of {repeat}"
