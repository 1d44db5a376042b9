"""The rule for going on with what was begun: with the options that it was begun with, whatever it is."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import BaseModel

from configs.load import ConfigError, flatten
from configs.pretrain import PretrainConfig
from configs.schema import Config

# What may differ: neither what is learnt nor what is measured depends on it.
_FREE_OF_RUNS = {"preset", "out", "device", "training.threads"}
_FREE_OF_PRETRAINING = {"out", "device", "threads", "recipe", "batch.chunk", "pairs.tile"}
_FREE_GROUP = "logging."
_PATHS = {"encoder", "from_run", "data"}
_FLAGS = {"from_run": "--from", "imports": "--import"}  # those that are not called as their field


def check_same(
    subject: str,
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    *,
    free: Collection[str] = (),
    extended_by: str = "",
) -> None:
    """Let something go on only with what it was begun with.

    Args:
        subject: what goes on, for the message.
        old: what it was begun with, by name.
        new: what is asked for now.
        free: names of what may differ.
        extended_by: what may be raised, for the message.

    Raises:
        ConfigError: names all that differs, and the remedy.
    """
    kept = [{name: value for name, value in each.items() if name not in free} for each in (old, new)]
    if changes := differences(*kept):
        but = f" ({extended_by} may be raised)" if extended_by else ""
        raise ConfigError(
            f"{subject} was begun with other options ({'; '.join(changes)}): "
            f"give the same ones to go on{but}, or another --out to start afresh"
        )


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between then and now, a line each: `seed was 1, now 7`."""
    return [
        f"{name} was {old.get(name)}, now {new.get(name)}"
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    ]


def check_run(old: Config, new: Config) -> None:
    """Let a run go on only with the options that it was begun with.

    `frames` may be raised, which extends the run; device, threads and logging may change.

    Args:
        old: what the run directory was made with.
        new: what is asked for now.

    Raises:
        ConfigError: names every option that differs, and the remedy.
    """
    before, after = _comparable(old), _comparable(new)
    free = _FREE_OF_RUNS | {name for name in before if name.startswith(_FREE_GROUP)}
    if old.envs > 1:  # they wait for one another to save
        free.remove("logging.checkpoint_every_frames")
    if new.frames > old.frames:
        free.add("frames")
    check_same("this run", *_by_flag(before, after, free), extended_by="frames")


def check_pretraining(old: PretrainConfig, new: PretrainConfig) -> None:
    """Let a pretraining go on only with the options that it was begun with.

    Device, threads and logging may change, and how many rows are computed at a time.

    Args:
        old: what its directory was made with.
        new: what is asked for now.

    Raises:
        ConfigError: names every option that differs, and the remedy.
    """
    before, after = _comparable(old), _comparable(new)
    free = _FREE_OF_PRETRAINING | {name for name in before if name.startswith(_FREE_GROUP)}
    check_same("this pretraining", *_by_flag(before, after, free))


def _comparable(options: BaseModel) -> dict[str, Any]:
    """Options by dotted name, as values that are equal where they mean the same."""
    return {name: _meaning(name, value) for name, value in flatten(options.model_dump()).items()}


def _meaning(name: str, value: Any) -> Any:
    """Paths from the root on, several values as one text, and a word for none."""
    if value in (None, ()):
        return "unset"
    several = value if isinstance(value, tuple) else (value,)
    if name in _PATHS:
        several = tuple(map(os.path.abspath, several))
    return ", ".join(map(str, several)) if isinstance(value, tuple) else several[0]


def _by_flag(
    before: Mapping[str, Any], after: Mapping[str, Any], free: Collection[str]
) -> list[dict[str, Any]]:
    """Both without what may differ, by the flags that set them."""
    return [
        {
            _FLAGS.get(name, f"--{name.replace('_', '-')}"): value
            for name, value in each.items()
            if name not in free
        }
        for each in (before, after)
    ]
