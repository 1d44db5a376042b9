"""Environments of which nothing is drawn: for agents that see the task's own vector alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from envs import make_env
from envs.vector import env_spec_of, make_pool

ROOT = Path(__file__).parents[2]
FOREIGN = ("tests.envs.foreign",)

WITHOUT_OPENGL = """
from envs import make_env
from envs.rendering import RenderingUnavailableError
for task, size in (("dmc/cartpole-swingup", 64), ("dmc/quadruped-escape", 0)):
    try:
        make_env(task, size=size)
    except RenderingUnavailableError as error:
        assert "apt-get install" in str(error), error
    else:
        raise AssertionError(task)
for task in ("dmc/cartpole-swingup", "gym/Hopper-v5"):
    env = make_env(task, size=0)
    env.reset(seed=0)
    env.step(env.action_space.sample())
print("done")
"""


@pytest.mark.gl
@pytest.mark.parametrize(
    "task", ["dmc/reacher-easy", "dmc/lqr-lqr_2_1", "gym/Hopper-v5", "gym/foreign/Disc-v0", "counting"]
)
def test_all_but_the_frames_is_as_where_they_are_drawn(task: str) -> None:
    drawn, undrawn = (make_env(task, size=size, imports=FOREIGN) for size in (32, 0))
    assert env_spec_of(undrawn).frame_shape == (3, 0, 0)
    assert (env_spec_of(drawn).is_drawn, env_spec_of(undrawn).is_drawn) == (True, False)
    infos = []
    for env in (drawn, undrawn):
        obs, info = env.reset(seed=3)
        assert obs.shape == env.observation_space.shape == env_spec_of(env).obs_shape
        found = [(0.0, False, False, info)]
        env.action_space.seed(0)
        for _ in range(3):
            obs, reward, terminated, truncated, info = env.step(env.action_space.sample())
            assert obs.shape == env_spec_of(env).obs_shape and obs.dtype == np.uint8
            found.append((float(reward), terminated, truncated, info))
        infos.append(found)
    for one, other in zip(*infos, strict=True):
        assert one[:3] == other[:3]
        for name in ("physics", "proprio"):
            np.testing.assert_array_equal(one[3][name], other[3][name])


def test_what_draws_no_picture_is_not_asked_for_one() -> None:
    env = make_env("gym/foreign/Unseen-v0", size=0, imports=FOREIGN)
    assert env.get_wrapper_attr("_env").render_mode is None
    assert env.reset(seed=0)[1]["proprio"].shape == (1,)


def test_workers_draw_nothing_either() -> None:
    with make_pool("dmc/point_mass-easy", count=2, seed=0, size=0) as pool:
        obs, _ = pool.reset({0: 1, 1: 2})[1]
        assert (obs.pixels.shape, obs.frame.shape) == ((9, 0, 0), (3, 0, 0))
        assert obs.proprio.shape == (pool.env_spec.proprio_dim,) == (4,)


def test_no_opengl_is_needed() -> None:
    """With a value of MUJOCO_GL under which nothing draws, on whichever machine."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_OPENGL],
        cwd=ROOT,
        env=os.environ | {"MUJOCO_GL": "disable"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.stdout == "done\n", done.stderr
