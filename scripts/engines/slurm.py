"""Runs as jobs of Slurm, through submitit; all machines see the sweep's directory under the same path."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.sweeps.ledger import PlannedRun, RunRecord
from configs.load import ConfigError
from configs.names import near_names
from scripts.engines.process import RemoteRun

if TYPE_CHECKING:
    import submitit

CLUSTER = "slurm"
"""What submitit calls it; tests use its `local` one."""

_TIMEOUT_MIN = 24 * 60
_TIMEOUTS = 100  # a run that needs longer saves, and is submitted again, so often
_PLACE = "job "
_OF_THE_RUN = {
    "cpus_per_task": "give --options training.threads=N",
    "name": "jobs have the names of their runs",
}


class SlurmEngine:
    """Submits jobs. They outlive the sweep's process, and are followed again when it is started again."""

    name = "slurm"

    def __init__(self, directory: Path, parameters: Mapping[str, Any], *, on_gpu: bool) -> None:
        """Look for Slurm.

        Args:
            directory: the sweep's, on a file system that all machines share.
            parameters: of the jobs, by the names of `sbatch` (`partition`) or submitit (`timeout_min`).
            on_gpu: whether each run needs a GPU.

        Raises:
            ConfigError: submitit is not installed, there is no Slurm, or no such parameter.
        """
        try:
            import submitit
        except ImportError:
            raise ConfigError("the engine slurm needs submitit: pip install submitit") from None
        folder = (directory / "slurm").absolute()
        try:
            self._executor = submitit.AutoExecutor(
                folder=folder, cluster=CLUSTER, slurm_max_num_timeout=_TIMEOUTS
            )
        except RuntimeError as error:
            raise ConfigError(f"there is no Slurm here ({error}): use --engine local") from error
        self._directory = directory.absolute()
        self._executor.update_parameters(timeout_min=_TIMEOUT_MIN, gpus_per_node=1 if on_gpu else None)
        self._executor.update_parameters(**_prefixed(parameters))

    def start(self, run: PlannedRun) -> SlurmAttempt:
        """Submit a job.

        Raises:
            OSError: Slurm does not take it.
        """
        import submitit

        self._executor.update_parameters(name=run.key.replace("/", "."), cpus_per_task=run.threads)
        try:
            return SlurmAttempt(self._executor.submit(RemoteRun(run, self._directory)))
        except submitit.core.utils.FailedJobError as error:
            raise OSError(str(error)) from error

    def adopt(self, record: RunRecord) -> SlurmAttempt | None:
        """The job that an earlier process of the sweep submitted."""
        if not record.place.startswith(_PLACE):
            return None
        job_class = self._executor._executor.job_class
        return SlurmAttempt(job_class(self._executor.folder, record.place.removeprefix(_PLACE)))


class SlurmAttempt:
    """A job."""

    def __init__(self, job: submitit.Job[int]) -> None:
        """Follow a job."""
        self._job = job
        self.place = f"{_PLACE}{job.job_id}"

    def poll(self) -> int | None:
        """The exit code; 1 where the job ended without one."""
        import submitit

        if not self._job.done():
            return None
        try:
            return self._job.result()
        except (submitit.core.utils.FailedJobError, submitit.core.utils.UncompletedJobError):
            return 1

    def stop(self) -> None:
        """Cancel it; Slurm then asks its processes to end, and leaves them half a minute for it."""
        self._job.cancel(check=False)

    kill = stop


def _prefixed(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as submitit wants them: `slurm_` before those that only Slurm has.

    Raises:
        ConfigError: there is no such parameter, or each run has its own.
    """
    import submitit

    common = submitit.AutoExecutor._typed_parameters()
    special = submitit.SlurmExecutor._valid_parameters()
    for name in parameters:
        if name in _OF_THE_RUN:
            raise ConfigError(f"--slurm {name} cannot be chosen for all jobs: {_OF_THE_RUN[name]}")
        if name not in common and name not in special:
            near = near_names(name, sorted({*common, *special})) or "; additional_parameters takes any other"
            raise ConfigError(f"--slurm {name}: submitit has no such parameter{near}")
    return {name if name in common else f"slurm_{name}": value for name, value in parameters.items()}
