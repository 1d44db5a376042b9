from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from agent.sweeps.ledger import Ledger, PlannedRun
from tests.runs import EVAL_HEADER, collected, noted, write_run


def test_runs_are_found_below_a_folder_in_any_order(tmp_path: Path) -> None:
    for seed in (2, 1):
        write_run(tmp_path / "deep" / f"seed-{seed}", seed=seed)
    (tmp_path / "deep" / "seed-1" / "episodes" / "eval.csv").mkdir(parents=True)
    found = collected(tmp_path)
    assert [(curve.task, curve.variant, curve.seed) for curve in found.curves] == [
        ("dmc/walker-walk", "cpu", 1),
        ("dmc/walker-walk", "cpu", 2),
    ]
    curve = found.curves[0]
    assert curve.source == f"{tmp_path.name}/deep/seed-1"
    assert (curve.last_frames, curve.target_frames) == (30_000, 30_000)
    np.testing.assert_array_equal(curve.trace.seconds, [100, 200, 300])
    assert curve.conditions["mujoco"] == {"3.17.0"}
    assert found.notes == ()


def test_a_path_given_twice_counts_once_and_keeps_its_label(tmp_path: Path) -> None:
    run = write_run(tmp_path / "seed-1")
    found = collected(tmp_path, run, run / "eval.csv", labels=[None, "mine"])
    assert [curve.variant for curve in found.curves] == ["mine"]
    assert found.notes == ()
    assert [curve.source for curve in collected(run / "config.yaml").curves] == ["seed-1"]


def test_the_folder_of_the_report_is_not_looked_into(tmp_path: Path) -> None:
    from agent.evaluation.comparison.csv_import import CsvOptions
    from agent.evaluation.comparison.reading import read_runs
    from agent.evaluation.comparison.sources import Input

    write_run(tmp_path / "seed-1")
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "curves.csv").write_text("scope,value\n")
    inputs = [Input(tmp_path)]
    assert noted(read_runs(inputs, CsvOptions(lambda name: None), skipped=tmp_path / "report")) == []
    assert "CSV files beside runs are not read" in noted(read_runs(inputs, CsvOptions(lambda name: None)))[0]


HEAD = f"{EVAL_HEADER}\n10000,1,1,100,0,10\n"
ALL = [10_000, 20_000, 30_000]
EVAL: list[tuple[str | bytes | None, str, list[int] | None]] = [
    ("", "has not the header", None),
    ("frames,score\n1,2\n", "has not the header", None),
    (None, "is missing: the run is left out", None),
    (f"{EVAL_HEADER}\n", "has no evaluation yet: the run is left out", None),
    (f"{HEAD}20000,2,2,15", "line 3 is torn: left out", [10_000]),
    (f"{HEAD}20000,2,2\n30000,3,3,9,0,10\n", "line 3: return '' is no number; used up", [10_000]),
    (f"{HEAD}20000,2,2,nan,0,10\n30000,3,3,9,0,10\n", "line 3: the return is nan; used up to", [10_000]),
    (f"{HEAD}20000,2,2,-inf,0,10\n", "line 3: the return is -inf; used up to 10,000", [10_000]),
    (f"{HEAD}x,2,2,5,0,10\n", "line 3: frames 'x' is no number", [10_000]),
    (f"{EVAL_HEADER}\n10000,1,1,nan,0,10\n", "line 2: the return is nan; nothing before it", None),
    (f"{HEAD}20000,2,2,5,0,10\n15000,3,3,9,0,10\n", "frames go from 20,000 to 15,000", [10_000, 15_000]),
    (b"\xff\xfe\x00", "is no text", None),
]
CONFIG: list[tuple[str | None, str]] = [
    (None, "is missing: the run is left out"),
    ("task: [", "is damaged"),
    ("seed: 1\n", "has no entry 'task'"),
    ("{task: a, seed: x}\n", "invalid literal"),
]


@pytest.mark.parametrize(
    ("name", "content", "message", "frames"),
    [
        *(("eval.csv", *row) for row in EVAL),
        *(("config.yaml", *row, None) for row in CONFIG),
        ("manifest.json", None, "is missing: versions and action repeat", ALL),
        ("manifest.json", '{"versions', "is damaged", ALL),
    ],
)
def test_damage_is_one_line_and_the_rest_is_used(
    tmp_path: Path, name: str, content: str | bytes | None, message: str, frames: list[int] | None
) -> None:
    path = write_run(tmp_path / "runs" / "bad", seed=2) / name
    write_run(tmp_path / "runs" / "good")
    path.unlink()
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = collected(tmp_path / "runs")
    (note,) = noted(found)
    assert note.startswith(
        f"runs/bad/{message.partition(':')[0]}" if message.startswith(name) else "runs/bad/"
    )
    assert message in note
    assert "\n" not in note
    assert str(tmp_path) not in note
    by_seed = {curve.seed: list(curve.trace.frames) for curve in found.curves}
    assert by_seed.pop(1) == ALL
    assert by_seed.get(2) == frames


def test_manifests_of_any_shape_are_survived(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / "manifest.json").write_text(json.dumps({"versions": [1], "earlier": 3, "action_repeat": None}))
    (curve,) = collected(run).curves
    assert not {"mujoco", "action repeat"} & curve.conditions.keys()


def test_versions_of_all_processes_of_a_run_count(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    earlier = [{"versions": {"mujoco": "3.16.0"}}, "damaged"]
    (run / "manifest.json").write_text(json.dumps({"versions": {"mujoco": "3.17.0"}, "earlier": earlier}))
    assert collected(run).curves[0].conditions["mujoco"] == {"3.16.0", "3.17.0"}


def test_duplicate_seeds_are_named_and_the_longest_run_stays(tmp_path: Path) -> None:
    write_run(tmp_path / "a", {10_000: 1.0})
    write_run(tmp_path / "b", {10_000: 2.0, 20_000: 3.0})
    found = collected(tmp_path / "a", tmp_path / "b")
    assert [curve.source for curve in found.curves] == ["b"]
    assert noted(found) == [
        "a: seed 1 of dmc/walker-walk, cpu is also in b, which is used: left out; "
        "tell them apart with LABEL=PATH"
    ]


@pytest.mark.parametrize("kind", ["empty", "absent", "text"])
def test_what_holds_nothing_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind == "empty":
        path.mkdir()
    elif kind == "text":
        path.write_text("hello")
    expected = {
        "empty": "empty: holds no run, no sweep and no CSV file",
        "absent": "absent: does not exist",
        "text": "text: is neither a CSV file nor a directory of runs",
    }
    assert noted(collected(path)) == [expected[kind]]


def test_variants_are_told_apart_by_the_options_that_differ(tmp_path: Path) -> None:
    for seed in (1, 2):
        write_run(tmp_path / f"a{seed}", seed=seed, world_model={"objective": "contrastive"})
    write_run(tmp_path / "b", seed=3, world_model={"objective": "predictive"}, training={"threads": 1})
    write_run(tmp_path / "c", seed=4, preset="gpu", look="original")
    write_run(tmp_path / "d", seed=5)  # the schema's default: as the first
    found = {curve.seed: curve.variant for curve in collected(tmp_path).curves}
    assert found == {1: "cpu", 2: "cpu", 3: "cpu, objective predictive", 4: "gpu", 5: "cpu"}


@pytest.mark.parametrize("name", ["from_run", "encoder"])
def test_seeds_that_start_from_runs_of_their_own_are_of_one_variant(tmp_path: Path, name: str) -> None:
    def variants(start: str) -> dict[int, str]:
        directory = tmp_path / start.replace("/", "-")
        write_run(directory / "scratch", seed=20)
        for seed in (1, 2, 12):
            options: dict[str, Any] = {name: start.format(seed=seed)}
            write_run(directory / f"{seed}", seed=seed, **options)
        return {curve.seed: curve.variant for curve in collected(directory).curves if curve.seed < 20}

    assert len(set(variants("runs/walker/seed-{seed}").values())) == 1
    assert set(variants("a/seed-{seed}/encoder.safetensors").values()) == {"cpu"}
    assert len(set(variants("runs/walker/seed-1").values())) == 1, "one run for all"
    assert len(set(variants("runs/walker/seed-3{seed}").values())) == 3, "of other seeds"


def test_many_differences_are_abridged_where_names_stay_apart(tmp_path: Path) -> None:
    options = {"batch_size": 32, "learning_rate": 0.1, "gradient_norm": 1.0, "random_frames": 7}
    for seed in (1, 2):
        write_run(tmp_path / f"{seed}", seed=seed)
    write_run(tmp_path / "3", seed=3, training=options)
    variants = {curve.seed: curve.variant for curve in collected(tmp_path).curves}
    assert variants[3] == "cpu, batch size 32, gradient norm 1.0 and 2 more"
    write_run(tmp_path / "4", seed=4, training=options | {"random_frames": 8})
    variants = {curve.seed: curve.variant for curve in collected(tmp_path).curves}
    assert variants[3] == "cpu, batch size 32, gradient norm 1.0, learning rate 0.1, random frames 7"
    assert variants[4].endswith("random frames 8")


def write_sweep(path: Path, *runs: PlannedRun) -> Ledger:
    """A sweep that has planned these runs, and started each."""
    sweep = {"tasks": ["dmc/walker-walk"], "seeds": [1, 2], "variants": {"second": {}, "first": {}}}
    (path / "sweep.yaml").write_text(yaml.safe_dump(sweep, sort_keys=False))
    ledger = Ledger(path)
    ledger.open(engine="local", jobs=1)
    for run in runs:
        ledger.plan(run)
        ledger.start(run.key, "pid 1")
    return ledger


def planned(variant: str, seed: int) -> PlannedRun:
    return PlannedRun("dmc/walker-walk", variant, seed, frames=40_000, threads=1, arguments=())


def test_a_sweep_names_its_variants_and_what_is_missing(tmp_path: Path) -> None:
    for variant, seed in (("second", 1), ("first", 1)):
        write_run(tmp_path / f"dmc/walker-walk/{variant}/seed-{seed}", seed=seed)
    ledger = write_sweep(tmp_path, *(planned(v, s) for v in ("second", "first") for s in (1, 2)))
    ledger.end(planned("second", 1).key, "finished", seconds=1.0)
    ledger.end(planned("first", 1).key, "failed", seconds=1.0, exit_code=1)
    ledger.end(planned("second", 2).key, "crashed", seconds=1.0, exit_code=1)
    ledger.end(planned("first", 2).key, "crashed", seconds=1.0, exit_code=1)
    ledger.start(planned("first", 2).key, "pid 2")
    found = collected(tmp_path)
    assert found.variants == ("second", "first")
    assert [(c.variant, c.seed, c.target_frames, c.has_crashed) for c in found.curves] == [
        ("first", 1, 40_000, True),
        ("second", 1, 40_000, False),
    ]
    assert [(each.variant, each.seed, each.has_crashed) for each in found.absent] == [
        ("first", 2, False),
        ("second", 2, True),
    ]
    assert found.notes == ()
    again = collected(tmp_path, labels=["mine"])
    assert again.variants == ("mine, second", "mine, first")
    assert {curve.variant for curve in again.curves} == {"mine, first", "mine, second"}


def test_damage_of_a_sweep_is_named(tmp_path: Path) -> None:
    write_run(tmp_path / "dmc/walker-walk/first/seed-1")
    write_sweep(tmp_path, planned("first", 1))
    with (tmp_path / "ledger.jsonl").open("a") as file:
        file.write('not json\n[1]\n{"event": "planned", "run": "x"}\n{"event": "fini')
    notes = [note.partition(": ")[2] for note in noted(collected(tmp_path))]
    assert [note.partition(" (")[0] for note in notes] == [
        f"ledger.jsonl, line {line} is no event" for line in (4, 5, 6)
    ]
    assert all(note.endswith("): left out") for note in notes)
    (tmp_path / "sweep.yaml").write_text("tasks: [")
    found = collected(tmp_path)
    assert "sweep.yaml" in noted(found)[0]
    assert [curve.variant for curve in found.curves] == ["first"]
    (tmp_path / "ledger.jsonl").unlink()
    assert "ledger.jsonl is missing" in noted(collected(tmp_path))[1]


def test_paths_are_shown_without_what_lies_above_them() -> None:
    from agent.evaluation.comparison.sources import _bases

    one, two = Path("/a/runs"), Path("/b/other")
    assert _bases([one, two]) == {one: Path("/a"), two: Path("/b")}
    assert _bases([one, Path("/b/runs")]) == {one: Path("/"), Path("/b/runs"): Path("/")}
    assert set(_bases([one, Path("/a/deep/runs")]).values()) == {Path("/a")}
