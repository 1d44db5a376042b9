"""Everything together, on a task that small networks solve within a minute of one CPU core."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any, get_args

import gymnasium as gym
import numpy as np
import pytest
import torch

from agent.agent import Agent
from agent.loop import Loop
from agent.rollout import evaluate
from agent.seeding import Streams
from configs.control import ControlName
from configs.schema import Config
from envs.spec import EnvSpec
from envs.vector import SerialPool

STEPS, SIZE = 20, 32


class PointAt(gym.Env):
    """A bright column says which action is rewarded; it moves on as it likes. A bar below shows the time.

    The vector says the same. The reward of a decision is 1 - |action - position|: 1/3 in the mean for random
    actions, 1 for the best. Where it is deadly, every decision earns 1, and one that misses by more than 1 is
    the last: random actions live for three decisions in the mean, less than a window holds.
    """

    def __init__(self, deadly: bool = False) -> None:
        self.deadly = deadly
        self.env_spec = EnvSpec(
            task="point-at",
            frame_shape=(3, SIZE, SIZE),
            stack=1,
            action_dim=1,
            action_repeat=1,
            episode_frames=STEPS,
            can_terminate=deadly,
            physics_dim=1,
            look="fast",
            proprio_dim=3,
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.phase, self.time = self.np_random.uniform(0, 2 * math.pi), 0
        return self._obs(), self._info(0)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        missed_by = abs(float(action[0]) - math.cos(self.phase))
        self.phase, self.time = self.phase + 1.0, self.time + 1
        if not self.deadly:
            return self._obs(), 1 - missed_by, False, self.time == STEPS, self._info(1)
        died = missed_by > 1
        return self._obs(), 1.0, died, not died and self.time == STEPS, self._info(1)

    def _obs(self) -> np.ndarray:
        frame = np.zeros((3, SIZE, SIZE), np.uint8)
        column = round((SIZE - 5) * (math.cos(self.phase) + 1) / 2)
        frame[0, : SIZE - 8, column : column + 5] = 255
        frame[1, : SIZE - 8, :] = 255 * (math.sin(self.phase) > 0)
        frame[2, SIZE - 6 :, : SIZE * self.time // STEPS] = 255
        return frame

    def _info(self, frames: int) -> dict[str, Any]:
        vector = [math.cos(self.phase), math.sin(self.phase), self.time / STEPS]
        proprio = np.array(vector, np.float32)
        return {"physics": np.array([self.phase]), "proprio": proprio, "frames": frames}


class NoStop:
    requested = False


def train(directory: Path, *, frames: int, deadly: bool = False, **options: object) -> Loop:
    """A loop that has trained for some hundred updates."""
    config = Config.model_validate(
        {
            **options,
            "frames": frames,
            "size": SIZE,
            "world_model": {
                "encoder": {"channels": 8, "shift_padding": 1},
                "latent_dim": 32,
                "hidden_dim": 64,
                "projection_dim": 16,
                "symlog_limit": 3.0,
                "bins": 41,
            },
            "planner": {"samples": 32},
            "training": {
                "batch_size": 32,
                "random_frames": 200,
                "first_updates": 200,
                "exploration_frames": 200,
                "learning_rate": 1e-3,
                "encoder_learning_rate": 1e-3,
            },
            "evaluation": {"every_frames": 10**6, "episodes": 5, "videos": False},
            "logging": {"tensorboard": False, "progress": False},
        }
    )
    pool, eval_pool = (SerialPool(lambda i: PointAt(deadly), 1) for _ in range(2))
    loop = Loop(config, directory, torch.device("cpu"), pool, eval_pool, Streams(1))
    with loop:
        loop.announce({})
        loop.run(NoStop())
    return loop


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Loop:
    return train(tmp_path_factory.mktemp("run"), frames=600)


def mean_reward(agent: Agent, control: str) -> float:
    results = evaluate(agent, SerialPool(lambda i: PointAt(), 5), list(range(1, 11, 2)), control=control)
    return float(np.mean([result.episode_return for result in results])) / STEPS


def test_planning_is_far_better_than_chance(trained: Loop) -> None:
    with (trained.run_dir / "eval.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["return_mean"]) / STEPS > 0.7


@pytest.mark.parametrize("control", sorted({*get_args(ControlName)} - {"mppi"}))
def test_others_who_act_are_far_better_than_chance(trained: Loop, control: str) -> None:
    assert mean_reward(trained.agent, control) > 0.7


@pytest.mark.parametrize("obs", ["state", pytest.param("pixels+state", marks=pytest.mark.slow)])
def test_it_learns_from_the_tasks_own_vector(obs: str, tmp_path: Path) -> None:
    loop = train(tmp_path, frames=600, obs=obs)
    assert mean_reward(loop.agent, "mppi") > 0.7


def test_latents_do_not_collapse(trained: Loop) -> None:
    batch = trained.replay.sample(64, np.random.default_rng(0))
    metrics = trained.agent.diagnose(batch, torch.Generator().manual_seed(0))
    assert metrics["train/rank_me"] > 4
    for k in range(4):
        assert metrics[f"train/retrieval_{k}"] > 0.1, "chance is 1 / 64"


def test_it_learns_to_live_where_only_the_end_of_an_episode_tells(tmp_path: Path) -> None:
    """Termination through replay, continuation head, planner and value targets: every reward is the same."""
    loop = train(tmp_path, frames=600, deadly=True)
    for control, share in (("mppi", 0.8), ("policy", 0.4)):
        pool = SerialPool(lambda i: PointAt(deadly=True), 5)
        results = evaluate(loop.agent, pool, list(range(1, 21, 2)), control=control)
        assert np.mean([result.episode_return for result in results]) > share * STEPS, control
