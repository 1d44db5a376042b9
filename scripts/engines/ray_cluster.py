"""Runs as tasks of a Ray cluster; all machines see the sweep's directory under the same path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent.sweeps.ledger import PlannedRun, RunRecord
from configs.load import ConfigError
from scripts.engines.process import RemoteRun


class RayEngine:
    """Hands runs to the cluster of `RAY_ADDRESS`, or to one that it starts on this machine."""

    name = "ray"

    def __init__(self, directory: Path, *, gpus_per_run: float) -> None:
        """Connect.

        Args:
            directory: the sweep's, on a file system that all machines share.
            gpus_per_run: 0 for runs on CPUs; a fraction where several share a GPU.

        Raises:
            ConfigError: Ray is not installed, or there is no cluster at that address.
        """
        try:
            import ray
        except ImportError:
            raise ConfigError("the engine ray needs Ray: pip install ray") from None
        try:
            ray.init(ignore_reinit_error=True, log_to_driver=False)
        except (ConnectionError, ValueError) as error:
            raise ConfigError(f"no Ray cluster answers ({error}): check RAY_ADDRESS") from error
        self._directory, self._gpus_per_run = directory.absolute(), gpus_per_run
        self._run = ray.remote(max_retries=0, num_gpus=gpus_per_run)(_run)

    def start(self, run: PlannedRun) -> RayAttempt:
        """Hand over a task, which starts when the cluster has room for it."""
        task = self._run.options(num_cpus=run.threads, name=run.key)
        return RayAttempt(task.remote(RemoteRun(run, self._directory)))

    def adopt(self, record: RunRecord) -> None:
        """Tasks end with the process that handed them over; nothing is left to follow."""


class RayAttempt:
    """A task."""

    def __init__(self, reference: Any) -> None:
        """Follow a task."""
        self._reference = reference
        self.place = f"task {reference.task_id().hex()}"

    def poll(self) -> int | None:
        """The exit code; 1 where the task ended without one."""
        import ray

        ended, _ = ray.wait([self._reference], timeout=0)
        if not ended:
            return None
        try:
            return int(ray.get(self._reference))
        except ray.exceptions.RayError:
            return 1

    def stop(self) -> None:
        """Ask it to save and end."""
        self._cancel(force=False)

    def kill(self) -> None:
        """End it at once."""
        self._cancel(force=True)

    def _cancel(self, *, force: bool) -> None:
        import ray

        ray.cancel(self._reference, force=force)


def _run(run: RemoteRun) -> int:
    return run()
