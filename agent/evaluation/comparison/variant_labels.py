"""Names of variants, for runs that nobody named: their preset, and the options by which they differ."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from configs.load import flatten
from configs.schema import Config

# They do not make another method: what a run is repeated over, where it runs, what it writes, and the
# conditions of its task, which are compared on their own.
_IGNORED = {
    "task", "imports", "preset", "seed", "frames", "device", "out", "look", "distract", "size", "stack",
    "obs", "action_repeat", "training.threads", "training.deterministic", "training.cuda_graph",
    "replay.on_device", "evaluation.every_frames", "evaluation.episodes", "evaluation.videos",
}  # fmt: skip
_IGNORED_GROUP = "logging."
_STARTS = ("from_run", "encoder")
_MOST_SHOWN = 2


def automatic_labels(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """A name for each run, the same for runs that differ in nothing that makes another method.

    A run of which nobody differs is named by its preset. Among runs of one preset, those that differ from
    most of the others have the options behind it, for instance `cpu, objective predictive`.

    Args:
        configs: resolved options of each run, as in its config.yaml; options that came later may be missing,
            and count as the schema's default.
    """
    defaults = flatten(Config().model_dump(mode="json"))
    options = [defaults | each for each in _beyond_seeds([flatten(config) for config in configs])]
    labels = [str(config.get("preset", "run")) for config in configs]
    for preset in dict.fromkeys(labels):
        members = [index for index, label in enumerate(labels) if label == preset]
        for index, text in zip(members, _differences([options[i] for i in members], defaults), strict=True):
            labels[index] += text
    return labels


def _beyond_seeds(options: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Options of runs, with `seed-*` in the paths of what each of them starts from for its own seed alone."""
    seeds: dict[str, set[Any]] = defaultdict(set)  # that start from a path
    for each in options:
        for name in _STARTS:
            seeds[str(each.get(name))].add(each.get("seed"))
    found = []
    for each in options:
        own = re.compile(rf"\bseed-{each.get('seed')}\b")
        starts = {name: str(each[name]) for name in _STARTS if each.get(name)}
        starts = {name: own.sub("seed-*", path) for name, path in starts.items() if len(seeds[path]) == 1}
        found.append(each | starts)
    return found


def _differences(options: list[dict[str, Any]], defaults: dict[str, Any]) -> list[str]:
    """What distinguishes each of some runs from most of them, as `, objective predictive`."""
    names = sorted(set().union(*options))
    parts: list[list[str]] = [[] for _ in options]
    for name in names:
        if name in _IGNORED or name.startswith(_IGNORED_GROUP):
            continue
        counts = Counter(str(option.get(name)) for option in options)
        if len(counts) > 1:
            usual = min(counts, key=lambda text: (-counts[text], text != str(defaults.get(name)), text))
            for part, option in zip(parts, options, strict=True):
                if (value := str(option.get(name))) != usual:
                    part.append(f"{name.rpartition('.')[2].replace('_', ' ')} {value}")
    full = ["".join(f", {text}" for text in part) for part in parts]
    return [_abridged(part, full) for part in parts]


def _abridged(part: list[str], full: list[str]) -> str:
    """Two differences and how many more, where that still tells the run from all that differ from it."""
    text = "".join(f", {each}" for each in part)
    start = "".join(f", {each}" for each in part[:_MOST_SHOWN])
    if len(part) <= _MOST_SHOWN + 1 or any(other.startswith(start) for other in full if other != text):
        return text
    return f"{start} and {len(part) - _MOST_SHOWN} more"
