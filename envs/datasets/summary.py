"""What a store holds, in numbers and as one picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from envs.datasets.sheets import Row, draw_rows
from envs.episodes import EpisodeStore

_ARRAYS = ("action", "reward", "physics", "proprio")
_ROWS, _COLUMNS = 8, 10  # of the contact sheet
_SEEN = 16  # frames of an episode whose brightness is looked at


def summarise(store: EpisodeStore, progress: Callable[[Sequence[int]], Iterable[int]]) -> dict[str, Any]:
    """Sizes, returns and ranges, as JSON.

    Args:
        store: not empty.
        progress: goes through numbers of episodes.

    Returns:
        What `EpisodeStore.shared` says, and episodes, steps, frames, bytes, returns and lengths (mean, std,
        min, max each), terminated and truncated (episodes), ranges (array -> [min, max] of finite numbers,
        for those that are not empty; pixels: of some frames), versions (software -> all that occur).

    Raises:
        EpisodeError: an episode is damaged.
    """
    returns, lengths, frames, size = [], [], 0, 0
    ends = {"terminated": 0, "truncated": 0}
    ranges: dict[str, list[float]] = {}
    versions: dict[str, set[str]] = {}
    for identifier in progress(store.ids()):
        episode = store.read(identifier)
        returns.append(episode.episode_return)
        lengths.append(episode.steps)
        frames += episode.info.frames
        size += store.file(identifier).stat().st_size
        for name in ends:
            ends[name] += bool(getattr(episode, name)[-1])
        for name in _ARRAYS:
            _widen(ranges, name, getattr(episode, name))
        _widen(ranges, "pixels", episode.frame[_spread(episode.steps + 1, _SEEN)])
        for name, version in episode.info.versions.items():
            versions.setdefault(name, set()).add(version)
    return store.shared | {
        "episodes": len(lengths),
        "steps": sum(lengths),
        "frames": frames,
        "bytes": size,
        "returns": _statistics(returns),
        "lengths": _statistics(lengths),
        **ends,
        "ranges": ranges,
        "versions": {name: sorted(found) for name, found in sorted(versions.items())},
    }


def as_text(summary: dict[str, Any]) -> str:
    """A summary for people, a line a fact."""
    height, width = summary["frame_shape"][1:]
    lines = {
        "task": f"{summary['task']} ({summary['look']} look, action repeat {summary['action_repeat']})",
        "episodes": f"{summary['episodes']:,} ({summary['terminated']:,} terminated, "
        f"{summary['truncated']:,} truncated)",
        "decisions": f"{summary['steps']:,}, {_spelt(summary['lengths'])} an episode",
        "frames": f"{summary['frames']:,} of the environment",
        "on disk": f"{summary['bytes'] / 2**20:,.1f} MiB",
        "pixels": f"{height} x {width}" if height else "none",
        "entries": f"{summary['action_dim']} action, {summary['physics_dim']} physics, "
        f"{summary.get('proprio_dim', 0)} state observation",
        "returns": _spelt(summary["returns"]),
    }
    for name, (low, high) in summary["ranges"].items():
        lines[f"{name} in"] = f"[{low:.5g}, {high:.5g}]"
    if "distract" in summary:
        lines["distractors"] = summary["distract"]
    for name, found in summary["versions"].items():
        lines[name] = ", ".join(found)
    column = max(map(len, lines))
    return "\n".join(f"{name:{column}}  {text}" for name, text in lines.items())


def draw_sheet(store: EpisodeStore, path: Path) -> None:
    """Write a contact sheet: some episodes, spread over the store, a row each; time runs to the right.

    Args:
        store: not empty, with frames.
        path: a PNG file; its directory is made.

    Raises:
        EpisodeError: an episode is damaged.
        OSError: it cannot be written.
    """
    rows = []
    for identifier in (store.ids()[place] for place in _spread(len(store), _ROWS)):
        episode = store.read(identifier)
        caption = f"{identifier}: {episode.steps} decisions, return {episode.episode_return:.1f}"
        rows.append(Row(caption, [episode.frame[time] for time in _spread(episode.steps + 1, _COLUMNS)]))
    draw_rows(rows, path, _COLUMNS)


def _spread(count: int, wanted: int) -> list[int]:
    """At most so many of `range(count)`, evenly, with both ends."""
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).round().astype(int)).tolist()


def _widen(ranges: dict[str, list[float]], name: str, array: np.ndarray) -> None:
    finite = array[np.isfinite(array)]
    if finite.size:
        low, high = ranges.get(name, [np.inf, -np.inf])
        ranges[name] = [min(low, float(finite.min())), max(high, float(finite.max()))]


def _statistics(values: Sequence[float]) -> dict[str, float]:
    array = np.asarray(values, np.float64)
    return {name: float(getattr(array, name)()) for name in ("mean", "std", "min", "max")}


def _spelt(found: dict[str, float]) -> str:
    return f"{found['mean']:,.1f} ± {found['std']:,.1f} ({found['min']:,.1f} to {found['max']:,.1f})"
