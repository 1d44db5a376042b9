from __future__ import annotations

import fnmatch
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)
from tensorboard.plugins.custom_scalar import layout_pb2  # type: ignore[import-untyped]

from agent.progress import Progress
from agent.reporting import Reporter
from agent.rollout import EpisodeResult
from configs.schema import Config

AT = Progress(frames=40, updates=7, seconds=1.5)


@pytest.fixture
def config(tiny_config: Callable[..., Config]) -> Config:
    return tiny_config(logging={"tensorboard": True}, seed=77)


def episode(start_value: float, rewards: list[float], images: int = 0) -> EpisodeResult:
    drawn = [np.full((3, 32, 32), 40 * k, np.uint8) for k in range(images)]
    return EpisodeResult(1, sum(rewards), rewards, [1] * len(rewards), start_value, drawn)


def shown(run_dir: Path) -> EventAccumulator:
    return EventAccumulator(str(run_dir / "tensorboard"), size_guidance={"images": 0}).Reload()


def test_run_is_announced(tmp_path: Path, config: Config) -> None:
    with Reporter(tmp_path, config, AT) as reporter:
        reporter.announce({"versions": {"mujoco": "3.x"}})
    assert json.loads((tmp_path / "manifest.json").read_text()) == {"versions": {"mujoco": "3.x"}}
    texts = {
        name: shown(tmp_path).Tensors(f"{name}/text_summary")[0].tensor_proto.string_val[0].decode()
        for name in ("config", "manifest")
    }
    assert "seed: 77" in texts["config"]
    assert '"mujoco": "3.x"' in texts["manifest"]


def test_charts_are_arranged(tmp_path: Path, config: Config) -> None:
    with Reporter(tmp_path, config, AT) as reporter:
        reporter.announce({})
    (arranged,) = shown(tmp_path).Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(arranged.tensor_proto.string_val[0])
    charts = {chart.title: list(chart.multiline.tag) for row in layout.category for chart in row.chart}
    assert charts["return"] == ["eval/return_mean", "train/episode_return"]
    assert charts["value against return"] == ["eval/start_value", "eval/discounted_return"]
    tags = [tag for chart in charts.values() for tag in chart]
    for written in ("loss/reward", "train/rank_me", "train/plan_policy_gap", "time/update_share"):
        assert any(fnmatch.fnmatch(written, tag.replace(".*", "*")) for tag in tags), written


def test_evaluation_is_compared_with_what_was_promised(tmp_path: Path, config: Config) -> None:
    """Errors of the two episodes, of opposite sign, do not cancel."""
    with Reporter(tmp_path, config, AT) as reporter:
        reporter.evaluation([episode(5.0, [2.0, 2.0]), episode(1.0, [4.0, 0.0, 4.0])], discount=0.5)
    (record,) = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    expected = {"eval/start_value": 3.0, "eval/discounted_return": 4.0, "eval/value_error": 3.0}
    assert record == {"frames": 40, "updates": 7, "seconds": 1.5} | expected
    assert (tmp_path / "eval.csv").read_text().splitlines()[1] == "40,7,1.500,6,2,2"
    events = shown(tmp_path)
    for name, value in (expected | {"eval/return_mean": 6.0}).items():
        assert [(event.step, event.value) for event in events.Scalars(name)] == [(40, value)]
    assert events.Tags()["images"] == []
    assert not (tmp_path / "videos").exists()


def test_first_episode_is_shown_as_a_video(tmp_path: Path, config: Config) -> None:
    with Reporter(tmp_path, config, AT) as reporter:
        reporter.evaluation([episode(0.0, 4 * [1.0], images=4), episode(0.0, [1.0])], discount=0.5)
    (image,) = shown(tmp_path).Images("eval/episode")
    assert (image.step, image.width, image.height) == (40, 32, 32)
    with Image.open(tmp_path / "videos" / "frames-000000040.gif") as video:
        assert getattr(video, "n_frames", 1) == 4
