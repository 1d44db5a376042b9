"""What every environment promises, checked on the results of its steps; and environments to try it on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from envs.counting import CountingEnv
from envs.spec import EnvSpec

Result = tuple[np.ndarray, Any, bool, bool, dict[str, Any]]


def run(env: gym.Env, seed: int, actions: list[np.ndarray]) -> list[Result]:
    """An episode's beginning, or all of it; observations are copies, and what was returned is overwritten."""
    obs, info = env.reset(seed=seed)
    results: list[Result] = [(obs.copy(), 0.0, False, False, info)]
    obs[:] = 77
    for action in actions:
        obs, reward, terminated, truncated, info = env.step(action)
        results.append((obs.copy(), reward, terminated, truncated, info))
        obs[:] = 77
        if terminated or truncated:
            break
    return results


def assert_same(results: list[Result], others: list[Result]) -> None:
    for one, other in zip(results, others, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        assert one[1:4] == other[1:4] and one[4]["frames"] == other[4]["frames"]
        for name in ("physics", "proprio"):
            np.testing.assert_array_equal(one[4][name], other[4][name])


def check_result(result: Result, spec: EnvSpec) -> None:
    obs, reward, terminated, truncated, info = result
    assert obs.dtype == np.uint8 and obs.shape == spec.obs_shape
    assert obs.max() > obs.min(), "a blank picture"
    assert type(reward) is float and np.isfinite(reward)
    assert type(terminated) is type(truncated) is bool
    assert not (terminated and truncated)
    assert set(info) == {"physics", "proprio", "frames"} and type(info["frames"]) is int
    assert info["physics"].dtype == np.float64 and info["physics"].shape == (spec.physics_dim,)
    assert info["proprio"].dtype == np.float32 and info["proprio"].shape == (spec.proprio_dim,)
    assert np.isfinite(info["physics"]).all() and np.isfinite(info["proprio"]).all()
    assert info["proprio"].flags.owndata


@dataclass(frozen=True)
class MakeCounting:
    """Counting environments, each of its own length, for pools of any kind."""

    lengths: tuple[int, ...]
    terminate: bool

    def __call__(self, index: int) -> CountingEnv:
        return CountingEnv(length=self.lengths[index], terminate=self.terminate, size=32)
