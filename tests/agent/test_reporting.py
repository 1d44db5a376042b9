from __future__ import annotations

import fnmatch
import json
import math
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
from envs.episodes import EpisodeStore
from tests.physics import make_episode

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
    for written in (
        "loss/reward",
        "train/rank_me",
        "explore/cells",
        "explore/entropy",
        "train/plan_policy_gap",
        "train/values_clamped",
        "time/update_share",
    ):
        assert any(fnmatch.fnmatch(written, tag.replace(".*", "*")) for tag in tags), written


def test_returns_beyond_what_values_can_say_are_warned_of(
    tmp_path: Path, tiny_config: Callable[..., Config], caplog: pytest.LogCaptureFixture
) -> None:
    """Discounted ones: bins that end at log(1 + x) = 2 reach 6.39."""
    config = tiny_config(world_model={"symlog_limit": 2.0})
    with Reporter(tmp_path, config, AT) as reporter:
        reporter.evaluation([episode(5.0, [4.0, 4.0]), episode(5.0, [-6.3])], discount=0.5)
        assert not caplog.records
        reporter.evaluation([episode(5.0, [1.0]), episode(5.0, [-6.0, -6.0])], discount=0.5)
    assert "40 frames: a discounted return of 9 is beyond" in caplog.text
    assert "--world-model.symlog-limit 4.0" in caplog.text, "log(1 + 4 x 9) = 3.6"


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


def test_visited_states_are_counted_over_the_episodes(tmp_path: Path, config: Config) -> None:
    """Of a run that goes on: those that it stored before, too."""

    def record(reporter: Reporter, store: EpisodeStore, *places: float) -> None:
        physics = np.array([[place, 0.0] for place in places])
        episode = make_episode(physics, task="dmc/pendulum-swingup")
        store.commit(episode)
        reporter.episode(episode, 1.5)

    for places in ((0.0, 0.01, 2.0), (2.0, -1.0), (2.0, 2.01)):
        with Reporter(tmp_path, config, AT) as reporter:
            record(reporter, EpisodeStore(tmp_path / "episodes"), *places)
    found = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [each["train/episode_return"] for each in found] == [1.5] * 3
    assert [each["explore/cells"] for each in found] == [2, 3, 3]
    shares = [(2, 1), (2, 2, 1), (2, 4, 1)]
    for each, counts in zip(found, shares, strict=True):
        entropy = -sum(n / sum(counts) * math.log(n / sum(counts)) for n in counts)
        assert each["explore/entropy"] == pytest.approx(entropy)


def test_nothing_is_said_of_visits_without_physics(tmp_path: Path, config: Config) -> None:
    with Reporter(tmp_path, config, AT) as reporter:
        reporter.episode(make_episode(np.zeros((3, 0))), 1.0)
    (record,) = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert [name for name in record if "/" in name] == ["train/episode_return"]


def test_a_damaged_episode_does_not_keep_a_run_from_going_on(
    tmp_path: Path, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    store = EpisodeStore(tmp_path / "episodes")
    for _ in range(2):
        store.commit(make_episode(np.zeros((3, 4))))
    store.file(0).write_bytes(b"nonsense")
    with Reporter(tmp_path, config, AT) as reporter:
        reporter.episode(make_episode(np.ones((3, 4))), 1.0)
    assert "episode-00000000.safetensors" in caplog.text
    (record,) = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert record["explore/cells"] == 2 * 6
