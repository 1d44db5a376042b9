"""`collect.json`: what episodes were collected with, and whether a collection may go on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.atomic import write_atomically
from configs.load import ConfigError
from configs.resuming import check_same, differences
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
    before, after = old["options"], record["options"]
    policies = old["policy"], record["policy"]
    if all(policies) and policies[0]["sha256"] != policies[1]["sha256"]:
        was, now = (f"that of {policy['checkpoint']}" for policy in policies)
        before = before | {"the policy": was}
        after = after | {"the policy": f"{now}, which has other contents"}
    check_same(f"the collection in {directory}", before, after, extended_by="episodes or frames")


def changes_since(directory: Path, record: Mapping[str, Any]) -> list[str]:
    """What was different on the machine where a collection was begun."""
    return differences(_read(directory)["machine"], record["machine"])


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
