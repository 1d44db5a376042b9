"""Where to read in recorded episodes: windows, and pairs of observations some decisions apart."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from envs.episodes import EpisodeError


class Positions(NamedTuple):
    """Windows or single observations, by episode and time; int64 (N,) each."""

    episode: np.ndarray
    time: np.ndarray


class WindowSampler:
    """Positions of windows, uniform over all that there are; none crosses the end of an episode."""

    def __init__(self, lengths: np.ndarray, length: int) -> None:
        """Count the windows.

        Args:
            lengths: observations of each episode, int (E,); 0 leaves an episode out.
            length: L, observations of a window.

        Raises:
            EpisodeError: no episode is long enough.
        """
        windows = np.maximum(lengths - length + 1, 0)
        self._ends = np.cumsum(windows)
        if not len(windows) or not self._ends[-1]:
            longest = int(max(lengths, default=0))
            raise EpisodeError(
                f"windows of {length} observations are longer than any episode (the longest has {longest}): "
                "ask for shorter ones, or record longer episodes"
            )
        self._first = self._ends - windows

    def __len__(self) -> int:
        """Windows that can be drawn."""
        return int(self._ends[-1])

    def sample(self, count: int, rng: np.random.Generator) -> Positions:
        """Draw episodes and first times of windows, with replacement."""
        drawn = rng.integers(len(self), size=count)
        episode = np.searchsorted(self._ends, drawn, side="right")
        return Positions(episode, drawn - self._first[episode])


class PairSampler:
    """Two observations of one episode, k decisions apart.

    The earlier one is uniform over all that have a later one at least `k_min` decisions on; k is uniform over
    what the range and the end of the episode leave.
    """

    def __init__(self, lengths: np.ndarray, k_min: int, k_max: int) -> None:
        """Leave out what is too short.

        Args:
            lengths: observations of each episode, int (E,); 0 leaves an episode out.
            k_min: least distance, >= 0, in decisions.
            k_max: greatest distance, in decisions.

        Raises:
            ValueError: an empty range.
            EpisodeError: no episode is long enough.
        """
        if not 0 <= k_min <= k_max:
            raise ValueError(f"expected 0 <= k_min <= k_max, found {k_min} and {k_max}")
        self._lengths, self._k_min, self._k_max = lengths, k_min, k_max
        self._earlier = WindowSampler(lengths, k_min + 1)

    def sample(self, count: int, rng: np.random.Generator) -> tuple[Positions, np.ndarray]:
        """Draw earlier observations, and the times of later ones, int64 (N,), with replacement."""
        earlier = self._earlier.sample(count, rng)
        left = self._lengths[earlier.episode] - 1 - earlier.time
        apart = rng.integers(self._k_min, np.minimum(self._k_max, left), endpoint=True)
        return earlier, earlier.time + apart
