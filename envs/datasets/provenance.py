"""`nearfar.jsonl`: where episodes come from, beside formats without a place for it; a line an episode."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from envs.datasets.base import DatasetError
from envs.recording import EpisodeInfo

FILE = "nearfar.jsonl"
_MOST_BYTES = 2**28
_LOOKS = ("fast", "original")
_NUMBERS = ("action_repeat", "lane", "episode", "seed", "frames")


def append(folder: Path, name: str, info: EpisodeInfo) -> None:
    """Add the line of an episode."""
    with (folder / FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"name": name, "info": to_json(info)}) + "\n")


def load(folder: Path) -> dict[str, EpisodeInfo]:
    """Name -> where that episode comes from; empty where there is no such file.

    Raises:
        DatasetError: it is damaged.
    """
    path, found = folder / FILE, {}
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"more than {_MOST_BYTES:,} bytes")
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DatasetError(f"cannot read {path} ({error}): mend it, or delete it and use flags") from error
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            found[str(entry["name"])] = from_json(entry["info"])
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise DatasetError(
                f"{path}, line {number} is damaged ({error!r}): mend it, or delete the file and use flags"
            ) from error
    return found


def to_json(info: EpisodeInfo) -> dict[str, Any]:
    """As plain values."""
    return asdict(info)


def from_json(values: Any) -> EpisodeInfo:
    """The inverse.

    Raises:
        ValueError: the values are none of an episode.
    """
    names = {each.name for each in fields(EpisodeInfo)}
    if not isinstance(values, dict) or set(values) != names:
        raise ValueError(f"expected the keys {sorted(names)}")
    for name, value in values.items():
        _check(name, value)
    if values["look"] not in _LOOKS or values["action_repeat"] < 1:
        raise ValueError(f"look {values['look']!r} or action_repeat {values['action_repeat']} cannot be")
    return EpisodeInfo(**values)


def _check(name: str, value: Any) -> None:
    if name in _NUMBERS:
        fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**64
    elif name == "versions":
        fits = isinstance(value, Mapping) and all(isinstance(text, str) for text in value.values())
    else:
        fits = isinstance(value, str)
    if not fits:
        raise ValueError(f"{name} cannot be {value!r:.80}")
