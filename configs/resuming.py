"""The rule for going on with what was begun: with the options that it was begun with, whatever it is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from configs.load import ConfigError, flatten
from configs.pretrain import PretrainConfig
from configs.schema import Config

# What may differ: neither what is learnt nor what is measured depends on it.
_FREE_OF_RUNS = {"preset", "out", "device", "training.threads"}
_FREE_OF_PRETRAINING = {"out", "device", "threads", "recipe", "batch.chunk", "pairs.tile"}
_FREE_GROUP = "logging."


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
    before, after = flatten(old.model_dump()), flatten(new.model_dump())
    free = _FREE_OF_RUNS | {name for name in before if name.startswith(_FREE_GROUP)}
    if old.envs > 1:  # they wait for one another to save
        free.remove("logging.checkpoint_every_frames")
    if new.frames > old.frames:
        free.add("frames")
    check_same("this run", before, after, free=free, extended_by="frames")


def check_pretraining(old: PretrainConfig, new: PretrainConfig) -> None:
    """Let a pretraining go on only with the options that it was begun with.

    Device, threads and logging may change, and how many rows are computed at a time.

    Args:
        old: what its directory was made with.
        new: what is asked for now.

    Raises:
        ConfigError: names every option that differs, and the remedy.
    """
    before, after = flatten(old.model_dump()), flatten(new.model_dump())
    free = _FREE_OF_PRETRAINING | {name for name in before if name.startswith(_FREE_GROUP)}
    check_same("this pretraining", before, after, free=free)
