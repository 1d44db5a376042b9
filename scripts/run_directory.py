"""A run directory: made or found again, and held by one process at a time."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from configs.load import check_resumable, load_config, save_config
from configs.schema import Config


class RunDirectoryError(Exception):
    """A run directory that cannot be used; the message is for the user."""


@contextmanager
def held_run_directory(path: Path, config: Config) -> Iterator[None]:
    """Hold `path` for this process, with `config.yaml` in it.

    The lock belongs to the open file, so the system releases it however the process ends.

    Args:
        path: made where it does not exist.
        config: what to run; must fit what an existing run was made with.

    Raises:
        RunDirectoryError: in use, not writable, or filled with something that is no run.
        ConfigError: made with other options.
    """
    _make(path)
    with (path / ".lock").open("a+", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise RunDirectoryError(
                f"{path} is in use by pid {lock.read().strip()}: wait for it to end, or give another --out"
            ) from None
        lock.truncate(0)
        print(os.getpid(), file=lock, flush=True)
        saved = path / "config.yaml"
        if saved.exists() and _holds_work(path):
            check_resumable(load_config(saved), config)
        save_config(config, saved)
        yield


def _holds_work(path: Path) -> bool:
    """Whether anything was learnt or recorded there, which other options would mix with theirs."""
    return any(path.glob("checkpoints/*")) or any(path.glob("episodes/*"))


def _make(path: Path) -> None:
    """Create the directory, or check that what exists is a run."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        names = {entry.name for entry in path.iterdir()}
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise RunDirectoryError(
            f"{path} cannot be a run directory ({error.strerror}): give another --out"
        ) from error
    if names - {".lock", "config.yaml.tmp"} and "config.yaml" not in names:
        raise RunDirectoryError(f"{path} exists and holds no run: give another --out, or an empty directory")
    if not os.access(path, os.W_OK):
        raise RunDirectoryError(f"{path} is not writable: give another --out")
