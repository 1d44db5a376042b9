"""The measurement scripts are run rarely and for hours: their flags are checked here."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from configs.pretrain import PretrainConfig
from configs.schema import Config
from envs.episodes import EpisodeStore
from scripts.bench import BenchOptions
from scripts.collect import CollectOptions
from scripts.evaluate import EvaluateOptions
from scripts.options import parse_config, parse_flags
from tests.physics import make_episode

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
SUITES = yaml.safe_load((BENCHMARKS / "suites.yaml").read_text())


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the scripts be imported; they stand beside the packages."""
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])


@pytest.mark.parametrize("suite", SUITES)
def test_suites_are_valid_command_lines(scripts: None, suite: str) -> None:
    import suite as runner

    runs = runner.runs_of(suite)
    assert len(runs) == sum(len(entry["seeds"]) for entry in SUITES[suite].values())
    assert len({(name, seed) for name, seed, _ in runs}) == len(runs)
    for _, seed, flags in runs:
        config = parse_config(Config, "train", [*runner.command_flags(flags, seed, Path("out"), threads=1)])
        assert (config.seed, config.training.threads, config.logging.progress) == (seed, 1, False)


def test_evaluations_of_suites_are_valid_command_lines(scripts: None) -> None:
    import backgrounds
    import suite as runner

    asked = [
        flags
        for suite, entries in SUITES.items()
        for name in entries
        for flags in runner.evaluations_of(suite, name).values()
    ]
    assert asked
    for flags in asked:
        parse_flags(EvaluateOptions, "nearfar evaluate", ["run", *flags])
    for suite, name in backgrounds.TRAINED.values():
        assert {"clean", "background"} <= runner.evaluations_of(suite, name).keys()


def test_gpu_script_is_made_of_valid_command_lines(scripts: None) -> None:
    import gpu

    for flags in gpu.RUNS.values():
        config = parse_config(Config, "train", [*gpu.TRAIN_FLAGS.split(), *flags.split()])
        assert config.preset == "gpu"
        assert config.training.cuda_graph
        assert config.replay.on_device
    for flags in gpu.BENCHES.values():
        parse_config(BenchOptions, "bench", flags.split())
    for flags in gpu.PRETRAININGS.values():
        parse_flags(PretrainConfig, "nearfar pretrain", [*flags.split(), "--data", "somewhere"])
    parse_flags(CollectOptions, "nearfar collect", gpu.COLLECT_FLAGS.split())
    assert not parse_config(BenchOptions, "bench", gpu.BENCHES["bench-gpu-eager"].split()).training.cuda_graph


def test_update_times_are_those_of_valid_command_lines(scripts: None) -> None:
    import update_times

    found = {
        name: parse_config(BenchOptions, "bench", flags) for name, flags in update_times.flags_of().items()
    }
    assert {"contrastive", "none", "byol", "queue"} <= found.keys()
    for name in ("contrastive", "none", "byol"):
        assert found[name].world_model.objective == name
    assert found["queue"].world_model.queue > 0


def test_pretraining_is_made_of_valid_command_lines(scripts: None) -> None:
    import pretraining

    assert {"simclr", "moco", "byol", "reconstruction"} <= pretraining.METHODS.keys()
    for flags in pretraining.METHODS.values():
        parse_flags(PretrainConfig, "nearfar pretrain", [*flags.split(), "--data", "somewhere"])


def test_what_is_kept_of_training_episodes(scripts: None, tmp_path: Path) -> None:
    import curiosity
    import suite as runner

    episodes = [
        {"frames": 1000, "train/episode_return": 0.0, "explore/cells": 40.0, "explore/entropy": 2.5},
        {"frames": 1500, "loss/value": 1.0},
        {"frames": 2000, "train/episode_return": 7.25},
    ]
    run, kept = tmp_path / "run", tmp_path / "kept" / "domain" / "seed-1"
    run.mkdir()
    torn = '{"frames": 3000, "train/ep'
    (run / "metrics.jsonl").write_text("\n".join([*map(json.dumps, episodes), torn]))
    runner.keep(run, kept)
    assert (kept / "metrics.jsonl").read_text() == json.dumps(episodes[1]) + "\n"
    assert curiosity.rows_of(kept / "training.csv") == [
        {"frames": 1000, "return": 0, "cells": 40, "entropy": 2.5},
        {"frames": 2000, "return": 7.25},
    ]
    assert curiosity.first_reward(kept) == 2000


@pytest.mark.gl
def test_true_values_go_on_from_any_moment_of_an_episode(scripts: None) -> None:
    """Set back again and again, the simulator answers as it did in the episode itself."""
    from action_values import Moment, go_on

    from envs import make_env
    from envs.spec import Observation

    env, other = (make_env("dmc/cartpole-swingup", seed=0) for _ in range(2))
    pixels, info = env.reset(seed=3)
    other.reset(seed=9)
    moment = Moment(info["physics"], Observation(pixels, info["proprio"]), np.zeros(1, np.float32))
    for value in (1.0, -0.5, 0.2, 1.0):
        action = np.array([value], np.float32)
        go_on(other, moment, -action)
        found, reward = go_on(other, moment, action)
        pixels, expected, *_, info = env.step(action)
        assert reward == pytest.approx(expected, abs=1e-9)
        np.testing.assert_array_equal(found.obs.pixels, pixels)
        np.testing.assert_allclose(found.obs.proprio, info["proprio"], atol=1e-6)
        np.testing.assert_allclose(found.physics, info["physics"], atol=1e-12)
        moment = found


def test_the_noise_trap_is_measured_for_every_bonus(
    scripts: None, tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    """On a screen that shows noise where the cart is on the right, and there alone."""
    import noise_trap

    plain, painted = (EpisodeStore(tmp_path / name) for name in ("plain", "painted"))
    physics = np.zeros((13, 4))
    physics[:, 0] = np.linspace(-1, 1, 13)
    for _ in range(3):
        plain.commit(replace(make_episode(physics), frame=np.zeros((13, 3, 32, 32), np.uint8)))
    noise_trap.paint(plain, painted, has_noise=True, seed=1)
    screen = painted.read(2).frame[noise_trap.SCREEN]
    np.testing.assert_array_equal(screen.std(axis=(1, 2, 3)) > 50, physics[:, 0] > 0)
    assert (screen[physics[:, 0] <= 0] == 128).all()
    config = tiny_config(mode="explore", curiosity={"bonus": "contrastive", "memory": 50})
    found = noise_trap.measure(painted.path, updates=2, config=config)
    assert found.keys() == {*noise_trap.BONUSES, "states_right", "states_left"}
    assert {"contrastive", "surprise", "knn", "disagreement"} == {*noise_trap.BONUSES}
    assert all(0 <= found[name] <= 1 for name in noise_trap.BONUSES)
    states = found["states_right"] + found["states_left"]
    assert 0 < found["states_right"] < states <= noise_trap.JUDGED * 8 * 3


def test_what_curiosity_costs_is_measured_with_and_without_its_bonus(scripts: None) -> None:
    import curiosity_cost

    found = curiosity_cost.measure("contrastive", rounds=1, threads=1, preset="debug")
    parts = {
        f"{part}_ms/{name}" for part in ("act", "update", "step") for name in ("none", "curious", "no_bonus")
    }
    assert found.keys() == parts | {"bonus_and_memory", "all"}
    step = {name: found[f"step_ms/{name}"] for name in ("none", "curious", "no_bonus")}
    assert found["all"] == pytest.approx((step["curious"] - step["none"]) / step["none"])
    assert found["bonus_and_memory"] == pytest.approx((step["curious"] - step["no_bonus"]) / step["none"])
