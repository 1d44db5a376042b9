"""The directory of a pretraining: made or found again, and held by one process at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from pydantic import ValidationError

from agent.atomic import write_atomically
from configs.load import ConfigError, describe, flatten, read_values
from configs.pretrain import PretrainConfig
from scripts.run_directory import PRETRAIN_FILE, held_directory

# What may differ when it goes on: neither what is learnt nor what is measured depends on it.
_FREE_TO_CHANGE = {"out", "device", "threads", "recipe", "batch.chunk", "pairs.tile"}
_FREE_GROUP = "logging."


@contextmanager
def held_pretrain_directory(path: Path, config: PretrainConfig) -> Iterator[None]:
    """Hold `path` for this process, with the resolved options in it.

    Args:
        path: made where it does not exist.
        config: what to do; must fit what was begun there.

    Raises:
        RunDirectoryError: in use, not writable, or filled with something else.
        ConfigError: begun with other options.
    """
    with held_directory(path, PRETRAIN_FILE):
        saved = path / PRETRAIN_FILE
        if saved.exists() and any(path.glob("checkpoints/*")):
            _check_resumable(_read(saved), config)
        write_atomically(saved, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
        yield


def _read(path: Path) -> PretrainConfig:
    try:
        return PretrainConfig(**read_values(path))
    except ValidationError as error:
        raise ConfigError(f"{path}: {describe(error, PretrainConfig)}") from error


def _check_resumable(old: PretrainConfig, new: PretrainConfig) -> None:
    before, after = flatten(old.model_dump()), flatten(new.model_dump())
    changes = [
        f"{option} was {before[option]}, now {after[option]}"
        for option in before
        if before[option] != after[option]
        and option not in _FREE_TO_CHANGE
        and not option.startswith(_FREE_GROUP)
    ]
    if changes:
        raise ConfigError(
            f"this pretraining was begun with other options ({'; '.join(changes)}): "
            "give the same ones to go on, or another --out to start afresh"
        )
