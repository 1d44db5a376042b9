"""Runs as tasks of a Ray cluster; all machines see the sweep's directory under the same path."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from agent.sweeps.ledger import PlannedRun, RunRecord
from configs.load import ConfigError
from scripts.engines.process import RemoteRun


class RayEngine:
    """Hands runs to a cluster of Ray."""

    name = "ray"

    def __init__(self, directory: Path, *, gpus_per_run: float) -> None:
        """Connect.

        Args:
            directory: the sweep's, on a file system that all machines share.
            gpus_per_run: 0 for runs on CPUs; a fraction where several share a GPU.

        Raises:
            ConfigError: Ray is not installed, there is no cluster, or none of its nodes can hold a run.
        """
        self._largest = most_cpus(gpus_per_run)
        import ray

        self._directory, self._gpus_per_run = directory.absolute(), gpus_per_run
        self._run = ray.remote(max_retries=0, num_gpus=gpus_per_run)(_run)

    def start(self, run: PlannedRun) -> RayAttempt:
        """Hand over a task, which starts when the cluster has room for it.

        A run keeps the threads it was planned with, also where no node has as many CPUs any more.
        """
        task = self._run.options(num_cpus=min(run.threads, self._largest), name=run.key)
        return RayAttempt(task.remote(RemoteRun(run, self._directory)))

    def adopt(self, record: RunRecord) -> None:
        """Tasks end with the process that handed them over; nothing is left to follow."""


def most_cpus(gpus_per_run: float) -> int:
    """CPUs of the largest node that can hold a run; connects where that has not been done.

    Args:
        gpus_per_run: what it must have besides.

    Raises:
        ConfigError: Ray is not installed, there is no cluster, or no such node.
    """
    try:
        import ray
    except ImportError:
        raise ConfigError("the engine ray needs Ray: pip install ray") from None
    if not ray.is_initialized():
        try:
            ray.init(log_to_driver=False, logging_level=logging.WARNING)
        except Exception as error:  # of no class of its own where a cluster does not come up in time
            raise ConfigError(_no_cluster(error)) from error
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    fitting = [int(node.get("CPU", 0)) for node in nodes if node.get("GPU", 0) >= gpus_per_run]
    if not fitting:
        raise ConfigError(
            "no node of the Ray cluster has a GPU, so the runs would wait for ever: "
            "start Ray where there is one, or give --options device=cpu"
        )
    if not max(fitting):
        raise ConfigError("no node of the Ray cluster has a CPU to give: raise the --num-cpus of `ray start`")
    return max(fitting)


def _no_cluster(error: Exception) -> str:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    if address := os.environ.get("RAY_ADDRESS"):
        return f"no Ray cluster answers at {address} ({reason}): check RAY_ADDRESS"
    return (
        f"Ray starts no cluster on this machine ({reason}): try again when it is less busy, or --engine local"
    )


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
