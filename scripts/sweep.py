"""`nearfar sweep`: tasks x variants x seeds, in parallel, going on where it was cut."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from agent.sweeps.board import Board
from agent.sweeps.estimate import Cost, estimate
from agent.sweeps.forecast import forecast
from agent.sweeps.ledger import SWEEP_FILE, Ledger, PlannedRun, RunRecord
from agent.sweeps.plan import Plan, check_continuable, make_plan, record_plan
from agent.sweeps.scheduler import Scheduler
from agent.sweeps.table import failure_report
from configs.load import save_config
from configs.options import Options, Positive
from configs.sweep import Sweep, make_sweep, read_sweep
from envs.registry import default_action_repeat
from scripts.live import LiveView
from scripts.machine import disk
from scripts.options import parse_flags
from scripts.run_directory import held_directory, is_held
from scripts.sweep_engines import (
    EngineName,
    Resources,
    check_slurm_flags,
    fitted_to_ray,
    make_engine,
    resources_of,
)
from scripts.sweep_file import resolved_sweep, sweep_from_flags
from scripts.train import StopFlag


class SweepOptions(Options):
    """Many runs: tasks x variants x seeds. Killed and started again, it goes on with what is unfinished."""

    sweep: Annotated[str | None, tyro.conf.Positional] = None
    """dmc100k, dmc_vision20, objectives, smoke, or a YAML file; unset: that of --out, or flags alone."""
    out: Path | None = None
    """Directory of the sweep; default runs/sweeps/<sweep>. An existing sweep there goes on."""
    tasks: tuple[str, ...] = ()
    """Tasks, in place of those of the file."""
    variants: tuple[str, ...] = ()
    """Variants of the file by name, or others as NAME=PRESET[,OPTION=VALUE...]."""
    seeds: tuple[int, ...] = ()
    """Seeds, in place of those of the file."""
    options: tuple[str, ...] = ()
    """Options of all runs as OPTION=VALUE, for instance frames=20000 device=cpu planner.control=cem."""
    jobs: Positive | None = None
    """Runs at a time; unset: what cores, free memory and GPUs allow, or all of them on a cluster."""
    runs_per_gpu: Positive = 1
    """Runs that share a GPU; not on Slurm, where each job has its own."""
    engine: EngineName = "local"
    """Where runs are carried out: on this machine, by Slurm (needs submitit), or by Ray (needs ray)."""
    slurm: tuple[str, ...] = ()
    """Parameters of Slurm jobs as NAME=VALUE, for instance partition=long timeout_min=600 mem_gb=8."""
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print the plan, and what time, memory and disk it will take; start nothing."""


def main(arguments: Sequence[str]) -> int:
    """Carry a sweep out; see `nearfar sweep --help`.

    Returns:
        0 where all runs have finished, 1 where one failed, 130 or 143 where a signal ended the sweep after
        its runs had saved.
    """
    options = parse_flags(SweepOptions, "nearfar sweep", arguments)
    check_slurm_flags(options.engine, options.slurm)
    out = options.out or Path("runs", "sweeps", Path(options.sweep or "flags").stem)
    asked = sweep_from_flags(
        options.sweep or _saved_in(out),
        tasks=options.tasks,
        variants=options.variants,
        seeds=options.seeds,
        options=options.options,
    )
    sweep = resolved_sweep(asked, is_local=options.engine == "local")
    resources = resources_of(sweep, options.engine, jobs=options.jobs, runs_per_gpu=options.runs_per_gpu)
    plan = make_plan(sweep, threads=resources.threads)
    if options.dry_run:
        print(_forecast(plan, Ledger.read(out), out, resources))
        return 0
    if options.engine == "ray":
        resources = fitted_to_ray(resources, plan.configs.values())
        plan = make_plan(sweep, threads=resources.threads)
    with held_directory(out, SWEEP_FILE), StopFlag() as stop:
        records = _carry_out(sweep, plan, out, resources, options, stop)
    for line in failure_report(records):
        print(line)
    if stop.requested:
        print("saved; the same command goes on with what is unfinished")
        return 128 + stop.signal_number
    return int(any(record.state == "failed" for record in records))


def _saved_in(out: Path) -> str | None:
    """The sweep file of a directory in which one was begun."""
    return str(out / SWEEP_FILE) if (out / SWEEP_FILE).exists() else None


def _carry_out(
    sweep: Sweep, plan: Plan, out: Path, resources: Resources, options: SweepOptions, stop: StopFlag
) -> list[RunRecord]:
    """Note the plan, and run it."""
    ledger = Ledger.read(out)
    if ledger.records and (saved := _saved_in(out)):
        check_continuable(make_sweep(read_sweep(saved), saved), sweep)
    save_config(sweep, out / SWEEP_FILE)
    configs = plan.configs.values()
    engine = make_engine(options.engine, out, resources, configs=configs, slurm=options.slurm)
    ledger.open(engine=engine.name, jobs=resources.jobs)
    keys = record_plan(plan, ledger)
    if others := len(ledger.records) - len(keys):
        print(f"{others} earlier runs in {out} are no part of this sweep: they are left as they are")
    costs = {key: _cost(ledger.records[key].run, plan, resources) for key in keys}
    board = Board(ledger, keys, plan.configs, costs, jobs=resources.jobs)
    view = LiveView(board, sys.stdout)
    print(f"{len(keys)} runs, {resources.jobs} at a time, in {out}")
    scheduler = Scheduler(ledger, keys, engine, jobs=resources.jobs, is_held=is_held, view=view)
    records = scheduler.carry_out(stop)
    view.close()
    return records


def _forecast(plan: Plan, ledger: Ledger, out: Path, resources: Resources) -> str:
    """What `--dry-run` prints, with what has been done already."""
    runs = {run.key: run for run in plan.runs}
    records = [ledger.records.get(key, RunRecord(run)) for key, run in runs.items()]
    costs = {key: _cost(run, plan, resources) for key, run in runs.items()}
    free_mb = disk(out)["free_gib"] * 2**30 / 1e6
    return forecast(records, costs, jobs=resources.jobs, free_disk_mb=free_mb)


def _cost(run: PlannedRun, plan: Plan, resources: Resources) -> Cost:
    config = plan.configs[run.variant]
    repeat = config.action_repeat or default_action_repeat(run.task)
    return estimate(config, repeat, run.threads, on_gpu=resources.on_gpu(config))
