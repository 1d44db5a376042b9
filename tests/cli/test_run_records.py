"""One tiny run of `nearfar train` on the fake task, and what its flags left behind."""

from __future__ import annotations

import importlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)

from agent.reporting import layout
from agent.seeding import Streams
from configs.load import load_config
from configs.schema import TrainingOptions
from envs.episodes import EpisodeStore
from envs.spec import Observation
from envs.vector import SerialPool
from scripts import cli

pytestmark = pytest.mark.gl

FLAGS = (
    *("--task", "counting", "--preset", "debug", "--device", "cpu", "--frames", "200"),
    *("--look", "original", "--size", "40", "--action-repeat", "4"),
    *("--training.random-frames", "100", "--training.threads", "1", "--training.deterministic"),
    *("--evaluation.every-frames", "100", "--logging.every-updates", "5"),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run directory, never written to by a test."""
    run = tmp_path_factory.mktemp("records") / "run"
    with mock.patch.dict(os.environ):
        try:
            assert cli.main(["train", *FLAGS, "--out", str(run)]) == 0
            assert torch.are_deterministic_algorithms_enabled()
        finally:
            torch.use_deterministic_algorithms(False)
    yield run


def test_episodes_are_those_of_the_flags(run: Path) -> None:
    facts = json.loads((run / "episodes" / "store.json").read_text(encoding="utf-8"))
    assert (facts["look"], facts["action_repeat"], facts["frame_shape"]) == ("original", 4, [3, 40, 40])
    assert EpisodeStore(run / "episodes").read(0).steps == 25
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["look"], manifest["action_repeat"]) == ("original", 4)


def test_every_chart_of_tensorboard_has_its_lines(run: Path) -> None:
    tags = EventAccumulator(str(run / "tensorboard")).Reload().Tags()
    for charts in layout(load_config(run / "config.yaml")).values():
        for title, (_, patterns) in charts.items():
            for pattern in patterns:
                assert any(re.fullmatch(pattern, tag) for tag in tags["scalars"]), (title, pattern)
    assert tags["images"] == ["eval/episode"]
    assert {"config/text_summary", "manifest/text_summary", "custom_scalars__config__"} <= set(
        tags["tensors"]
    )


def test_metrics_are_those_of_tensorboard(run: Path) -> None:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    written = {name for line in lines for name in json.loads(line)} - {"frames", "updates", "seconds"}
    scalars = EventAccumulator(str(run / "tensorboard")).Reload().Tags()["scalars"]
    assert written | {"eval/return_mean", "eval/return_std"} == set(scalars)


def test_evaluate_runs_episodes_that_no_run_trained_on(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found: list[int] = []
    reset = SerialPool.reset

    def recorded(self: SerialPool, seeds: dict[int, int]) -> dict[int, tuple[Observation, np.ndarray]]:
        found.extend(seeds.values())
        return reset(self, seeds)

    monkeypatch.setattr(SerialPool, "reset", recorded)
    options = ("--episodes", "3", "--seed", "5", "--control", "policy", "--device", "cpu", "--json")
    assert cli.main(["evaluate", str(run), *options]) == 0
    assert found == [Streams(5).episode_seed("eval", i) for i in range(3)]
    summary = json.loads(capsys.readouterr().out)
    assert (summary["episodes"], summary["control"], summary["frames"]) == (3, "policy", 200)


@pytest.mark.parametrize("command", ["train", "bench"])
def test_settings_of_the_process_come_from_the_flags(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Applied(Exception):
        pass

    given: list[TrainingOptions] = []

    def configure(options: TrainingOptions) -> None:
        given.append(options)
        raise Applied

    module = importlib.import_module(f"scripts.{command}")
    monkeypatch.setattr(module, "configure_torch", configure)
    flags = ("--task", "counting", "--device", "cpu", "--training.threads", "3", "--training.deterministic")
    with pytest.raises(Applied):
        module.main([*flags, *(("--out", str(tmp_path)) if command == "train" else ())])
    (options,) = given
    assert (options.threads, options.deterministic) == (3, True)
