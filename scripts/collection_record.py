"""`collect.json`: what episodes were collected with, and whether a collection may go on."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.atomic import write_atomically
from configs.load import ConfigError
from scripts.run_directory import COLLECTION_FILE


def save_record(directory: Path, record: Mapping[str, Any]) -> None:
    """Write it, so that a crash leaves the old one or the new one.

    Raises:
        OSError: it cannot be written; `filename` says which.
    """
    write_atomically(directory / COLLECTION_FILE, json.dumps(record, indent=2) + "\n")


def check_continuable(directory: Path, record: Mapping[str, Any]) -> None:
    """Let a collection go on only with what it was begun with; its goal may be another.

    Args:
        directory: of the collection.
        record: what is asked for now.

    Raises:
        ConfigError: names every option that differs, and the remedy; or the file is damaged.
    """
    old = _read(directory)
    changes = _changes(old["options"], record["options"])
    before, now = ((each["policy"] or {}).get("sha256") for each in (old, record))
    if before != now and before and now:
        was, here = (f"{each['policy']['checkpoint']}" for each in (old, record))
        changes.append(f"the policy was that of {was}, now it is that of {here}, which has other contents")
    if changes:
        raise ConfigError(
            f"the episodes in {directory} were collected with other options ({'; '.join(changes)}): give the "
            "same ones to go on (episodes or frames may be raised), or another --out to start afresh"
        )


def note_changes(directory: Path, record: Mapping[str, Any]) -> None:
    """Say on stderr what was different on the machine where a collection was begun."""
    if changes := _changes(_read(directory)["machine"], record["machine"]):
        print(
            f"nearfar: this collection began elsewhere ({'; '.join(changes)}): it goes on, "
            "but no longer as it would have there",
            file=sys.stderr,
        )


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} was {old.get(name)}, now {new.get(name)}"
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    ]


def _read(directory: Path) -> dict[str, Any]:
    path = directory / COLLECTION_FILE
    try:
        found = json.loads(path.read_bytes())
        if not all(isinstance(found[name], dict) for name in ("options", "machine")):
            raise ValueError("options or machine are no tables")
        policy = found["policy"]
        if policy is not None and not isinstance(policy["checkpoint"] + policy["sha256"], str):
            raise ValueError("policy is no table of texts")
    except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"cannot read {path} ({error!r}): put a copy there, or give another --out"
        ) from error
    return dict(found)
