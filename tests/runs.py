"""Run directories and CSV files on paper, for tests of comparisons."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from agent.evaluation.comparison.csv_import import CsvOptions
from agent.evaluation.comparison.reading import RunSet, read_runs
from agent.evaluation.comparison.sources import Input
from agent.evaluation.comparison.study import Study

EVAL_HEADER = "frames,updates,seconds,return_mean,return_std,episodes"
KNOWN = {"walker_walk": "dmc/walker-walk", "cartpole_swingup": "dmc/cartpole-swingup"}


def canonical(name: str) -> str | None:
    key = name.removeprefix("dmc/").replace("-", "_").lower()
    return KNOWN.get(key)


def write_run(
    path: Path,
    returns: Mapping[int, float] | None = None,
    *,
    task: str = "dmc/walker-walk",
    seed: int = 1,
    frames: int = 30_000,
    mujoco: str = "3.17.0",
    action_repeat: int = 2,
    **options: Any,
) -> Path:
    """A run directory with evaluations at some frames, a second of training each 100 frames."""
    path.mkdir(parents=True)
    returns = {10_000: 100.0, 20_000: 200.0, 30_000: 300.0} if returns is None else returns
    rows = (f"{at},{at // 8},{at / 100},{value},1.5,10\n" for at, value in returns.items())
    (path / "eval.csv").write_text(f"{EVAL_HEADER}\n{''.join(rows)}")
    config = {"task": task, "preset": "cpu", "seed": seed, "frames": frames, "look": "fast", **options}
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    manifest = {"versions": {"mujoco": mujoco}, "action_repeat": action_repeat}
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path


def collected(*paths: Path, labels: Sequence[str | None] = (), **reading: Any) -> RunSet:
    """What there is under some paths."""
    names = [*labels, *[None] * (len(paths) - len(labels))]
    inputs = [Input(path, label) for path, label in zip(paths, names, strict=True)]
    return read_runs(inputs, CsvOptions(canonical, **reading))


def noted(run_set: RunSet | Study) -> list[str]:
    return [str(note) for note in run_set.notes]
