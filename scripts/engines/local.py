"""Runs as processes of this machine."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from agent.sweeps.ledger import PlannedRun, RunRecord
from agent.sweeps.scheduler import log_of
from scripts.engines import process


class LocalEngine:
    """Starts processes; where there are GPUs, each on the one with the fewest runs."""

    name = "local"

    def __init__(self, directory: Path, gpus: Sequence[str] = ()) -> None:
        """Nothing is started yet.

        Args:
            directory: the sweep's.
            gpus: what `CUDA_VISIBLE_DEVICES` calls those that runs may use.
        """
        self._directory, self._gpus = directory, tuple(gpus)
        self._going: list[LocalAttempt] = []

    def start(self, run: PlannedRun) -> LocalAttempt:
        """Start a process.

        Raises:
            OSError: it cannot be started.
        """
        self._going = [attempt for attempt in self._going if attempt.poll() is None]
        gpu = self._least_used()
        started = process.spawn(
            process.command_of(run, self._directory),
            log_of(self._directory, run.key),
            threads=run.threads,
            environment={} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu},
        )
        self._going.append(LocalAttempt(started, gpu))
        return self._going[-1]

    def adopt(self, record: RunRecord) -> None:
        """Processes of an earlier sweep save and end with it; nothing is left to follow."""

    def _least_used(self) -> str | None:
        if not self._gpus:
            return None
        used = Counter(attempt.gpu for attempt in self._going)
        return min(self._gpus, key=lambda gpu: used[gpu])


class LocalAttempt:
    """A process."""

    def __init__(self, started: subprocess.Popen[bytes], gpu: str | None) -> None:
        """Follow a process that has just been started."""
        self._process, self.gpu = started, gpu
        self.place = f"pid {started.pid}" + ("" if gpu is None else f", GPU {gpu}")

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None as long as it goes on."""
        return self._process.poll()

    def stop(self) -> None:
        """Ask it to save and end."""
        self._process.terminate()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
