"""Directories of whatever goes on after a stop: made or found again, held by one process at a time."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from agent.sweeps.ledger import SWEEP_FILE
from configs.load import load_options, save_config
from configs.pretrain import PRETRAIN_FILE, PretrainConfig
from configs.resuming import check_pretraining, check_run
from configs.schema import Config

LOCK = ".lock"
RUN_FILE = "config.yaml"
COLLECTION_FILE = "collect.json"
_KINDS = {RUN_FILE: "run", SWEEP_FILE: "sweep", COLLECTION_FILE: "collection", PRETRAIN_FILE: "pretraining"}

Begun = TypeVar("Begun", Config, PretrainConfig)


class RunDirectoryError(Exception):
    """A directory that cannot be used; the message is for the user."""


@contextmanager
def held_run_directory(path: Path, config: Config) -> Iterator[None]:
    """Hold `path` for this process, with `config.yaml` in it.

    Args:
        path: made where it does not exist.
        config: what to run; must fit what an existing run was begun with.

    Raises:
        RunDirectoryError: in use, not writable, or filled with something that is no run.
        ConfigError: begun with other options.
    """
    with _held_with_options(path, RUN_FILE, config, check_run):
        yield


@contextmanager
def held_pretrain_directory(path: Path, config: PretrainConfig) -> Iterator[None]:
    """Hold `path` for this process, with `pretrain.yaml` in it.

    Args:
        path: made where it does not exist.
        config: what to do; must fit what was begun there.

    Raises:
        RunDirectoryError: in use, not writable, or filled with something that is no pretraining.
        ConfigError: begun with other options.
    """
    with _held_with_options(path, PRETRAIN_FILE, config, check_pretraining):
        yield


@contextmanager
def _held_with_options(
    path: Path, mark: str, config: Begun, check: Callable[[Begun, Begun], None]
) -> Iterator[None]:
    """Hold a directory, with options in the file that marks it; what was begun there has to fit them."""
    with held_directory(path, mark):
        saved = path / mark
        if saved.exists() and _holds_work(path):
            check(load_options(type(config), saved), config)
        save_config(config, saved)
        yield


@contextmanager
def held_directory(path: Path, mark: str) -> Iterator[None]:
    """Hold a directory for this process.

    A new one is removed again where an error comes before anything is recorded in it.

    Args:
        path: made where it does not exist.
        mark: name of the file that tells what kind of directory it is.

    Raises:
        RunDirectoryError: in use, not writable, or filled with something of another kind.
    """
    new = [each for each in (path, *path.parents) if not os.path.exists(each)]
    _make(path, mark)
    with lock(path):
        try:
            yield
        except Exception:
            if path in new:
                _withdraw(path, mark, new)
            raise


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Keep other processes out of a directory.

    The lock belongs to the open file, so the system releases it however the process ends.

    Raises:
        RunDirectoryError: another process is in it.
    """
    with (path / LOCK).open("a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise RunDirectoryError(
                f"{path} is in use by pid {file.read().strip()}: wait for it to end, or give another --out"
            ) from None
        file.truncate(0)
        print(os.getpid(), file=file, flush=True)
        yield


def is_held(path: Path) -> bool:
    """Whether a process is in a directory; nothing is in one that does not exist."""
    try:
        with (path / LOCK).open("r", encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def note_changes(subject: str, changes: Sequence[str]) -> None:
    """Say on stderr what was different on the machine where something was begun, if anything."""
    if changes:
        print(
            f"nearfar: {subject} began elsewhere ({'; '.join(changes)}): it goes on, "
            "but no longer as it would have there",
            file=sys.stderr,
        )


def _holds_work(path: Path) -> bool:
    """Whether anything was learnt or recorded there, which other options would mix with theirs."""
    return any(path.glob("checkpoints/*")) or any(path.glob("episodes/*"))


def _withdraw(path: Path, mark: str, new: Sequence[Path]) -> None:
    """Remove a directory that holds nothing yet but its mark, and those above it that were made for it."""
    if {entry.name for entry in path.iterdir()} <= {LOCK, mark, f"{mark}.tmp"}:
        shutil.rmtree(path, ignore_errors=True)
        with suppress(OSError):  # something else is in it by now
            for parent in new[1:]:
                parent.rmdir()


def _make(path: Path, mark: str) -> None:
    """Create the directory, or check that what exists is of the kind that holds a file of this name."""
    kind = _KINDS[mark]
    try:
        path.mkdir(parents=True, exist_ok=True)
        names = {entry.name for entry in path.iterdir()}
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise RunDirectoryError(
            f"{path} cannot be a {kind} directory ({error.strerror}): give another --out"
        ) from error
    if names - {LOCK, f"{mark}.tmp"} and mark not in names:
        raise RunDirectoryError(
            f"{path} exists and holds no {kind}: give another --out, or an empty directory"
        )
    if not os.access(path, os.W_OK):
        raise RunDirectoryError(f"{path} is not writable: give another --out")
