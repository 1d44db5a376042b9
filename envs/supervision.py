"""What becomes of environments that fail: each failure is told, and one that fails too often ends the run."""

from __future__ import annotations

import logging
import time
import traceback
from collections import defaultdict, deque
from dataclasses import dataclass
from functools import partial

from envs.registry import TaskError
from envs.spec import Pool, WorkerError

MAX_RESTARTS = 10
"""Times that one environment may be built again within `RESTART_WINDOW_S`: by then it is broken, not unlucky.

Counted by environment, because what fails all of them at once (a driver, a lack of memory) is one fault; and
within a window, because a fault that comes once an hour costs a long run nothing.
"""
RESTART_WINDOW_S = 3600.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """Why an environment did not answer.

    Attributes:
        what: in one line.
        trace: the whole traceback, where there is one.
        task_error: what is wrong with the task itself, where that is the reason.
    """

    what: str
    trace: str = ""
    task_error: TaskError | None = None

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """An exception that was raised: the last line of its traceback, and where that was."""
        place = traceback.extract_tb(error.__traceback__)[-1]
        line = " ".join(f"{type(error).__name__}: {error}".split())
        what = f"{line} ({place.filename}:{place.lineno} in {place.name})"
        task_error = error if isinstance(error, TaskError) else None
        return cls(what, "".join(traceback.format_exception(error)), task_error)

    def as_error(self, message: str) -> WorkerError | TaskError:
        """What is wrong with the task; else an error that says `message`, with the traceback as its note."""
        if self.task_error is not None:
            return self.task_error
        error = WorkerError(message)
        if self.trace:
            error.add_note(self.trace)
        return error


class SupervisedPool(Pool):
    """A pool that counts its failures."""

    def __init__(self, count: int) -> None:
        """Nothing has failed yet."""
        self.count = count
        self.restarts = 0
        # By index: when it was started again, newest last.
        self._restarted_at: defaultdict[int, deque[float]] = defaultdict(partial(deque, maxlen=MAX_RESTARTS))

    def _report(self, index: int, failure: Failure) -> None:
        """Tell of a failure whose environment is about to be built again.

        Raises:
            TaskError: something is wrong with the task itself, which building it again does not mend.
            WorkerError: it fails too often for that.
        """
        if failure.task_error is not None:
            raise failure.task_error
        name, now = f"environment {index} of {self.env_spec.task}", time.monotonic()
        restarted_at = self._restarted_at[index]
        if len(restarted_at) == MAX_RESTARTS and now - restarted_at[0] < RESTART_WINDOW_S:
            raise failure.as_error(
                f"{name} failed {MAX_RESTARTS + 1} times within {RESTART_WINDOW_S / 60:.0f} minutes, "
                f"the last time: {failure.what}"
            )
        restarted_at.append(now)
        self.restarts += 1
        _log.warning("%s failed: %s; it is started again (restart %d)", name, failure.what, self.restarts)
