"""How many runs a machine or a cluster carries at a time, and what starts them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from agent.sweeps.estimate import estimate
from agent.sweeps.scheduler import Engine
from configs.load import ConfigError
from configs.schema import Config
from configs.sweep import Sweep
from envs.registry import default_action_repeat
from scripts import machine
from scripts.sweep_file import assignments

EngineName = Literal["local", "slurm", "ray"]

CLUSTER_THREADS = 4
"""CPU threads of a run on a cluster, where no number of cores is given by the machine at hand; at most."""


@dataclass(frozen=True)
class Resources:
    """What runs are given.

    Attributes:
        jobs: runs at a time.
        threads: CPU threads of each.
        gpus: names of this machine's GPUs that runs may use.
        runs_per_gpu: runs that share one.
        on_cluster: whether another machine carries them out.
    """

    jobs: int
    threads: int
    gpus: tuple[str, ...] = ()
    runs_per_gpu: int = 1
    on_cluster: bool = False

    def on_gpu(self, config: Config) -> bool:
        """Whether a run's networks are on a GPU."""
        if not self.on_cluster:
            return bool(self.gpus) and config.device != "cpu"
        return config.device == "cuda" or (config.device == "auto" and "gpu" in config.preset.split("+"))

    def gpus_per_run(self, configs: Iterable[Config]) -> float:
        """What each run of a cluster is given: a GPU, or a part of it, where one of the variants needs it."""
        return 1 / self.runs_per_gpu if any(map(self.on_gpu, configs)) else 0


def resources_of(sweep: Sweep, engine: EngineName, *, jobs: int | None, runs_per_gpu: int) -> Resources:
    """What this machine or a cluster can give to each run.

    Runs that share cores must not have more threads than there are cores for them: two runs of two threads
    each on two cores take 390 ms an update, of one thread each 158, where one alone with two takes 97
    (`benchmarks/results/spinning.json`).

    Args:
        sweep: resolved.
        engine: what carries it out.
        jobs: runs at a time; None: as many as fit.
        runs_per_gpu: runs that share a GPU.

    Raises:
        ConfigError: more runs at a time than the GPUs may take, or they are to share GPUs where they cannot.
    """
    if engine == "slurm" and runs_per_gpu > 1:
        raise ConfigError(
            f"--runs-per-gpu {runs_per_gpu} is not for --engine slurm: each job has its own GPU"
        )
    configs = [sweep.config_of(variant) for variant in sweep.variants]
    runs = len(sweep.tasks) * len(sweep.seeds) * len(configs)
    if engine == "local":
        resources = _of_this_machine(sweep, configs, runs, jobs=jobs, runs_per_gpu=runs_per_gpu)
    else:
        resources = Resources(jobs or runs, CLUSTER_THREADS, runs_per_gpu=runs_per_gpu, on_cluster=True)
    if runs_per_gpu > 1 and not any(map(resources.on_gpu, configs)):
        raise ConfigError(f"--runs-per-gpu {runs_per_gpu} does nothing here: no run is on a GPU")
    return resources


def _of_this_machine(
    sweep: Sweep, configs: Sequence[Config], runs: int, *, jobs: int | None, runs_per_gpu: int
) -> Resources:
    gpus = machine.visible_gpus() if any(config.device != "cpu" for config in configs) else []
    slots = len(gpus) * runs_per_gpu
    if jobs and gpus and jobs > slots:
        raise ConfigError(
            f"{jobs} jobs are more than {len(gpus)} GPUs take with --runs-per-gpu {runs_per_gpu}: "
            "raise it, or lower --jobs"
        )
    cores = machine.hardware()["cores"]
    limits = [cores, _that_fit_into_memory(sweep, configs), runs, *([slots] if gpus else [])]
    at_a_time = jobs or max(1, min(limits))
    return Resources(at_a_time, max(1, cores // at_a_time), tuple(gpus), runs_per_gpu)


def fitted_to_ray(resources: Resources, configs: Iterable[Config]) -> Resources:
    """No more threads than the largest machine of the Ray cluster has, or runs would wait for ever.

    Raises:
        ConfigError: there is no cluster, or no machine of it can hold a run.
    """
    from scripts.engines.ray_cluster import most_cpus

    threads = min(resources.threads, most_cpus(resources.gpus_per_run(configs)))
    return replace(resources, threads=threads)


def check_slurm_flags(name: EngineName, slurm: Sequence[str]) -> None:
    """Refuse parameters of Slurm for another engine.

    Raises:
        ConfigError: there are some.
    """
    if slurm and name != "slurm":
        raise ConfigError(f"--slurm {slurm[0]} is for --engine slurm, not {name}")


def make_engine(
    name: EngineName,
    directory: Path,
    resources: Resources,
    *,
    configs: Iterable[Config],
    slurm: Sequence[str],
) -> Engine:
    """What starts the runs.

    Args:
        name: its name.
        directory: the sweep's.
        resources: what each run is given.
        configs: of the variants; where one needs a GPU, all jobs of a cluster are given one.
        slurm: parameters of Slurm's jobs, `NAME=VALUE`.

    Raises:
        ConfigError: it is not installed, not there, or its parameters are none.
    """
    if name == "local":
        from scripts.engines.local import LocalEngine

        return LocalEngine(directory, resources.gpus)
    gpus_per_run = resources.gpus_per_run(configs)
    if name == "slurm":
        from scripts.engines.slurm import SlurmEngine

        return SlurmEngine(directory, assignments(slurm, "--slurm"), on_gpu=gpus_per_run > 0)
    from scripts.engines.ray_cluster import RayEngine

    return RayEngine(directory, gpus_per_run=gpus_per_run)


def _that_fit_into_memory(sweep: Sweep, configs: Sequence[Config]) -> int:
    """How many of the largest runs the free memory holds."""
    largest_mb = max(
        estimate(config, config.action_repeat or default_action_repeat(task), 1).memory_mb
        for config in configs
        for task in sweep.tasks
    )
    return int(machine.free_memory_gib() * 2**30 / 1e6 / largest_mb)
