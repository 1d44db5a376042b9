"""From tasks x variants x seeds to single runs, each a command line of `nearfar train`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from agent.sweeps.ledger import Ledger, PlannedRun
from configs.load import ConfigError
from configs.resuming import check_run
from configs.schema import Config
from configs.sweep import Sweep


@dataclass(frozen=True)
class Plan:
    """What a sweep amounts to.

    Attributes:
        runs: in the order in which to start them: all of one seed before the next, so that a sweep that is
            cut short has compared everything with few seeds.
        configs: of each variant; task and seed are those of the schema.
    """

    runs: tuple[PlannedRun, ...]
    configs: Mapping[str, Config]


def make_plan(sweep: Sweep, *, threads: int) -> Plan:
    """The runs of a sweep.

    Args:
        sweep: with canonical names of tasks, and presets that need no looking at the machine.
        threads: of each run that does not state its own.

    Raises:
        ConfigError: an option is unknown, or a value out of range.
    """
    configs = {variant: sweep.config_of(variant) for variant in sweep.variants}
    runs = [
        PlannedRun(
            task=task,
            variant=variant,
            seed=seed,
            frames=config.frames,
            threads=config.training.threads or threads,
            arguments=tuple(_arguments(sweep, variant, config, task, seed)),
        )
        for seed in sweep.seeds
        for task in sweep.tasks
        for variant, config in configs.items()
    ]
    return Plan(tuple(runs), configs)


def _arguments(sweep: Sweep, variant: str, config: Config, task: str, seed: int) -> list[str]:
    """Flags of `nearfar train` for a run; the number of threads is added when it starts."""
    options = sweep.options_of(variant)
    preset = str(options.pop("preset", config.preset))
    flags = ["--task", task, "--preset", preset, "--seed", str(seed), "--logging.no-progress"]
    for name in (name for name in options if name != "training.threads"):
        flags += _flags(name, config)
    return flags


def _flags(name: str, config: Config) -> list[str]:
    """How the value that an option has in a configuration is given on a command line."""
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part)
    flag = "from" if name == "from_run" else name.replace("_", "-")
    if isinstance(value, bool):
        group, dot, last = flag.rpartition(".")
        return [f"--{group}{dot}{'' if value else 'no-'}{last}"]
    if name == "imports":
        return [text for module in value for text in ("--import", module)]
    return [f"--{flag}", str(value)]


def check_continuable(old: Sweep, new: Sweep) -> None:
    """Let a sweep go on only with the options that its variants were made with; frames may be raised.

    Raises:
        ConfigError: names every option that differs, and the remedy.
    """
    for variant in new.variants:
        if variant not in old.variants:
            continue
        try:
            check_run(old.config_of(variant), new.config_of(variant))
        except ConfigError as error:
            raise ConfigError(f"variant {variant}: {error}") from error


def record_plan(plan: Plan, ledger: Ledger) -> list[str]:
    """Note what the ledger does not know yet.

    A run keeps the number of threads that it was planned with, unless its variant states another.

    Returns:
        Keys of the plan's runs, in its order.
    """
    for run in plan.runs:
        earlier = ledger.records.get(run.key)
        if earlier and not plan.configs[run.variant].training.threads:
            run = replace(run, threads=earlier.run.threads)
        if earlier is None or earlier.run != run:
            ledger.plan(run)
    return [run.key for run in plan.runs]
