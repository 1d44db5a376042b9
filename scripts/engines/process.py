"""One run of a sweep as a process of `nearfar train`, wherever that process is started."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from agent.sweeps.ledger import PlannedRun
from agent.sweeps.scheduler import STOP_GRACE_S, log_of

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_POLL_S = 0.2
_PREEMPTED_GRACE_S = 75.0
"""For saving before Slurm takes the machine away: told 90 seconds ahead, submitit has to submit again."""


def command_of(run: PlannedRun, directory: Path) -> list[str]:
    """The command line that starts a run, or lets it go on.

    Args:
        run: what to do.
        directory: the sweep's.
    """
    where = ["--training.threads", str(run.threads), "--out", str(directory / run.key)]
    return [sys.executable, "-m", "scripts.cli", "train", *run.arguments, *where]


def spawn(
    command: Sequence[str], log: Path, *, threads: int, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start a run, with its output appended to its log.

    It leaves the terminal, so that Ctrl-C is for the sweep alone, and is deaf to SIGUSR2, as its own workers
    are. On Linux it is asked to save and end when the thread that calls this ends, however that happens;
    elsewhere it goes on.

    Args:
        command: what to start.
        log: made where it does not exist.
        threads: of libraries that torch's own setting does not reach.
        environment: variables besides those of this process.

    Raises:
        OSError: it cannot be started.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as output:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        print(f"--- {now}: {' '.join(command)}", file=output, flush=True)
        return subprocess.Popen(
            command,
            env={**os.environ, "OMP_NUM_THREADS": str(threads), **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_as_run_of(os.getpid()),
        )


def _as_run_of(parent: int) -> Callable[[], None]:
    """What a child does before it becomes a run, so that it saves when its parent asks, or is no more."""
    libc = ctypes.CDLL(None)  # loaded before the fork: little may be done after it

    def prepare() -> None:
        # Slurm sends it to all processes of a job that is about to end; submitit hears it, and asks them.
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        if sys.platform != "linux":
            return
        libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGTERM))
        if os.getppid() != parent:  # it ended before it could be asked for
            os.kill(os.getpid(), signal.SIGTERM)

    return prepare


class RemoteRun:
    """A run as a job of a cluster, which starts the process at its own end; can be pickled."""

    def __init__(self, run: PlannedRun, directory: Path) -> None:
        """Nothing is started yet."""
        self._command, self._log = command_of(run, directory), log_of(directory, run.key)
        self._threads = run.threads
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        """Run to the end.

        Returns:
            The exit code; where it is interrupted, that of a run that was asked to save and end.
        """
        process = spawn(self._command, self._log, threads=self._threads, environment={})
        self._process = process
        try:
            # Not `wait`: what Ray interrupts with does not end a call of the system.
            while (code := process.poll()) is None:
                time.sleep(_POLL_S)
            return code
        except KeyboardInterrupt:  # how both engines cancel a job that has begun
            self._stop(STOP_GRACE_S)
            return process.wait()

    def checkpoint(self) -> DelayedSubmission:
        """What submitit calls before Slurm takes the machine away: save, and submit the same again."""
        from submitit.helpers import DelayedSubmission

        self._stop(_PREEMPTED_GRACE_S)
        self._process = None  # cannot be pickled
        return DelayedSubmission(self)

    def _stop(self, grace_s: float) -> None:
        """Ask the process to save and end, and see that it does; also within a handler of signals."""
        if self._process is None:
            return
        self._process.terminate()
        deadline = time.monotonic() + grace_s
        while not _has_ended(self._process.pid):
            if time.monotonic() > deadline:
                self._process.kill()
            time.sleep(0.05)


def _has_ended(pid: int) -> bool:
    """Whether a child has; `Popen.wait` would wait for itself where a signal has interrupted it."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
    except ChildProcessError:  # its exit code has been fetched
        return True
