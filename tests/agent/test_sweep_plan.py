from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.sweeps.ledger import Ledger
from agent.sweeps.plan import check_continuable, make_plan, record_plan
from configs.load import ConfigError
from configs.schema import Config
from configs.sweep import Sweep, make_sweep, read_sweep, sweep_names
from scripts.options import parse_config
from scripts.sweep_file import resolved_sweep


def sweep_of(**changes: Any) -> Sweep:
    values: dict[str, Any] = {
        "tasks": ["dmc/walker-walk", "dmc/reacher-easy"],
        "seeds": [3, 1],
        "options": {"frames": 3000, "device": "cpu"},
        "variants": {"plain": "debug", "other": {"preset": "debug+byol", "world_model.key_tau": 0.5}},
    }
    return make_sweep(values | changes, "here")


def test_all_of_a_seed_comes_before_the_next() -> None:
    plan = make_plan(sweep_of(), threads=2)
    assert [run.key for run in plan.runs] == [
        f"{task}/{variant}/seed-{seed}"
        for seed in (3, 1)
        for task in ("dmc/walker-walk", "dmc/reacher-easy")
        for variant in ("plain", "other")
    ]
    assert {run.threads for run in plan.runs} == {2}


ODD = {
    "preset": "debug",
    "evaluation.videos": False,
    "training.deterministic": True,
    "actor_critic.discount": None,
    "action_repeat": 3,
    "obs": "pixels+state",
    "training.learning_rate": "1e-5",
    "distract": "background=medium,camera=easy",
    "imports": ["json", "csv"],
    "training.threads": 3,
}


@pytest.mark.parametrize("variant", ["plain", "other", "odd"])
def test_arguments_mean_the_configuration(variant: str) -> None:
    """What `nearfar train` makes of them is what was validated."""
    sweep = sweep_of(variants={"plain": "debug", "other": {"preset": "cpu+queue", "size": 84}, "odd": ODD})
    plan = make_plan(sweep, threads=2)
    run = next(run for run in plan.runs if run.variant == variant)
    assert run.threads == (3 if variant == "odd" else 2)
    given = parse_config(Config, "train", [*run.arguments, "--training.threads", str(run.threads)])
    config = plan.configs[variant]
    expected = config.model_dump() | {"task": run.task, "seed": run.seed}
    expected["logging"]["progress"] = False
    expected["training"]["threads"] = run.threads
    assert given.model_dump() == expected


def test_shipped_sweeps_can_be_planned() -> None:
    sizes = {}
    for name in sweep_names():
        sweep = make_sweep(read_sweep(name) | {"options": {"device": "cpu"}}, name)
        sizes[name] = len(make_plan(resolved_sweep(sweep, is_local=True), threads=1).runs)
    assert sizes == {"dmc100k": 30, "dmc_vision20": 100, "objectives": 63, "smoke": 8}


def test_a_run_keeps_its_threads(tmp_path: Path) -> None:
    """On a CPU it goes on bit for bit only with the same number."""
    ledger = Ledger(tmp_path)
    record_plan(make_plan(sweep_of(), threads=2), ledger)
    size = (tmp_path / "ledger.jsonl").stat().st_size
    keys = record_plan(make_plan(sweep_of(), threads=1), ledger)
    assert {ledger.records[key].run.threads for key in keys} == {2}
    assert (tmp_path / "ledger.jsonl").stat().st_size == size, "there was nothing new to note"

    stated = sweep_of(options={"frames": 3000, "device": "cpu", "training.threads": 4})
    keys = record_plan(make_plan(stated, threads=1), ledger)
    assert {ledger.records[key].run.threads for key in keys} == {4}


def test_more_seeds_and_frames_are_planned_beside_what_is_done(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    keys = record_plan(make_plan(sweep_of(), threads=2), ledger)
    for key in keys:
        ledger.start(key, "pid 1")
        ledger.end(key, "finished", seconds=1.0)
    keys = record_plan(make_plan(sweep_of(seeds=[1, 2, 3]), threads=2), ledger)
    assert sum(ledger.records[key].state == "planned" for key in keys) == 4
    longer = make_plan(sweep_of(options={"frames": 4000, "device": "cpu"}), threads=2)
    keys = record_plan(longer, ledger)
    assert {ledger.records[key].state for key in keys} == {"planned"}
    assert {ledger.records[key].run.frames for key in keys} == {4000}


def test_other_options_are_refused() -> None:
    longer = sweep_of(options={"frames": 4000, "device": "cpu", "logging.every_updates": 3})
    check_continuable(sweep_of(), longer)
    check_continuable(sweep_of(), sweep_of(variants={"new": "cpu"}))
    with pytest.raises(ConfigError, match=r"variant plain: .*frames was 4000, now 3000.*another --out"):
        check_continuable(longer, sweep_of())
    changed = sweep_of(variants={"plain": "debug", "other": "debug+byol"})
    with pytest.raises(ConfigError, match=r"variant other: .*key-tau was 0\.5, now"):
        check_continuable(sweep_of(), changed)
